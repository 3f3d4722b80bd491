"""Run a program in a child process with limits on time and memory: does it end well, what it says.

Limits are no sandbox: a program runs with the user's rights, in an empty temporary folder, with
the usual ways to end processes, delete files and open connections taken away, which stops
accidents and not malice. Where the kernel lets us, it also gets a network of its own, with nothing
in it. Run programs of unknown origin in a container.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suffice.core.errors import InputError

# Forks per program, so that a run costs milliseconds and not an interpreter's start.
_SERVER = r"""
import ctypes, os, resource, signal, socket, struct, sys, time, traceback
limit_s, memory_bytes, most = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
asked, told = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
nothing = os.open(os.devnull, os.O_RDWR)
for stream in (0, 1, 2):
    os.dup2(nothing, stream)

def run(text):
    os.setsid()
    try:  # CLONE_NEWUSER | CLONE_NEWNET: a network with nothing in it
        ctypes.CDLL(None, use_errno=True).unshare(0x10000000 | 0x40000000)
    except (OSError, AttributeError):
        pass
    said = os.open("said", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s) + 1, int(limit_s) + 1))
    import builtins, shutil, subprocess
    for module, names in (
        (os, "kill killpg system fork forkpty remove unlink rmdir removedirs rename renames "
             "replace truncate chmod chown chroot setuid putenv execv execve posix_spawn popen"),
        (shutil, "rmtree move chown"),
        (subprocess, "Popen"),
        (socket, "socket create_connection"),
        (builtins, "exit quit input breakpoint"),
    ):
        for name in names.split():
            setattr(module, name, None)
    exec(compile(text, "<program>", "exec"), {"__name__": "__main__"})

while True:
    head = asked.read(4)
    if len(head) < 4:
        break
    text = asked.read(struct.unpack("<I", head)[0]).decode("utf-8", "replace")
    try:
        os.unlink("said")
    except OSError:
        pass
    child, leave, kill = os.fork(), os._exit, os.killpg
    if child == 0:
        status = 0
        try:
            run(text)
        except BaseException:  # a model's program may raise anything; the status tells of it
            status = 1
            try:
                traceback.print_exc(limit=-2)
            except BaseException:
                pass
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            pass
        leave(status)
    ends, status, late = time.monotonic() + limit_s, None, False
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.001)
    else:
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        status = 1
        late = True
    try:
        with open("said", "rb") as said:
            output = said.read(most)
    except OSError:
        output = b""
    told.write(struct.pack("<BBI", status == 0, late, len(output)) + output)
    told.flush()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramRun:
    """How a program ended, and the first of what it printed."""

    passed: bool  # by itself, in time and without an exception
    late: bool = False  # it was ended at its time limit
    output: str = ""


# What is kept of a program's output.
MOST_OUTPUT = 64_000


class Runner:
    """Runs programs one after the other; use as a context manager."""

    def __init__(self, *, limit_s: float = 3.0, memory_bytes: int = 1 << 30) -> None:
        if not limit_s > 0:
            raise InputError(f"the time limit must be positive, got {limit_s}")
        self._words = [sys.executable, "-I", "-c", _SERVER, str(limit_s), str(memory_bytes),
                       str(MOST_OUTPUT)]  # fmt: skip
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def passes(self, program: str) -> bool:
        """Whether a program ends by itself, in time and without an exception."""
        return self.run(program).passed

    def run(self, program: str) -> ProgramRun:
        """How a program ends, and what it prints."""
        data = program.encode("utf-8", "replace")
        process = self._server()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(struct.pack("<I", len(data)) + data)
            process.stdin.flush()
            head = process.stdout.read(6)
            if len(head) == 6:
                passed, late, size = struct.unpack("<BBI", head)
                output = process.stdout.read(size).decode("utf-8", "replace")
                return ProgramRun(passed=bool(passed), late=bool(late), output=output)
        except (BrokenPipeError, ConnectionResetError):
            pass
        self.close()  # the program brought the server down
        return ProgramRun(passed=False)

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._process, self._folder = None, None

    def _server(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._folder = tempfile.TemporaryDirectory(prefix="suffice-run-")
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._folder.name,
                env={},
            )
        return self._process


def humaneval_program(problem: Mapping[str, Any], completion: str) -> str:
    """The program that tests a completion of a HumanEval problem."""
    return f"{problem['prompt']}{completion}\n{problem['test']}\ncheck({problem['entry_point']})\n"
