"""Plans in three notations: what is read, what is refused, and that nothing is executed."""

from __future__ import annotations

import contextlib
import json
from keyword import iskeyword

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suffice.core import serial
from suffice.policies.tool_plan.notations import NOTATIONS, parse_plan
from suffice.policies.tool_plan.plan import (
    Constant,
    Plan,
    PlanError,
    Ref,
    Step,
    Text,
    arguments_of,
    check_plan,
)
from tests.tools.scripted import TOOLS, tool

FREE = tool("free", json.dumps({"type": "object"}))
NESTED = tool(
    "nested",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "items": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "how": {"enum": ["up", "down"]},
                "deep": {"$ref": "#/$defs/deep"},
            },
            "$defs": {"deep": {"type": "object", "properties": {"n": {"type": "integer"}}}},
        }
    ),
)
ALL = (*TOOLS, FREE, NESTED)


def read(text: str, notation: str) -> Plan:
    plan = parse_plan(text, notation, ALL)  # type: ignore[arg-type]
    assert serial.loads(serial.dumps(plan)) == plan
    return plan


# Examples of the papers' own prompts and of the repositories' own plans, the tools renamed.
REWOO = """Plan: Search for more information about Antonia Bird.
#E1 = search[Antonia Bird]
Plan: Find out the director of it.
#E2 = look_up[Who directed it, given #E1]
Plan: Compare. #E3 = free[{"first": "#E1", "second": [#E2, 3]}]
"""
COMPILER = """Thought: two searches
1. search("Mariana Trench depth")
2. search(query='Puerto Rico Trench "depth"')
3. add($1, ${2})
Thought: the last
4. look_up("is $3 more than $1? it costs $$5")
5. join()<END_OF_PLAN>
6. search("never read")
"""
PYTHON = """
```python
a = search("x")
b = search(query=f"author of {a['name']}")
c = free(items=[a, 1, None], flag=True, more={"k": b})
answer(f"{c}!")
```
"""


def test_rewoo() -> None:
    first, second, third = read(REWOO, "rewoo").steps
    assert first == Step(
        id="1", tool="search", arguments=(("query", Constant('"Antonia Bird"')),),
        thought="Search for more information about Antonia Bird.",
    )  # fmt: skip
    assert second.arguments[0][1] == Text(("Who directed it, given ", Ref("1")))
    assert third.cites == ("1", "2")
    assert json.loads(arguments_of(third, {"1": "a", "2": "b"}, FREE)) == {
        "first": "a", "second": ["b", 3],
    }  # fmt: skip


def test_rewoo_goes_beyond_nine_steps() -> None:
    text = "\n".join(
        f"#E{n} = search[#E{n - 1}]" if n > 1 else "#E1 = search[a]" for n in range(1, 15)
    )
    plan = read(text, "rewoo")
    assert [step.cites for step in plan.steps][9:12] == [("9",), ("10",), ("11",)]
    assert len(plan.waves()) == 14


def test_numbered() -> None:
    one, two, three, four = read(COMPILER, "numbered").steps
    assert (one.thought, four.thought) == ("two searches", "the last")
    assert two.arguments == (("query", Constant('"Puerto Rico Trench \\"depth\\""')),)
    assert three.arguments == (("a", Ref("1")), ("b", Ref("2")))
    assert json.loads(arguments_of(three, {"1": "7", "2": "2.5"}, TOOLS[2])) == {"a": 7, "b": 2.5}
    said = json.loads(arguments_of(four, {"3": "x", "1": "y"}, TOOLS[1]))
    assert said == {"query": "is x more than y? it costs $5"}


def test_python() -> None:
    plan = read(PYTHON, "python")
    assert [step.id for step in plan.steps] == ["a", "b", "c"]
    assert plan.steps[1].arguments[0][1] == Text(("author of ", Ref("a", ("name",))))
    assert plan.answer == Text((Ref("c"), "!"))
    results = {"a": '{"name": "J"}', "b": "B"}
    assert json.loads(arguments_of(plan.steps[1], results, TOOLS[0])) == {"query": "author of J"}
    assert json.loads(arguments_of(plan.steps[2], results, FREE)) == {
        "items": ['{"name": "J"}', 1, None], "flag": True, "more": {"k": "B"},
    }  # fmt: skip


def test_calls_within_calls_are_steps_of_their_own() -> None:
    plan = read('look_up(search(query="x"))', "python")
    assert [step.tool for step in plan.steps] == ["search", "look_up"]
    assert plan.steps[1].cites == (plan.steps[0].id,)


