"""What a stranger deploys with: valid by schema, consistent with the program, installable."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import pytest
from scripts.check_dockerfile import steps_of

from suffice.cli.doctor import EXTRAS, PURPOSE
from suffice.core.errors import MissingExtra
from suffice.core.extras import install_command
from suffice.gateway.app import create_app
from suffice.gateway.config import GatewayConfig, UpstreamConfig
from suffice.gateway.config_check import checked_config
from suffice.gateway.observe.counters import Counters, merged
from suffice.gateway.observe.prometheus import exposition
from suffice.gateway.server import END_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = [DEPLOY / "compose.yaml", DEPLOY / "vllm-data-parallel.compose.yaml"]
VERSIONS = ("1.29", "1.33")


def documents(path: Path) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def objects() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from (each for each in documents(path) if "kind" in each)


def of_kind(kind: str, name: str = "suffice") -> dict[str, Any]:
    return next(
        each for each in objects() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )


def listed_extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, list[str]] = project["optional-dependencies"]
    return found


# --- schemas


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_what_kubernetes_takes(version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    kinds = set()
    for each in objects():
        if "kustomize" in each["apiVersion"]:
            continue
        kinds.add(each["kind"])
        validate.validate(each, version, strict=True)
    assert kinds >= {
        "Deployment", "Service", "ConfigMap", "Secret", "HorizontalPodAutoscaler",
        "PersistentVolumeClaim", "StatefulSet", "PodDisruptionBudget", "Namespace",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_compose_files_are_what_docker_takes(path: Path) -> None:
    schemas = pytest.importorskip("check_jsonschema.builtin_schemas")
    jsonschema = pytest.importorskip("jsonschema")
    schema = schemas.get_builtin_schema("vendor.compose-spec")
    (found,) = documents(path)
    jsonschema.Draft7Validator(schema).validate(json.loads(json.dumps(found)))
    assert (path.parent / found["services"]["gateway"]["build"] / "Dockerfile").resolve() == (
        ROOT / "Dockerfile"
    )
    for service in found["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./admin-key":  # made by whoever deploys
                assert (path.parent / source).is_file(), source


def test_every_resource_that_is_named_is_there() -> None:
    kustomization = next(each for each in objects() if each["kind"] == "Kustomization")
    for name in kustomization["resources"]:
        assert (DEPLOY / "kubernetes" / name).is_file()
    in_list = {*kustomization["resources"], "kustomization.yaml", "adapter-rules.yaml"}
    assert {path.name for path in MANIFESTS} == in_list
    names = {(each["kind"], each["metadata"]["name"]) for each in objects() if "metadata" in each}
    text = json.dumps([*objects()])
    for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMap")):
        for found in re.findall(rf'"{key}": \{{"name": "([^"]+)"', text):
            assert (kind, found) in names


# --- consistent with the program


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("*.toml")), ids=lambda path: path.name)
def test_settings_are_without_mistakes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUFFICE_LEDGER_URL", "postgresql://suffice:x@postgres/suffice")
    assert checked_config(path).upstreams


def test_settings_of_the_config_map_are_without_mistakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUFFICE_LEDGER_URL", "postgresql://suffice:x@postgres/suffice")
    path = tmp_path / "suffice.toml"
    path.write_text(of_kind("ConfigMap")["data"]["suffice.toml"])
    config = checked_config(path)
    assert (config.host, config.port, config.keys.required) == ("0.0.0.0", 8080, True)
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    (gateway,) = pod["containers"]
    pause_s = int(gateway["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause_s + config.traffic.drain_s + END_S
    assert gateway["ports"][0]["containerPort"] == config.port


def test_probes_ask_for_what_is_served() -> None:
    (gateway,) = of_kind("Deployment")["spec"]["template"]["spec"]["containers"]
    app = create_app(GatewayConfig(upstreams=(UpstreamConfig(url="http://a"),)))
    served = {getattr(route, "path", None) for route in app.routes}
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert gateway[name]["httpGet"]["path"] in served
    # One that fails while an engine is away would start the gateway again and again.
    assert gateway["livenessProbe"]["httpGet"]["path"] == "/live"


def test_the_autoscaler_and_alerts_go_by_metrics_that_exist() -> None:
    plain = ("running", "waiting", "lambda", "ledger_up", "ledger_dropped_requests")
    gauges: dict[Any, float] = dict.fromkeys(plain, 1.0)
    for name, label in (("upstream_up", "upstream"), ("certificate_switched_off", "certificate")):
        gauges[name, label, "x"] = 1.0
    text = exposition(merged([Counters().shown()]), gauges).decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    wanted = {
        metric["pods"]["metric"]["name"]
        for metric in of_kind("HorizontalPodAutoscaler")["spec"]["metrics"]
    }
    assert wanted <= known
    alerts = (DEPLOY / "alerts.yaml").read_text() + (ROOT / "docs/run-it-for-real.md").read_text()
    for name in set(re.findall(r"\bsuffice_[a-z_]+", alerts)):
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert {name, base, f"{base}_total"} & {*known, *(f"{each}_total" for each in known)}, name


def test_nothing_runs_as_root_or_may_become_it() -> None:
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    users = [
        step.text for step in steps_of((ROOT / "Dockerfile").read_text()) if step.name == "USER"
    ]
    assert users == [
        f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    ]


def test_the_image_is_built_from_what_is_listed() -> None:
    """The .dockerignore lets through what the Dockerfile copies, and that is there."""
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    copied = {
        word
        for step in steps_of((ROOT / "Dockerfile").read_text())
        if step.name == "COPY" and "--from" not in step.text
        for word in step.text.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    installed = re.search(r"suffice-\*\.whl\)\[([a-z,]+)\]", (ROOT / "Dockerfile").read_text())
    assert installed is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(installed[1].split(",")) <= set(extras)


def test_the_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    text = (DEPLOY / "suffice.service").read_text()
    grace_s = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert grace_s is not None
    assert int(grace_s[1]) >= 30 + END_S
    unit = tmp_path / "suffice.service"
    unit.write_text(text.replace("/opt/suffice/bin/suffice", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if "suffice.service" in line]
    assert complaints == []


# --- installable


COMMAND = re.compile(r"\b(?:pip|pipx|uv)3?\s+(?:pip\s+)?(?:install|run|tool)[^\n|;&]*")
OURS = re.compile(r"(?<![\w./*-])['\"]?suffice(?:\[[^\]]*\])?['\"]?(?=\s|$|`|,|\))")


def texts() -> Iterator[tuple[Path, str]]:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True,
                             check=False).stdout.split("\n")  # fmt: skip
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".service", ""} and path.is_file():
            yield path, path.read_text(encoding="utf-8", errors="replace")


def test_no_command_names_a_package_that_is_not_there() -> None:
    """suffice is on no index: it is installed from its folder, or from a wheel."""
    wrong = [
        f"{path.relative_to(ROOT)}: {command[0]}"
        for path, text in texts()
        for command in COMMAND.finditer(text)
        if path != Path(__file__) and OURS.search(command[0])
    ]
    assert wrong == []
    assert OURS.search("pip install 'suffice[serve]'")
    assert OURS.search("pip install suffice")
    assert not OURS.search("pip install './suffice[serve]'")


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_installs_an_extra_is_on_the_index(extra: str) -> None:
    """The command names the requirements themselves, as pyproject.toml has them."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    if extra not in (metadata("suffice").get_all("Provides-Extra") or ()):
        pytest.skip("suffice was installed here before this extra was listed")
    command = install_command(extra)
    for requirement in listed[extra]:
        name = re.split(r"[\[<>=;~ ]", requirement)[0]
        assert name == "suffice" or name in command
    assert not OURS.search(command)
    assert install_command(extra) in str(MissingExtra.of("x", extra, "something"))


