"""futures, program and abstraction from question to answer, over a scripted model and tools."""

from __future__ import annotations

import json

import pytest

from suffice.backends.fake import Script
from suffice.core.errors import InputError
from suffice.core.requests import ToolHints
from suffice.policies.registry import parse_policy
from suffice.tools.protocol import ToolResult
from suffice.tools.servers import python
from tests.tools.scripted import Recorded, ask, calls, echo, question, tool
from tests.tools.with_sandbox import ask_program


def call(*made) -> Script:
    return Script.of("", tool_calls=calls(*made))


# --- futures


def test_a_call_is_answered_by_a_name_and_a_call_that_cites_it_gets_the_result():
    said = [call(("search", {"query": "a"})), call(("look_up", {"query": "about $r1"})),
            Script.of("ready"), Script.of("done")]  # fmt: skip
    ran = ask(parse_policy("futures"), said)
    assert ran.server.asked == [
        ("search", {"query": "a"}),
        ("look_up", {"query": "about search of a"}),
    ]
    asked = [each.request.messages for each in ran.backend.traffic.calls]
    assert json.loads(asked[2][-1].text) == {"future": "$r2"}
    assert "search of a" not in "".join(turn.text for turn in asked[2])
    assert [turn.content for turn in asked[3] if turn.role == "tool"] == [
        "search of a",
        "look_up of about search of a",
    ]
    assert [bool(each.request.tools) for each in ran.backend.traffic.calls] == [True] * 3 + [False]
    assert (ran.text, ran.outcome.tool_records[1].cites) == ("done", ("1",))


def test_the_model_goes_on_while_calls_run():
    """Two calls asked for one after the other end as if they had been asked for at once."""
    slow = Recorded(echo, delay_s=lambda tool, arguments: 5.0)
    turns = [call(("search", {"query": "a"})), call(("search", {"query": "b"}))]
    late = [*turns, Script.of("ready"), Script.of("done")]
    assert ask(parse_policy("futures"), late, server=slow).elapsed_s == pytest.approx(5.0)
    in_turns = [*turns, Script.of("done")]
    assert ask(parse_policy("react"), in_turns, server=slow).elapsed_s == pytest.approx(10.0)


def test_without_a_call_the_first_sample_is_the_answer():
    ran = ask(parse_policy("futures"), ["it is 4"])
    assert (ran.text, len(ran.backend.traffic.calls)) == ("it is 4", 1)


def test_a_wrong_call_is_told_at_once_and_a_failed_one_at_the_end():
    def reply(name, arguments):
        return ToolResult(text="gone", is_error=True)

    said = [call(("search", {"query": "a"}), ("look_up", {"query": "$r7"}), ("none", {})),
            Script.of("ready"), Script.of("sorry")]  # fmt: skip
    ran = ask(parse_policy("futures"), said, server=Recorded(reply))
    told = [turn.text for turn in ran.backend.traffic.calls[1].request.messages[-2:]]
    assert told[0] == "Error (arguments): there is no result $r7"
    assert "there is no tool 'none'" in told[1]
    last = ran.backend.traffic.calls[-1].request.messages
    assert next(turn.text for turn in last if turn.role == "tool") == "Error (raised): gone"
    assert ran.tools_called == ["search"]


def test_the_clients_calls_go_back_with_results_filled_in():
    request = question(tools=(tool("mine", hints=None),))
    said = [call(("search", {"query": "a"}), ("mine", {"query": "see $r1"}))]
    ran = ask(parse_policy("futures"), said, request=request)
    (back,) = ran.outcome.completion.tool_calls
    assert (back.name, json.loads(back.arguments)) == ("mine", {"query": "see search of a"})
    assert len(ran.backend.traffic.calls) == 1


# --- abstraction


CHAIN = "She wrote it in [search(Ulysses) = y1].\n[look_up(author of y1) = y2]\nAnswer: y2, then y1"


def test_names_are_filled_in_without_a_second_sample():
    ran = ask(parse_policy("abstraction"), [CHAIN])
    assert ran.server.asked == [
        ("search", {"query": "Ulysses"}),
        ("look_up", {"query": "author of search of Ulysses"}),
    ]
    assert ran.text == "look_up of author of search of Ulysses, then search of Ulysses"
    assert len(ran.backend.traffic.calls) == 1


