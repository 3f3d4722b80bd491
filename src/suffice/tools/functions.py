"""Python functions with type hints as tools; the hints become their JSON Schema."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, cast

from pydantic import BaseModel, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, PydanticSerializationError, to_json

from suffice.core.errors import InputError
from suffice.core.requests import Tool, ToolHints
from suffice.tools.protocol import ToolResult

_HINTS = "__suffice_tool_hints__"


def tool_hints(
    *,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    open_world: bool | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say of a function what calling it does; without this its calls run one after the other."""
    hints = ToolHints(
        read_only=read_only, destructive=destructive, idempotent=idempotent, open_world=open_world
    )

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _HINTS, hints)
        return function

    return mark


class FunctionTools:
    """Functions as a ToolServer.

    Their docstring's first paragraph is the description. Coroutine functions run in the loop,
    others in a thread each, which cannot be stopped: one that hangs is left behind, and does not
    keep the process from ending.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]], *, name: str = "functions") -> None:
        self._name = name
        self._functions: dict[str, Callable[..., Any]] = {}
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        found: list[Tool] = []
        for function in functions:
            label = function.__name__
            if label in self._functions:
                raise InputError(f"two functions are named {label}; rename one")
            adapter = _adapter(function)
            self._functions[label], self._adapters[label] = function, adapter
            found.append(
                Tool(
                    name=label,
                    description=(inspect.getdoc(function) or "").split("\n\n", 1)[0] or None,
                    parameters_json=json.dumps(adapter.json_schema()),
                    hints=getattr(function, _HINTS, ToolHints()),
                )
            )
        self._tools = tuple(found)

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def tools(self) -> tuple[Tool, ...]:
        """One per function."""
        return self._tools

    def function(self, tool: str) -> Callable[..., Any]:
        """The function behind a tool."""
        return self._functions[tool]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """One call; the result as text, a structure as JSON."""
        function = self._functions[tool]
        validated = self._adapters[tool].validator
        given = ArgsKwargs((), dict(arguments))
        try:
            if inspect.iscoroutinefunction(inspect.unwrap(function)):
                value = await validated.validate_python(given)
            else:
                value = await _in_thread(lambda: validated.validate_python(given))
        except ValidationError as error:
            return ToolResult(text=_said(error), is_error=True)
        return ToolResult(text=text_of(value))

    async def aclose(self) -> None:
        """Nothing to close."""


def text_of(value: Any) -> str:
    """A function's value as text: texts as they are, everything else as JSON where it can be."""
    if isinstance(value, str):
        return value
    if (
        value is None
        or isinstance(value, bool | int | float | list | tuple | dict | BaseModel)
        or (is_dataclass(value) and not isinstance(value, type))
    ):
        try:
            return to_json(value).decode()
        except (PydanticSerializationError, ValueError, RecursionError):
            return str(value)
    return str(value)


def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise InputError(
                f"function {function.__name__}: parameter {parameter.name} has no name to give it "
                "by; tools take named parameters"
            )
        if parameter.annotation is parameter.empty and parameter.kind != parameter.VAR_KEYWORD:
            raise InputError(
                f"function {function.__name__}: parameter {parameter.name} has no type hint; "
                "models are told the types"
            )
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, function))
    except PydanticSchemaGenerationError as error:
        first = str(error).splitlines()[0]
        raise InputError(f"function {function.__name__} is no tool: {first}") from None
    return adapter


def _said(error: ValidationError) -> str:
    """What is wrong with arguments, in one line."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc']) or 'arguments'}: {each['msg']}"
        for each in found
    )


async def _in_thread(work: Callable[[], Any]) -> Any:
    """The value of `work`, from a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except Exception as raised:  # noqa: BLE001 - handed to whoever waits
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="suffice-tool").start()
    return await done
