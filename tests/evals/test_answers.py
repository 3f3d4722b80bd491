"""Answers are read whole: numbers, choices and equality, case by case and by property.

`answer_cases.jsonl` holds what models write and what it answers; numbers compare by value.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suffice.core.completions import Completion, Usage
from suffice.core.errors import InputError
from suffice.evals.answers import numbers as number_rules
from suffice.evals.answers.choices import choice_of
from suffice.evals.answers.numbers import number_answer
from suffice.evals.answers.numerals import canonical, find, whole
from suffice.evals.answers.units import unit_of
from suffice.evals.equivalence import MathVerifier, decided, equal
from suffice.evals.extract import VERSION, canonical_number, extractor
from suffice.evals.grading import check_of, due_answer

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "answer_cases.jsonl").read_text().splitlines()
]


def said(text):
    return Completion(text=text, finish_reason="stop", usage=Usage())


def found(answer_format, text, asked=None):
    extract = extractor(answer_format, asked=asked)
    assert extract is not None
    return extract(said(text))


def by_value(answer):
    return None if answer is None else Fraction(answer)


def test_numbers():
    """All in one test, which names every text that is read wrong."""
    rows = [case for case in CASES if case.get("format") == "number"]
    assert len(rows) > 500
    wrong = [
        (case["text"], got, case["answer"])
        for case in rows
        if by_value(got := found("number", case["text"])) != by_value(case["answer"])
    ]
    assert wrong == []


def test_choices():
    rows = [case for case in CASES if case.get("format") == "choice"]
    assert len(rows) > 500
    wrong = [
        (case["text"], got, case["answer"])
        for case in rows
        if (got := found("choice", case["text"])) != case["answer"]
    ]
    assert wrong == []


PAIRS = [(*case["pair"], case["same"]) for case in CASES if "pair" in case]


@pytest.mark.parametrize(("a", "b", "same"), PAIRS)
def test_equality_without_algebra_is_never_wrong(a, b, same):
    """What is decided without math-verify is right; only expressions are left to it."""
    assert decided(a, b) in (None, same)
    assert decided(a, b) is decided(b, a)


@pytest.fixture(scope="module")
def verifier():
    pytest.importorskip("math_verify")
    with MathVerifier(limit_s=10.0) as running:
        yield running


@pytest.mark.parametrize(("a", "b", "same"), PAIRS)
def test_equality_with_algebra(verifier, a, b, same):
    assert verifier.equal(a, b) is same
    assert verifier.equal(b, a) is same


# --- properties ---------------------------------------------------------------------------------

SPELLINGS = (
    lambda n: f"{n}",
    lambda n: f"{n:,}",
    lambda n: f"{n:,}".replace(",", " "),
    lambda n: f"{n:,}".replace(",", "\u202f"),
    lambda n: f"{n:,}".replace(",", "'"),
    lambda n: f"{n:,}".replace(",", "{,}"),
    lambda n: f"{n:,}".replace(",", "\\,"),
    lambda n: f"{n}.0",
    lambda n: f"${n:,}.00$",
    lambda n: f"\\text{{{n}}}",
    lambda n: f"{n}".replace("-", "\u2212"),
    lambda n: f"**{n}**",
    lambda n: "".join(chr(0xFF10 + int(c)) if c.isdigit() else c for c in f"{n}"),
    lambda n: f"{n * 100}%",
    lambda n: f"{n}e0",
    lambda n: f"{2 * n}/2",
)
numbers = st.integers(-(10**18), 10**18)
spelling = st.sampled_from(SPELLINGS)
rationals = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**4)


@given(numbers, spelling, spelling)
def test_one_number_is_itself_in_every_spelling(value, one, other):
    assert canonical_number(one(value)) == str(value)
    assert decided(one(value), other(value)) is True
    assert found("number", f"The answer is {one(value)}.") == str(value)
    assert found("number", f"\\boxed{{{one(value)}}}") == str(value)


@given(numbers, numbers, spelling, spelling)
def test_different_numbers_are_never_equal(a, b, one, other):
    same = decided(one(a), other(b))
    assert same is (a == b)
    assert decided(other(b), one(a)) is same


@given(rationals, rationals)
def test_equality_of_fractions_is_that_of_exact_numbers(a, b):
    texts = [f"{a.numerator}/{a.denominator}", f"\\frac{{{b.numerator}}}{{{b.denominator}}}"]
    assert decided(*texts) is (a == b)
    assert decided(canonical(a), canonical(b)) is (a == b)


@given(st.lists(st.tuples(numbers, spelling), min_size=3, max_size=3))
def test_equality_of_numbers_is_transitive(drawn):
    a, b, c = (spell(value) for value, spell in drawn)
    if decided(a, b) and decided(b, c):
        assert decided(a, c)


@given(rationals)
def test_the_canonical_spelling_is_read_back(value):
    read = whole(canonical(value))
    assert read is not None and read.value == value


@given(st.text(max_size=60), st.text(max_size=60))
def test_equality_is_symmetric_and_every_text_equals_itself(a, b):
    assert decided(a, a) is True
    assert decided(a, b) is decided(b, a)


@given(st.text(alphabet="0123456789.,/:^-+x% $\\{}()ABCDandor\n", max_size=40))
def test_no_text_breaks_the_extractors(text):
    for answer_format in ("number", "choice", "math", "boxed"):
        key = found(answer_format, text)
        assert key is None or key
    number = found("number", text)
    assert number is None or canonical_number(number) == number  # votes and checks share the key


# --- percent, references, units -----------------------------------------------------------------


def test_percent_is_a_unit_where_the_question_speaks_of_percent():
    asked = "What percentage of the class is that?"
    assert found("number", "It is 25%.", asked) == found("number", "It is 25.", asked) == "25"
    assert found("number", "It is 25%.") == found("number", "It is 0.25.") == "0.25"
    assert check_of("number", "25", asked=asked)(said("25%")).correct is True
    assert check_of("number", "25%", asked=asked)(said("25")).correct is True
    assert check_of("number", "25", asked="How many?")(said("25%")).correct is False


@pytest.mark.parametrize(
    ("form", "reference"),
    [
        ("number", "12:30"),
        ("number", "2:3"),
        ("number", "2\\sqrt{3}"),
        ("number", "3 or 4"),
        ("number", "3-5"),
        ("number", "12 cm"),
        ("number", "x = 5"),
        ("number", "1, 2, 3"),
        ("number", "none"),
        ("number", ""),
        ("number", "2024-01-02"),
        ("choice", "42"),
        ("choice", "none"),
        ("choice", "A or B"),
        ("choice", "wind"),
        ("json", "no json"),
    ],
)
def test_a_reference_that_is_not_one_answer_is_refused(form, reference):
    with pytest.raises(InputError, match=f"which checker {form} compares"):
        check_of(form, reference)


@pytest.mark.parametrize(
    ("form", "reference", "due"),
    [
        ("number", "3/4", "0.75"),
        ("number", "\\frac{1}{3}", "1/3"),
        ("number", "$1,234.50", "1234.5"),
        ("number", "10 000", "10000"),
        ("number", "-$20", "-20"),
        ("number", "1.5 million", "1500000"),
        ("number", "\\boxed{42}", "42"),
        ("number", "10^6", "1000000"),
        ("choice", "b", "B"),
        ("choice", "(C)", "C"),
        ("choice", "C, A", "AC"),
        ("choice", "AC", "AC"),
        ("choice", "K", "K"),
        ("choice", "B. Paris", "B"),
        ("json", '{"b": 1, "a": 2.0}', '{"a":2,"b":1}'),
        (r"regex:\d+", "3/4", "3/4"),
        (r"regex:=> (.*)", "=> left", "left"),
        ("boxed", "\\boxed{x+1}", "x+1"),
    ],
)
def test_a_reference_is_taken_whole(form, reference, due):
    assert due_answer(form, reference) == due


@pytest.mark.parametrize(
    ("reference", "text", "right"),
    [
        ("3/4", "1/4", False),
        ("3/4", "The answer is 0.75", True),
        ("\\frac{3}{4}", "\\frac{1}{4}", False),
        ("10 000", "20 000", False),
        ("$10\\,000$", "$20\\,000$", False),
        ("1{,}500", "9{,}500", False),
        ("10^6", "3^6", False),
        ("1.5 million", "1.5 billion", False),
        ("1.5 million", "1,500,000 people", True),
    ],
)
def test_different_answers_are_not_called_right(reference, text, right):
    assert check_of("number", reference)(said(text)).correct is right


def test_units():
    assert unit_of("cm^2") == unit_of("square cm") == unit_of("cm2")
    assert unit_of("km/h") == unit_of("kilometers per hour") != unit_of("m/s")
    assert unit_of("apples") == unit_of("apple")
    assert unit_of("and 4") is None and unit_of("x") is None


def test_choice_sets_are_ordered_and_words_are_no_sets():
    assert [choice_of(text) for text in ("C, A", "ABD", "BAD", "A number")] == [
        "AC",
        "ABD",
        None,
        None,
    ]


def test_nothing_equals_a_missing_answer():
    assert not equal(None, None) and not equal("1", None)


def test_the_rules_have_a_number():
    """Raise it whenever a case of `answer_cases.jsonl` changes its answer."""
    assert VERSION == 2


PIECES = st.sampled_from(
    [
        "So we have 3 + 4 = 7. ", "The total is 12 apples and 5 pears.\n", "(see [1] and [2]) ",
        "x" * 300, "\n\n", "Step 4: ", "1. First, take 10%. ", "about 1,234.5 kg ", "3 + 4 + ",
        "no number here. ",
    ]
)  # fmt: skip


@given(st.lists(PIECES, min_size=1, max_size=40).map("".join))
def test_the_end_of_a_text_tells_what_the_whole_tells(text):
    with pytest.MonkeyPatch.context() as patch:
        near = number_answer(text)
        patch.setattr(number_rules, "_CLOSE_CHARACTERS", 10**9)
        assert number_answer(text) == near


@pytest.mark.parametrize("text", ["1 ", "[1] ", "1+", "(12) ", "5\\% ", "1/2, "])
@pytest.mark.parametrize("answer_format", ["number", "math"])
def test_a_hundred_thousand_numbers_are_not_all_read(text, answer_format):
    """Others wait while an answer is read: the work has a bound, whatever a model writes."""
    read = 0

    def counted(*arguments, **options):
        nonlocal read
        for each in find(*arguments, **options):
            read += 1
            yield each

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_rules, "find", counted)
        found(answer_format, text * 100_000)
    assert read <= 2 * number_rules._FAR_CHARACTERS
