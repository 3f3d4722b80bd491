"""Facts are fields: what is written for people (`why`) is rendered, and no code looks into it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import suffice

SOURCE = Path(suffice.__file__).parent
# Sentences for people, wherever they travel.
PROSE = {"why", "whys"}
# What asks a text for its content.
PARSERS = {
    *("startswith", "endswith", "find", "index", "count", "split", "rsplit", "splitlines"),
    *("partition", "rpartition", "removeprefix", "removesuffix"),
    *("match", "search", "fullmatch", "findall", "finditer", "sub"),
}


def is_prose(node: ast.AST) -> bool:
    """A name, attribute, parameter or key that holds a sentence for people."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in PROSE
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            return name in PROSE
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
            return name in PROSE
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return is_prose(inner)
        case ast.Call(func=ast.Attribute(value=inner, attr="lower" | "strip" | "casefold")):
            return is_prose(inner)
    return False


def readings(tree: ast.AST) -> list[int]:
    """Lines in which such a sentence is compared, cut, or searched."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for each, op in zip((left, *others), (None, *ops), strict=True):
                    absent = isinstance(op, ast.Is | ast.IsNot) and isinstance(
                        others[0], ast.Constant
                    )
                    if is_prose(each) and not absent and not _is_none(node):
                        found.append(node.lineno)
            case ast.Call(func=ast.Attribute(value=value, attr=attr), args=args):
                if attr in PARSERS and (is_prose(value) or any(map(is_prose, args))):
                    found.append(node.lineno)
            case ast.Subscript(value=value) if is_prose(value):
                found.append(node.lineno)
            case ast.Match(subject=subject) if is_prose(subject):
                found.append(node.lineno)
    return found


def _is_none(node: ast.Compare) -> bool:
    """`x is None`: whether there is a sentence at all says nothing of what is in it."""
    last = node.comparators[-1]
    return isinstance(node.ops[0], ast.Is | ast.IsNot) and (
        isinstance(last, ast.Constant) and last.value is None
    )


def test_no_code_reads_what_is_written_for_people() -> None:
    found = {
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        for line in readings(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


ERRORS = {"error", "exc", "exception", "err", "e", "failed", "caught"}


def reads_an_error(tree: ast.AST) -> list[int]:
    """Lines in which an error's text is looked into instead of its type or its fields."""
    found = []
    for node in ast.walk(tree):
        texts: list[ast.AST] = []
        match node:
            case ast.Compare(ops=ops, comparators=texts_) if any(
                isinstance(op, ast.In | ast.NotIn | ast.Eq | ast.NotEq) for op in ops
            ):
                texts = [node.left, *texts_]
            case ast.Call(func=ast.Attribute(value=value, attr=attr), args=args):
                texts = [value, *args] if attr in PARSERS - {"splitlines", "split"} else []
        for text in texts:
            match text:
                case ast.Call(func=ast.Name(id="str" | "repr"), args=[ast.Name(id=name)]):
                    found += [node.lineno] * (name in ERRORS)
    return found


def test_no_code_reads_the_text_of_an_error() -> None:
    found = {
        f"{path.relative_to(SOURCE)}:{line}"
        for path in SOURCE.rglob("*.py")
        for line in reads_an_error(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ('if "no such table" in str(error): pass', True),
        ('str(exc).startswith("ledger")', True),
        ("re.search(pattern, str(error))", True),
        ('if error.sqlite_errorname == "SQLITE_FULL": pass', False),
        ("log.warning(str(error))", False),
        ("first = str(error).splitlines()[0]", False),
    ],
)
def test_the_check_tells_reading_an_error_from_showing_it(text: str, reads: bool) -> None:
    assert bool(reads_an_error(ast.parse(text))) == reads


@pytest.mark.parametrize(
    "text",
    [
        'if "rung 1" in outcome.why: pass',
        'early = why.startswith(("agreement ", "hopeless: "))',
        "_NOTE.match(outcome.why)",
        'outcome.why == "one sample"',
        'receipt["why"].split(":")',
        'getattr(outcome, "why").lower().find("void")',
        "x = str(action.why)[:9]",
        'match outcome.why:\n case "a": pass',
        "row.why[0]",
    ],
)
def test_the_check_sees_every_way_to_read_it(text: str) -> None:
    assert readings(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        'f"{state.why}: {action.why}"',
        "replace(action, why=why)",
        'parts = [outcome.why, "16 samples"]',
        "if outcome.why is not None: pass",
        "shorten(first.why)",
    ],
)
def test_rendering_is_allowed(text: str) -> None:
    assert not readings(ast.parse(text))
