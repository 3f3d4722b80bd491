from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError, UnknownName
from suffice.core.requests import ToolCall
from suffice.evals.extract import canonical_number, extractor
from tests.calls import calls


def found(answer_format, text, **how):
    completion = Completion(text=text, finish_reason="stop", usage=Usage(), **how)
    return extractor(answer_format)(completion)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (r"\boxed{1} no, \boxed{ 2 }", "2"),
        (r"\boxed{a_{b_{c}}}", "a_{b_{c}}"),
        (r"\boxed{$7$}", "7"),
        (r"\boxed{3} and then \boxed{4", "3"),
        (r"\fbox{x  y}", "x y"),
        (r"\boxed{}", None),
        ("nothing", None),
    ],
)
def test_boxed(text, answer):
    assert found("boxed", text) == answer


@pytest.mark.parametrize("answer_format", ["boxed", "number", "math", "choice", "json"])
@pytest.mark.parametrize("piece", ["\\boxed{", "[", "{", "1", "(", "A) ", '{"a": ', "}", "answer "])
def test_degenerate_samples_cost_no_more_than_others(answer_format, piece):
    check_linear(answer_format, piece)


def check_linear(answer_format, piece, tail=""):
    """Twice the text takes no more than twice the calls. A search that tries the rest of the text
    again from every place would not end within the time that a test has."""
    counts = []
    for length in (2_000, 4_000, 60_000):
        with calls() as made:
            found(answer_format, piece * length + tail)
        counts.append(len(made))
    assert counts[1] <= 2.1 * counts[0] + 50
    assert counts[2] <= 2.1 * 30 * counts[0] + 50


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 + 4 = 7", "7"),
        ("it is $1,234.50.", "1234.5"),
        ("x = -3.0", "-3"),
        ("1e3", "1000"),
        ("50%", "0.5"),
        (".5", "0.5"),
        ("7.", "7"),
        ("-0", "0"),
        (r"10 then \boxed{8} apples of 12", "8"),
        ("GPT4 and x2", None),
        ("none", None),
        ("1e999999999", None),
        ("2,3", "2.3"),
        ("0e500", "0"),
        ("so it is \u22125", "-5"),
        ("123456789012345678901234567891", "123456789012345678901234567891"),
        ("0." + "1" * 40, "0." + "1" * 40),
        ("9" * 500, "9" * 500),
    ],
)
def test_number(text, answer):
    assert found("number", text) == answer


@given(st.integers(-(10**60), 10**60))
def test_one_spelling_per_value(value):
    spellings = {f"{value}", f"{value:,}", f"{value}.0", f"{value}.000"}
    assert {canonical_number(text) for text in spellings} == {str(value)}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is B.", "B"),
        ("(A) or (B)? I pick (C)", "C"),
        ("Answer: (b)", "B"),
        ("**D**", "D"),
        ("B", "B"),
        ("C) because", "C"),
        (r"the final answer is \boxed{D}", "D"),
        (r"\boxed{\text{E}}", "E"),
        ("the answer is a number", None),
        ("A cat sat on the mat", None),
        ("Answer: Bob", None),
        ("First I thought the answer is A. The answer is C", "C"),
        ("Answer: C. Option D is wrong.", "C"),
        ("Option A is wrong, so option B it is", "B"),
    ],
)
def test_choice(text, answer):
    assert found("choice", text) == answer


@pytest.mark.parametrize("piece", ["[1,1,1", '["a'])
def test_json_in_degenerate_samples_takes_no_longer(piece):
    check_linear("json", piece)
    assert found("json", piece * 60_000) is None
    assert found("json", "```" + "\n" * 60_000) is None


@pytest.mark.parametrize(
    "arguments",
    [
        '{"a": ' + "1" * 5000 + "}",
        "[" * 900 + "]" * 900,
        '{"a":' * 900 + "1" + "}" * 900,
        "[" * 100_000,
    ],
)
def test_json_beyond_reason_is_no_answer(arguments):
    assert found("json", arguments) is None
    call = ToolCall(id="1", name="f", arguments=arguments)
    assert found("tool", "", tool_calls=(call,)) is None


def test_json_after_an_impossible_integer_is_found():
    assert found("json", '{"a": ' + "1" * 5000 + '} or {"a": 2}') == '{"a":2}'


def test_json():
    assert found("json", 'sure: {"b": 1.0, "a": [1, 2]} done') == '{"a":[1,2],"b":1}'
    assert found("json", '```json\n{"a": 1}\n```\nas {"asked": 2}') == '{"a":1}'
    assert found("json", '{"a": {"b": [}') is None
    assert found("json", "[" * 5000) is None


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4), max_size=4))
def test_json_ignores_spelling(value):
    plain = json.dumps(value)
    spaced = json.dumps(dict(reversed(value.items())), indent=3, ensure_ascii=False)
    assert found("json", plain) == found("json", spaced)


def test_tool_calls_compare_by_name_and_arguments():
    def call(arguments, name="f"):
        return ToolCall(id="1", name=name, arguments=arguments)

    one = found("tool", "", tool_calls=(call('{"a": 1, "b": 2}'), call("{}", "g")))
    other = found("tool", "", tool_calls=(call("", "g"), call('{"b":2,"a":1.0}')))
    assert one == other is not None
    assert found("tool", "text only") is None
    assert found("tool", "", tool_calls=(call("{broken"),)) is None


def test_regex():
    assert found(r"regex:=> (\w+)", "=> a, => b") == "b"
    assert found(r"regex:\d+", "1 22") == "22"
    assert found(r"regex:\d+", "none") is None
    with pytest.raises(InputError, match="not a pattern"):
        extractor("regex:(")
    for pattern in ("(" * 5000 + ")" * 5000, "a{99999999999999999999}"):
        with pytest.raises(InputError, match="not a pattern"):
            extractor(f"regex:{pattern}")


def test_formats():
    assert extractor(None) is None
    assert extractor("text") is None
    with pytest.raises(UnknownName, match="did you mean boxed"):
        extractor("boxd")