@pytest.mark.parametrize(
    "program",
    [
        "import os", "x = 1 + 2\nsearch(x)", "[search(q) for q in 'ab']", "x = search('a').upper()",
        "for q in 'ab':\n  search(q)", "def f(): pass", "search(*x)", "search(**x)",
        "search(lambda: 1)",
        "x = search('a') if 1 else 2", "exec('1')()", "search(f'{x:>9}')", "(x := search('a'))",
        "x.y = search('a')", "x, y = search('a')", "search(b'a')", "search(1j)", "search(1e999)",
        "while True: pass", "search(x[y])", "search({1: 2})", "await search('a')", "x = (",
        "search(" * 3000, "search('a', " + "[" * 90 + "]" * 90 + ")",
    ],
)  # fmt: skip
def test_a_program_is_never_more_than_calls(program: str) -> None:
    with pytest.raises(PlanError):
        check_plan(parse_plan(program, "python", ALL), ALL)


def test_nothing_is_executed(tmp_path) -> None:
    mark = tmp_path / "mark"
    for text in (f"open({str(mark)!r}, 'w')", f"x = __import__('os').mkdir({str(mark)!r})"):
        with pytest.raises(PlanError):
            check_plan(parse_plan(text, "python", ALL), ALL)
    with pytest.raises(PlanError):
        parse_plan(f"1. search(open({str(mark)!r}, 'w'))", "numbered", ALL)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ('1. serch("a")', "step 1: there is no tool 'serch'"),
        ("1. search()", "step 1: search: query is missing"),
        ("1. search(7)", "step 1: search: query must be string, got 7"),
        ('1. search(query="a", page=2)', "page is no parameter (it has query)"),
        ('1. search("a")\n1. search("b")', "step 1 is defined twice"),
        ("1. search($2)", "step 1 cites 2, which is no step"),
        ("1. search($2)\n2. search($1)", "steps wait for each other: 1 → 2 → 1"),
        ("1. search($1)", "steps wait for each other: 1 → 1"),
        ("1. add(1, true)", "b must be number, got true"),
        ("1. nested(items=[])", "items: its length must be at least 1, got 0"),
        ("1. nested(items=[3])", "items[0] must be string, got 3"),
        ('1. nested(how="left")', 'how must be one of "up", "down", got "left"'),
        ('1. nested(deep={"n": "x"})', 'deep.n must be integer, got "x"'),
        ("\n".join(f"{n}. search('a')" for n in range(200)), "has 200 steps, at most 64"),
    ],
)
def test_a_plan_is_checked_whole(steps: str, said: str) -> None:
    with pytest.raises(PlanError) as caught:
        check_plan(read(steps, "numbered"), ALL)
    assert said in str(caught.value)


def test_too_many_arguments() -> None:
    with pytest.raises(PlanError, match="search takes 1 arguments, got 2"):
        read('1. search("a", "b")', "numbered")


def test_a_line_that_cannot_be_read_is_named() -> None:
    with pytest.raises(PlanError, match=r"cannot read '1\. search"):
        read('1. search("a"', "numbered")
    with pytest.raises(PlanError, match=r"cannot read '#E1 = search"):
        read("#E1 = search(a)", "rewoo")


def test_waves() -> None:
    plan = read('1. search("a")\n2. search("b")\n3. add($1, $2)\n4. search("c")', "numbered")
    assert plan.waves() == (("1", "2", "4"), ("3",))


def test_a_missing_part_of_a_result() -> None:
    step = read("a = search('x')\nlook_up(a['no'])", "python").steps[1]
    with pytest.raises(PlanError, match=r"the result has no \['no'\]"):
        arguments_of(step, {"a": "{}"}, TOOLS[1])


def test_long_and_hostile_texts_end() -> None:
    for text in ("1. f(" + ")" * 7_999, "#E1 = f[" + "]" * 7_000, "1. f(" + "<" * 7_000,
                 "1. a(" + "(" * 3_000 + ")" * 3_000, "x" * 60_000):  # fmt: skip
        for notation in NOTATIONS:
            with contextlib.suppress(PlanError):
                parse_plan(text, notation, ALL)


texts = st.text(max_size=30)


@given(st.lists(texts, max_size=8).map("\n".join), st.sampled_from(NOTATIONS))
@settings(max_examples=150, deadline=None)
def test_any_text_is_a_plan_or_a_plan_error(text: str, notation: str) -> None:
    with contextlib.suppress(PlanError):
        check_plan(parse_plan(text, notation, ALL), ALL)  # type: ignore[arg-type]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


names = st.from_regex(r"[a-z]{1,5}", fullmatch=True).filter(lambda name: not iskeyword(name))


@given(st.dictionaries(names, json_values, max_size=3))
@settings(max_examples=80, deadline=None)
def test_constants_arrive_as_they_were_written(arguments) -> None:
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    found = read(f"free({inside})", "python").steps[0]
    assert json.loads(arguments_of(found, {}, FREE)) == arguments
    if not any("$" in json.dumps(value) for value in arguments.values()) and "\n" not in inside:
        found = read(f"1. free({inside})", "numbered").steps[0]
        assert json.loads(arguments_of(found, {}, FREE)) == arguments
