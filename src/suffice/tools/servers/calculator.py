"""A calculator: an arithmetic expression read with `ast`, in whole numbers where they are whole."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from suffice.core.errors import InputError
from suffice.tools.functions import FunctionTools, tool_hints

MOST_CHARS = 1_000
# Beyond this a result is no answer to anybody, and powers of it take for ever.
MOST_DIGITS = 1_000

Number = int | Fraction | float

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs, "max": max, "min": min, "round": round, "sqrt": math.sqrt, "exp": math.exp,
    "log": math.log, "log10": math.log10, "log2": math.log2, "sin": math.sin, "cos": math.cos,
    "tan": math.tan, "floor": math.floor, "ceil": math.ceil, "factorial": math.factorial,
}  # fmt: skip
_NAMES: dict[str, Number] = {"pi": math.pi, "e": math.e}


@tool_hints(read_only=True, idempotent=True, open_world=False)
def calculate(expression: str) -> str:
    """Value of an arithmetic expression: + - * / // % **, brackets, sqrt, log, round and such."""
    return evaluate(expression)


def evaluate(expression: str) -> str:
    """Value of an expression, exact as long as it is rational. Raises InputError."""
    if len(expression) > MOST_CHARS:
        raise InputError(
            f"the expression has {len(expression)} characters, at most {MOST_CHARS} are read"
        )
    text = expression.strip().replace("^", "**").replace("×", "*").replace("÷", "/")
    try:
        tree = ast.parse(text.replace(",", "") if "(" not in text else text, mode="eval")
        return _shown(_value(tree.body))
    except ZeroDivisionError:
        raise InputError(f"{expression!r} divides by zero") from None
    except (SyntaxError, MemoryError, RecursionError):
        raise InputError(f"{expression[:80]!r} is no arithmetic expression") from None
    except (ValueError, OverflowError, TypeError) as error:
        raise InputError(f"{expression[:80]!r} has no value: {error}") from None


def server() -> FunctionTools:
    """The calculator as a tool server."""
    return FunctionTools([calculate], name="calculator")


def _value(node: ast.expr) -> Number:  # noqa: PLR0911 - one way for each kind of node
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int() as value):
            return _bounded(value)
        case ast.Constant(value=float() as number):
            return Fraction(str(number)) if math.isfinite(number) else number
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            above, below = _value(left), _value(right)
            exact = not isinstance(above, float) and not isinstance(below, float)
            return Fraction(above) / Fraction(below) if exact else above / below
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            found: Number = _OPERATORS[type(op)](_value(left), _value(right))
            return _bounded(found)
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _called(name, [_value(each) for each in args])
    raise InputError(
        f"{ast.unparse(node)[:60]!r} is not allowed; there are numbers, + - * / // % **, pi, e and "
        f"{', '.join(_FUNCTIONS)}"
    )


def _called(name: str, values: list[Any]) -> Number:
    if name == "factorial" and any(value > MOST_DIGITS for value in values):
        raise InputError(f"factorial is limited to {MOST_DIGITS}")
    if name == "round" and len(values) > 1:
        rounded: Number = round(values[0], int(values[1]))
        return rounded
    if name in ("abs", "max", "min", "round", "floor", "ceil"):
        return _bounded(_FUNCTIONS[name](*values))
    if name == "factorial":
        return math.factorial(int(values[0]))
    found: Number = _FUNCTIONS[name](*(float(value) for value in values))
    return int(found) if name == "sqrt" and float(found).is_integer() else found


def _power(base: Number, power: Number) -> Number:
    if isinstance(power, Fraction) and power.denominator == 1:
        power = int(power)
    if not isinstance(power, int) or isinstance(base, float):
        found: object = float(base) ** float(power)
        if not isinstance(found, float):
            raise InputError(f"{_shown(base)} ** {_shown(power)} is no real number")
        return found
    size = max(abs(base.numerator), abs(base.denominator), 2) if base else 1
    if abs(power) * math.log10(size) > MOST_DIGITS:
        raise InputError(f"a result has at most {MOST_DIGITS} digits")
    return _bounded(Fraction(base) ** power if power < 0 else base**power)


def _bounded(value: Number) -> Number:
    if isinstance(value, int | Fraction):
        most = max(abs(value.numerator), value.denominator)
        if most.bit_length() > MOST_DIGITS * 3.33:
            raise InputError(f"a result has at most {MOST_DIGITS} digits")
    return value


def _shown(value: Number) -> str:
    if isinstance(value, Fraction):
        if value.denominator == 1:
            return str(value.numerator)
        value = value.numerator / value.denominator
    return repr(value)