def test_the_doctor_knows_every_extra() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(EXTRAS) == set(PURPOSE) == set(listed) - {"dev", "vllm-cpu"}
    assert install_command("no-such", fallback="thing") == "pip install thing"


# --- the Dockerfile's own reader


def test_steps_are_read_as_docker_reads_them() -> None:
    text = '# c\nFROM x AS a\nRUN one && \\\n    two\n\nCMD ["a"]\n'
    assert [(step.name, step.text, step.line) for step in steps_of(text)] == [
        ("FROM", "x AS a", 2), ("RUN", "one && two", 3), ("CMD", '["a"]', 6),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Dockerfile:1: SHELL"):
        steps_of("SHELL []")


def test_every_environment_that_make_builds_is_locked() -> None:
    """What pyproject.toml asks for has its version in constraints.txt; `make lock` writes them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    locked = {
        normalised(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    built = set(re.findall(r"--extra (\w+)", (ROOT / "Makefile").read_text()))
    assert built == {"dev", "otel", "torch", "train"}
    waiting, wanted = [*project["dependencies"]], set()
    waiting += [each for extra in built for each in extras[extra]]
    while waiting:
        requirement = waiting.pop()
        name, inner = re.match(r"([\w.-]+)(?:\[([^\]]*)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == "suffice":
            waiting += [each for extra in inner.split(",") for each in extras[extra.strip()]]
        else:
            wanted.add(normalised(name))
    assert wanted - locked == set()


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