def test_sums_go_to_the_calculator_and_words_that_name_nothing_stay():
    def reply(name, arguments):
        return {"20 + 35": "55", "90 - 55": "35"}[arguments["query"]]

    server = Recorded(reply, tools=(tool("calculate"),))
    said = "They sold [20 + 35 = y1]. [90 - y1 = y2] were left of y9. Answer: y2 of y9"
    ran = ask(parse_policy("abstraction"), [said.replace(". Answer", ".\nAnswer")], server=server)
    assert ran.text == "35 of y9"
    whole = ask(parse_policy("abstraction"), ["It is [20 + 35 = y1]."], server=server)
    assert whole.text == "It is 55."


def test_a_failure_that_the_answer_cites_is_answered_by_a_sample():
    broken = Recorded(lambda name, arguments: RuntimeError("boom"))
    ran = ask(parse_policy("abstraction"), [CHAIN, "I do not know"], server=broken)
    assert ran.text == "I do not know"
    assert 'y1 = search(query="Ulysses") -> failed (raised)' in ran.prompt(1)


def test_an_unknown_tool_is_told_once():
    ran = ask(parse_policy("abstraction"), ["[find(a) = y1]", "[search(a) = y1]\nAnswer: y1"])
    assert "there is no tool 'find'" in ran.prompt(1)
    assert ran.text == "search of a"


# --- program


def test_a_program_makes_independent_calls_at_once_and_runs_on_by_their_results():
    program = """```python
found = [search(word) for word in ("a", "b", "c")]
if any("b" in each for each in found):
    print(look_up(f"all of {len(found)}"))
```"""
    server = Recorded(echo, delay_s=lambda tool, arguments: 3.0)
    ran = ask_program("program", [program, "done"], server=server)
    assert [name for name, _ in server.asked] == ["search"] * 3 + ["look_up"]
    assert server.most_running == 3
    assert server.asked[-1][1] == {"query": "all of 3"}
    assert ran.prompt(1).count('"look_up of all of 3"') == 1
    assert (ran.text, len(ran.backend.traffic.calls)) == ("done", 2)
    runs = [r for r in ran.outcome.tool_records if r.tool == "run_python"]
    assert [r.status for r in runs] == ["finished"] * 3


def test_what_is_printed_can_be_the_answer_and_numbers_are_numbers():
    server = Recorded(echo)
    ran = ask_program("program:direct=yes", ["print(add(1, 2) + add(a=3, b=4))"], server=server)
    assert (ran.text, len(ran.backend.traffic.calls)) == ("10", 1)


def test_a_failed_call_is_an_exception_of_the_program():
    def reply(name, arguments):
        return RuntimeError("boom") if name == "search" else "saved"

    program = 'try:\n    print(search("a"))\nexcept ToolError:\n    print(look_up("a"))'
    ran = ask_program("program:direct=yes", [program], server=Recorded(reply))
    assert ran.text == "saved"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("print(1 / 0)", "line 1 raises ZeroDivisionError"),
        ('x = search("a")\nprint(x[70])', "line 2 raises IndexError"),
        ("import os\nprint(1)", "line 1: import os is not allowed"),
        ('eval(search("a"))', "line 1: eval is not allowed"),
        ('print(search("a").__class__)', "line 1: .__class__ is not allowed"),
        ("print(", "this is no Python"),
        ("while True:\n    print(1)", "the sandbox ended it (raised)"),
    ],
)
def test_a_program_that_goes_wrong_is_written_again_once(program, told):
    ran = ask_program("program", [program, 'print(look_up("b"))', "done"])
    assert told in ran.prompt(1)
    assert (ran.text, ran.tools_called[-1]) == ("done", "look_up")
    twice = ask_program("program", [program, program, "from memory"])
    assert twice.text == "from memory"
    assert twice.backend.traffic.calls[2].request.messages == question().messages


def test_calls_of_the_first_program_are_not_made_again_by_the_second():
    first, second = 'x = search("a")\nprint(x[70])', 'print(search("a"))'
    server = Recorded(echo, tools=(tool("search", hints=ToolHints()),))
    ran = ask_program("program", [first, second, "done"], server=server)
    assert ran.tools_called == ["search"]
    assert '"search of a"' in ran.prompt(2)


def test_a_program_without_calls_and_one_without_need():
    assert ask_program("program:direct=yes", ["print(6 * 7)"]).text == "42"
    assert ask_program("program", ["pass", "it is 4"]).text == "it is 4"


def test_without_a_sandbox_it_says_what_to_add():
    with pytest.raises(InputError, match="program needs a tool 'run_python'"):
        ask(parse_policy("program"), ["print(1)"])
    assert python.server().tools[0].name == "run_python"
