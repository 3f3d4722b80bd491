"""The value of a short program of arithmetic, without running it: assignments and expressions.

Read are numbers, names set before, + - * / // % **, comparisons of none, parentheses, and abs, int,
float, round, min, max, sum over lists and tuples of numbers. Anything else, loops, strings,
attributes and imports among them, makes the text no program: nothing of it is executed.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

_FENCE = re.compile(r"```(?:python|py)?[ \t\r]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_ASSIGNED = re.compile(r"^[ \t]*answer[ \t]*=(?!=)", re.MULTILINE)
RESULT = "answer"
MOST_CHARACTERS = 4_000
MOST_NODES = 1_000
# Beyond it an exponent or a number makes more digits than anybody asked for.
LARGEST_EXPONENT = 64
MOST_PLACES = 12
LARGEST = Fraction(10) ** 40

Operation = Callable[[Fraction, Fraction], Any]
_OPERATIONS: Final[dict[type[ast.operator], Operation]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_OF_ONE: Final[dict[str, Callable[[Fraction], Fraction]]] = {
    "abs": abs,
    "int": lambda value: Fraction(math.trunc(value)),
    "float": lambda value: value,
    "round": lambda value: Fraction(round(value)),
}
_OF_MANY: Final[dict[str, Callable[[list[Fraction]], Fraction]]] = {
    "min": min,
    "max": max,
    "sum": lambda values: sum(values, Fraction(0)),
}


class NotArithmetic(ValueError):
    """The text does more than arithmetic, or divides by nought."""


def program_value(text: str) -> Fraction | None:
    """What the last program of a text sets `answer` to; None where there is none that can be read.

    A program is the last fenced block, else the lines of the text from the first assignment on,
    as far as they can be read. Without `answer` its last assignment or expression counts.
    """
    fenced = _FENCE.findall(text)
    source = fenced[-1] if fenced else text
    if len(source) > MOST_CHARACTERS or not (fenced or _ASSIGNED.search(source)):
        return None
    names: dict[str, Fraction] = {}
    last: Fraction | None = None
    for line in source.splitlines():
        try:
            last = _line(line, names, last)
        except (NotArithmetic, SyntaxError, RecursionError, MemoryError, ValueError):
            if fenced:
                return None
            if RESULT in names:
                break
            last = None
    return names.get(RESULT, last)


def _line(line: str, names: dict[str, Fraction], last: Fraction | None) -> Fraction | None:
    """The value after one line; `names` gain what it assigns."""
    tree = ast.parse(line.strip())
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise NotArithmetic("too long")
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                last = names[name] = _value(value, names)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                last = names[name] = _apply(op, _named(name, names), _value(value, names))
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"), args=[shown])):
                last = _value(shown, names)
            case ast.Expr(value=value):
                last = _value(value, names)
            case _:
                raise NotArithmetic(type(statement).__name__)
    return last


def _value(node: ast.expr, names: dict[str, Fraction]) -> Fraction:
    match node:
        case ast.Constant(value=bool()):
            raise NotArithmetic("truth values")
        case ast.Constant(value=int() | float() as number):
            return _bounded(Fraction(str(number)))
        case ast.Name(id=name):
            return _named(name, names)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner, names)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner, names)
        case ast.BinOp(left=left, op=op, right=right):
            return _apply(op, _value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            return _called(name, args, names)
        case _:
            raise NotArithmetic(type(node).__name__)


def _named(name: str, names: dict[str, Fraction]) -> Fraction:
    if name not in names:
        raise NotArithmetic(name)
    return names[name]


def _apply(op: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    if isinstance(op, ast.Pow):
        if right.denominator != 1 or abs(right) > LARGEST_EXPONENT or (left == 0 and right < 0):
            raise NotArithmetic("power")
        return _bounded(left ** int(right))
    found = _OPERATIONS.get(type(op))
    if found is None:
        raise NotArithmetic(type(op).__name__)
    try:
        return _bounded(Fraction(found(left, right)))
    except ZeroDivisionError:
        raise NotArithmetic("division by nought") from None


def _called(name: str, args: list[ast.expr], names: dict[str, Fraction]) -> Fraction:
    listed = [each for arg in args for each in _listed(arg)]
    values = [_value(each, names) for each in listed]
    if name in _OF_MANY and values:
        return _bounded(_OF_MANY[name](values))
    if name in _OF_ONE and len(values) == 1:
        return _OF_ONE[name](values[0])
    if name == "round" and len(values) == 2 and abs(values[1]) <= MOST_PLACES:
        return Fraction(round(values[0], int(values[1])))
    raise NotArithmetic(name)


def _listed(arg: ast.expr) -> list[ast.expr]:
    return list(arg.elts) if isinstance(arg, ast.List | ast.Tuple) else [arg]


def _bounded(value: Fraction) -> Fraction:
    if abs(value) > LARGEST or value.denominator > LARGEST:
        raise NotArithmetic("a number beyond any answer")
    return value
