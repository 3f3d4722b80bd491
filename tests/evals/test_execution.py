"""Programs run with limits: what ends well passes, and nothing takes the runner down."""

from __future__ import annotations

import pytest

from suffice.core.errors import InputError
from suffice.tools.code_sandbox import Runner, humaneval_program


@pytest.fixture(scope="module")
def runner():
    with Runner(limit_s=1.0, memory_bytes=1 << 28) as made:
        yield made


@pytest.mark.parametrize(
    ("program", "passes"),
    [
        ("assert 1 + 1 == 2", True),
        ("assert 1 + 1 == 3", False),
        ("def broken(:", False),
        ("raise SystemExit(0)", False),  # ending early is no pass: tests may not have run
        ("import sys; sys.exit()", False),
        ("x = 'a' * (1 << 29)", False),  # too much memory
        ("import os; os.kill(os.getppid(), 9)", False),
        ("import socket; socket.socket()", False),
        ("import subprocess; subprocess.Popen(['true'])", False),
        ("print('x' * 100000)", True),
        ("def f(): f()\nf()", False),
        ("assert '\\ud800'", True),
    ],
)
def test_what_passes(runner, program, passes):
    assert runner.passes(program) is passes
    assert runner.passes("pass")


def test_endless_programs_are_stopped(runner):
    assert not runner.passes("while True: pass")
    assert not runner.passes(
        "import signal, time\nsignal.pthread_sigmask(0, range(1, 32))\ntime.sleep(9)"
    )
    assert runner.passes("pass")


def test_a_problem_and_its_tests_make_a_program(runner):
    problem = {
        "prompt": "def double(x):\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n",
        "entry_point": "double",
    }
    assert runner.passes(humaneval_program(problem, "    return 2 * x\n"))
    assert not runner.passes(humaneval_program(problem, "    return x\n"))


def test_the_limit_must_be_positive():
    with pytest.raises(InputError):
        Runner(limit_s=0.0)
