"""Tools that ship: calculator, bounded Python, document search; functions as tools."""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path

import pytest

from suffice.core.errors import InputError
from suffice.core.requests import Message, Request, Tool
from suffice.tools.functions import FunctionTools, tool_hints
from suffice.tools.json_schema import problems
from suffice.tools.protocol import ToolResult
from suffice.tools.servers import calculator, python, search
from suffice.tools.toolbox import Toolbox


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", "14"), ("(2 + 3) * 4", "20"), ("7 / 2", "3.5"), ("6 / 3", "2"),
        ("0.1 + 0.2", "0.3"), ("2 ** 10", "1024"), ("2^10", "1024"), ("2 ** -2", "0.25"),
        ("1,234 + 1", "1235"), ("sqrt(16)", "4"), ("sqrt(2)", repr(math.sqrt(2))),
        ("max(1, 2, 3)", "3"), ("round(3.14159, 2)", "3.14"), ("7 // 2 % 2", "1"),
        ("1/3 + 1/6", "0.5"), ("factorial(20)", str(math.factorial(20))), ("-(3)", "-3"),
    ],
)  # fmt: skip
def test_the_calculator(expression: str, value: str) -> None:
    assert calculator.evaluate(expression) == value


def test_the_calculator_agrees_with_python() -> None:
    rng = random.Random(0)
    for _ in range(300):
        terms = [str(rng.randrange(1, 99)) for _ in range(rng.randrange(2, 6))]
        text = terms[0] + "".join(f" {rng.choice('+-*/')} {term}" for term in terms[1:])
        assert float(calculator.evaluate(text)) == pytest.approx(eval(text))


@pytest.mark.parametrize(
    "expression",
    [
        "1/0", "", "x + 1", "__import__('os')", "9 ** 9 ** 9", "factorial(10**9)", "(1).real",
        "1 if 1 else 2", "[1]", "'a' * 3", "2 ** 1e9", "(-1) ** 0.5", "sqrt(-1)", "1 +", "f(1)",
        "(" * 500, "1" * 2000, "9" * 900 + " ** 2", "max()", "lambda: 1",
    ],
)  # fmt: skip
def test_the_calculator_refuses(expression: str) -> None:
    with pytest.raises(InputError):
        calculator.evaluate(expression)


def test_programs_are_bounded() -> None:
    server = python.server(limit_s=2.0)

    async def main() -> list[object]:
        found: list[object] = []
        for code in (
            "print(sum(range(10)))",
            "import os; print(os.getcwd())\nopen('left', 'w').write('x')",
            "1/0",
            "while True: pass",
            "print('x' * 10**7)",
            "a = bytearray(2 * 10**9)",
            "import _socket; s = _socket.socket(); s.connect(('127.0.0.1', 9))",
            "import os\nfor _ in range(99): os.kill(os.getppid(), 9)",
            "print('still here')",
        ):
            try:
                found.append((await server.call("run_python", {"code": code})).text)
            except (RuntimeError, TimeoutError) as error:
                found.append(error)
        await server.aclose()
        return found

    said = asyncio.run(main())
    assert said[0] == "45\n"
    assert "ZeroDivisionError" in str(said[2])
    assert "longer than 2 s" in str(said[3])
    assert isinstance(said[4], str | RuntimeError) and len(str(said[4])) <= 20_100
    assert "MemoryError" in str(said[5])
    assert isinstance(said[6], RuntimeError)  # no network, or nobody listens
    assert said[8] == "still here\n"


def test_search_finds_passages_and_no_query_is_an_instruction(tmp_path: Path) -> None:
    (tmp_path / "cats.md").write_text("Cats purr.\n\n" + "Cats sleep. " * 90 + "\n\nLions roar.")
    (tmp_path / "more.jsonl").write_text(json.dumps({"title": "dogs", "text": "Dogs bark."}))
    documents = search.Documents.read([tmp_path])
    assert documents.search("who barks?")[0] == ("dogs", "Dogs bark.")
    assert documents.search("roaring lions")[0][1] == "Lions roar."
    for odd in ('"', "NEAR(a b)", "title:*", "a AND", "'; DROP TABLE passages", "*", "^x", "-"):
        documents.search(odd)
    assert len(documents.search("cats", count=99)) == 3  # one by its title alone
    with pytest.raises(InputError, match="line 1: write"):
        (tmp_path / "bad.jsonl").write_text("{}")
        search.Documents.read([tmp_path])
    tools = search.server(documents)
    assert asyncio.run(tools.call("search", {"query": "zebra"})).text == "nothing was found"
    documents.close()


@tool_hints(read_only=True)
def area(width: float, height: float = 1.0, unit: str = "m") -> str:
    """Area of a rectangle.

    More that models need not read.
    """
    return f"{width * height:g} {unit}2"


async def later(items: list[int]) -> dict[str, int]:
    """Sum, later."""
    await asyncio.sleep(0)
    return {"sum": sum(items)}


def test_functions_with_type_hints_are_tools() -> None:
    tools = FunctionTools([area, later])
    first, second = tools.tools
    assert (first.name, first.description) == ("area", "Area of a rectangle.")
    assert first.hints is not None and first.hints.read_only and second.hints is not None
    schema = json.loads(first.parameters_json or "")
    assert schema["required"] == ["width"]
    assert problems({"width": 1}, schema) == []
    assert problems({"widht": 1}, schema) != []

    async def main() -> list[ToolResult]:
        return [
            await tools.call("area", {"width": 2, "height": 3}),
            await tools.call("area", {"width": "wide"}),
            await tools.call("later", {"items": [1, 2]}),
        ]

    good, bad, other = asyncio.run(main())
    assert good.text == "6 m2"
    assert bad.is_error and "width" in bad.text
    assert other.text == '{"sum":3}'


def test_functions_that_are_no_tools() -> None:
    with pytest.raises(InputError, match="parameter x has no type hint"):
        FunctionTools([lambda x: x])

    def positional(x: int, /) -> int:
        return x

    with pytest.raises(InputError, match="has no name to give it by"):
        FunctionTools([positional])
    with pytest.raises(InputError, match="two functions are named area"):
        FunctionTools([area, area])


def test_a_toolbox_names_what_clashes() -> None:
    with pytest.raises(InputError, match="two servers have a tool 'area': one and two"):
        Toolbox([FunctionTools([area], name="one"), FunctionTools([area], name="two")])
    own = Request(
        messages=(Message(role="user", content="?"),), model="m", tools=(Tool(name="area"),)
    )
    with pytest.raises(InputError, match="the request brings a tool 'area', and so does one"):
        Toolbox([FunctionTools([area], name="one")]).equip(own)
