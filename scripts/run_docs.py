"""Run every ```console and ```python block of the given Markdown files; any failure fails.

A `console` block holds lines that start with `$ `; what follows them is shown output and is not
compared. A block whose info string says `no-run` (servers, GPUs, other machines) is left alone.
All blocks of one file run in order in one temporary folder, so that later ones can use the files
of earlier ones.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path) -> list[tuple[int, str, str]]:
    """(line, language, text) of the runnable blocks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, info, body = match.groups()
        if language in {"console", "python"} and "no-run" not in info:
            found.append((text.count("\n", 0, match.start()) + 1, language, body))
    return found


def commands(body: str) -> list[str]:
    """The `$ ` lines of a console block, continuation lines joined."""
    joined = body.replace("\\\n", " ")
    return [line[2:].strip() for line in joined.splitlines() if line.startswith("$ ")]


def run(argv: list[str], folder: Path) -> None:
    """Run one command with this environment's `suffice` and `python` first on the path."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["MPLBACKEND"] = "Agg"
    environment["COLUMNS"] = "120"
    subprocess.run(argv, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def main(arguments: list[str]) -> int:
    """Exit code 0 when every block ran."""
    files = [
        file
        for name in arguments
        for file in (sorted(Path(name).rglob("*.md")) if Path(name).is_dir() else [Path(name)])
    ]
    failures = 0
    for file in files:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for shown in ("examples", "results", "docs"):
                if (ROOT / shown).exists():
                    (folder / shown).symlink_to(ROOT / shown)
            if "data/traces" in file.read_text(encoding="utf-8"):
                (folder / "data").mkdir()
                (folder / "data" / "traces").symlink_to(ROOT / "data" / "traces")
            for line, language, body in blocks(file):
                if language == "python":
                    todo = [[sys.executable, "-c", body]]
                else:
                    todo = [["bash", "-c", command] for command in commands(body)]
                for argv in todo:
                    started = time.monotonic()
                    try:
                        run(argv, folder)
                    except subprocess.CalledProcessError as error:
                        failures += 1
                        print(f"FAILED {file}:{line} (exit {error.returncode}): {argv[-1]}")
                    else:
                        shown = shlex.join(argv[-1:]) if language == "console" else "python block"
                        print(f"ok {file}:{line} {time.monotonic() - started:.1f} s {shown[:90]}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
