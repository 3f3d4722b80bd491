"""Do what the Dockerfile says, without Docker: build, install, run, ask, end.

    python scripts/check_dockerfile.py [--python python3.12] [--keep FOLDER]

Every stage is a folder; the image's paths (/src, /dist, /opt/suffice, /var/lib/suffice,
/etc/suffice) are written into it. Run as root, the gateway runs as the image's user; else as
whoever runs this. Then the health check is made, a wrong configuration refused, and SIGTERM has
to end the process within its grace.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Paths of the image that steps write to; all others are the machine's own.
PATHS = ("/src", "/dist", "/opt/suffice", "/var/lib/suffice", "/etc/suffice")
KNOWN = {
    "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK",
    "ENTRYPOINT", "CMD",
}  # fmt: skip
PATIENCE_S = 60.0


@dataclass(kw_only=True)
class Step:
    """One instruction of a Dockerfile."""

    name: str
    text: str
    line: int


@dataclass(kw_only=True)
class Stage:
    """A stage of the build, and the folder that stands for its file system."""

    name: str
    folder: Path
    workdir: str = "/"
    user: str = "0"
    env: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """A text with the image's paths where they are in this stage's folder."""
        for path in PATHS:
            text = re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w-])", f"{self.folder}{path}", text)
        return text


def steps_of(text: str) -> list[Step]:
    """The instructions, continued lines joined. Raises ValueError on an unknown one."""
    steps: list[Step] = []
    lines = iter(enumerate(text.splitlines(), 1))
    for number, first in lines:
        line = first.strip()
        if not line or line.startswith("#"):
            continue
        while line.endswith("\\"):
            line = line[:-1].rstrip() + " " + next(lines)[1].strip()
        name, _, rest = line.partition(" ")
        if name.upper() not in KNOWN:
            raise ValueError(f"Dockerfile:{number}: {name} is not known to this script")
        steps.append(Step(name=name.upper(), text=rest.strip(), line=number))
    return steps


def build(dockerfile: Path, context: Path, scratch: Path, python: str) -> Stage:
    """Carry out every step; the last stage."""
    stages: dict[str, Stage] = {}
    stage = Stage(name="none", folder=scratch)
    for step in steps_of(dockerfile.read_text(encoding="utf-8")):
        print(f"-- {step.name} {step.text[:100]}", flush=True)
        if step.name == "FROM":
            name = step.text.split(" AS ")[1] if " AS " in step.text else str(len(stages))
            stage = stages[name] = Stage(name=name, folder=scratch / name)
            _start(stage, step.text.split()[0], python)
        else:
            _carry_out(step, stage, stages, context)
    return stage


def usable_python() -> str:
    """An interpreter that the image's user may run too: this one, else the system's."""
    for path in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        folders_open = all(folder.stat().st_mode & 0o001 for folder in path.parents)
        if path.exists() and (folders_open or os.geteuid() != 0):
            return str(path)
    raise SystemExit("no interpreter here can be run by another user: name one with --python")


def _start(stage: Stage, image: str, python: str) -> None:
    version = re.search(r"python:(\d+\.\d+)", image)
    if version is None:
        raise ValueError(f"the base image {image} has no version of Python in its name")
    binaries = stage.folder / "bin"
    binaries.mkdir(parents=True)
    found = shutil.which(python)
    if found is None:
        raise ValueError(f"there is no {python} here")
    base = subprocess.run([found, "-c", "import sys; print(sys._base_executable)"],
                          capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    (binaries / "python").symlink_to(base)
    stage.env["PATH"] = f"{binaries}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def _carry_out(step: Step, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    text = step.text
    if step.name == "WORKDIR":
        stage.workdir = text
        Path(stage.here(text)).mkdir(parents=True, exist_ok=True)
    elif step.name == "COPY":
        _copy(text, stage, stages, context)
    elif step.name == "RUN":
        _run(text, stage)
    elif step.name == "ENV":
        for name, value in (each.split("=", 1) for each in shlex.split(text)):
            stage.env[name] = stage.here(value).replace("$PATH", stage.env.get("PATH", ""))
    elif step.name == "USER":
        stage.user = text.partition(":")[0]
    elif step.name == "HEALTHCHECK":
        stage.health = json.loads(text.partition("CMD ")[2])
    elif step.name in ("ENTRYPOINT", "CMD"):
        setattr(stage, "entrypoint" if step.name == "ENTRYPOINT" else "command", json.loads(text))


def _copy(text: str, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    words = text.split()
    source = context
    if words[0].startswith("--from="):
        other = stages[words.pop(0).removeprefix("--from=")]
        words[:-1] = [other.here(word) for word in words[:-1]]
        source = Path("/")
    *names, target = words
    at = Path(stage.here(target if target.startswith("/") else f"{stage.workdir}/{target}"))
    for name in names:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, at, dirs_exist_ok=True,
                            ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        else:
            into = at / path.name if target.endswith("/") or len(names) > 1 else at
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, into)


def _run(text: str, stage: Stage) -> None:
    for command in re.split(r"\s&&\s", text):
        if command.startswith("useradd"):
            _make_user(command, stage)
            continue
        # The machine's own settings of its package index go on; nothing else does.
        env = {k: v for k, v in os.environ.items() if k.startswith("PIP_") or "PROXY" in k.upper()}
        subprocess.run(
            ["sh", "-c", stage.here(command)], check=True, cwd=stage.here(stage.workdir),
            env={**env, **stage.env, "HOME": str(stage.folder)},
        )  # fmt: skip


def _make_user(command: str, stage: Stage) -> None:
    """What useradd would do to the file system; no user of the machine is made."""
    words = shlex.split(command)
    home = Path(stage.here(words[words.index("--home-dir") + 1]))
    home.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        uid = int(words[words.index("--uid") + 1])
        os.chown(home, uid, uid)


def try_it(stage: Stage) -> None:
    """Run the image's command as its user, make its health check, ask, and end it."""
    config = Path(stage.here("/etc/suffice/suffice.toml"))
    config.parent.mkdir(parents=True)
    port = 18080
    config.write_text(
        f'host = "127.0.0.1"\nport = {port}\n[[upstream]]\nurl = "http://127.0.0.1:9"\n'
    )
    for folder in (stage.folder, *stage.folder.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)  # others may pass through
    uid = int(stage.user)
    if uid == 0:
        raise SystemExit("the image runs as root")
    as_user = {"user": uid, "group": uid, "extra_groups": []} if os.geteuid() == 0 else {}
    command = [stage.here(word) for word in (*stage.entrypoint, *stage.command)]
    command[0] = shutil.which(command[0], path=stage.env["PATH"]) or command[0]
    env = dict(stage.env)
    checked = subprocess.run([command[0], "config", "check", str(config)], env=env, **as_user,
                             check=False, capture_output=True, text=True)  # fmt: skip
    assert checked.returncode == 0, checked.stderr
    running = subprocess.Popen(command, env=env, cwd=stage.here(stage.workdir), **as_user)
    try:
        _wait_for_health(stage, running, port)
        status = Path(f"/proc/{running.pid}/status").read_text()
        assert "Uid:\t0" not in status or os.geteuid() != 0, "it runs as root"
        found = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json"))
        assert "/v1/chat/completions" in found["paths"]
        ledger = Path(stage.env["SUFFICE_LEDGER"])
        assert ledger.stat().st_mode & 0o777 == 0o600, oct(ledger.stat().st_mode)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    finally:
        if running.poll() is None:
            running.kill()
            running.wait()


def _wait_for_health(stage: Stage, running: subprocess.Popen[bytes], port: int) -> None:
    check = [word.replace(":8080", f":{port}") for word in stage.health]
    until = time.monotonic() + PATIENCE_S
    while True:
        assert running.poll() is None, "the gateway ended at once"
        done = subprocess.run(check, env=stage.env, check=False, capture_output=True, text=True)
        if done.returncode == 0:
            return
        assert time.monotonic() < until, f"not healthy: {done.stderr[-300:]}"
        time.sleep(0.3)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", help="interpreter that stands for the base image's")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, left as it is")
    given = parser.parse_args()
    scratch = given.keep or Path(tempfile.mkdtemp(prefix="suffice-image-"))
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        python = given.python or usable_python()
        stage = build(ROOT / "Dockerfile", ROOT, scratch.resolve(), python)
        try_it(stage)
    finally:
        if given.keep is None:
            shutil.rmtree(scratch, ignore_errors=True)
    print("the Dockerfile's steps give a gateway that runs, is healthy and ends")


if __name__ == "__main__":
    main()
