"""The columns of a trace file, and how records become rows. Needs pyarrow (extra `parquet`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from suffice.core.errors import InputError, MissingExtra
from suffice.core.strict import Strict
from suffice.core.version import __version__
from suffice.evals.traces.trace_set import Trace

# Who counted the tokens: the engine that drew them, nobody (an estimate from the text), somebody
# who did not say, or no one at all.
TokenCounts = Literal["engine", "estimated", "unknown", "absent"]

SCHEMA_VERSION: Literal[1] = 1
METADATA_KEY = b"suffice.traces"

# Columns that say what was asked; rows of one question must agree on them.
QUESTION_COLUMNS = ("messages", "reference", "answer_format", "category", "tools")
KEY_COLUMNS = ("dataset", "question", "model", "mode", "sample")
FLOAT_COLUMNS = (
    "correct",
    "score",
    "prompt_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "ttft_s",
    "e2e_s",
)


class TraceInformation(Strict):
    """What a trace file says about itself, stored as JSON under `suffice.traces` in its footer."""

    schema_version: Literal[1] = SCHEMA_VERSION
    description: str = ""
    source: str = ""  # where the samples come from: a server, a publication with its commit
    licence: str = ""  # SPDX identifier or sentence; empty: not stated, do not redistribute
    server: str = ""  # engine and version that drew the samples
    servers: dict[str, str] = Field(default_factory=dict)  # the server by model
    tool: str = Field(default_factory=lambda: f"suffice {__version__}")
    created: str = ""  # ISO 8601, UTC
    modes: dict[str, str] = Field(default_factory=dict)  # what a mode adds to the messages
    token_counts: TokenCounts = "unknown"
    extraction: int | None = None  # version of the rules that found the answers; None: not ours
    top_logprobs: int | None = None  # alternatives behind each confidence
    notes: str = ""
    digest: str = ""  # SHA-256 of the rows in order, see `ContentDigest`


@cache
def arrow() -> Any:
    """The pyarrow module; raises MissingExtra."""
    try:
        import pyarrow  # noqa: PLC0415
        import pyarrow.compute  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise MissingExtra.of("pyarrow", "parquet", "recorded traces") from None
    return pyarrow


@cache
def schema() -> Any:
    """Arrow schema of a trace file."""
    pa = arrow()
    text, half = pa.string(), pa.list_(pa.float16())
    fields = [
        pa.field("dataset", text, nullable=False),
        pa.field("question", text, nullable=False),
        pa.field("messages", text, nullable=False),
        pa.field("reference", text),
        pa.field("answer_format", text),
        pa.field("category", text),
        pa.field("tools", text),
        pa.field("model", text, nullable=False),
        pa.field("mode", text, nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("text", text),
        pa.field("reasoning_text", text),
        pa.field("tool_calls", text),
        pa.field("finish_reason", text, nullable=False),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("completion_tokens", pa.int32()),
        pa.field("reasoning_tokens", pa.int32()),
        pa.field("answer", text),
        pa.field("correct", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("tokens", pa.list_(text)),
        pa.field("logprobs", half),
        pa.field("confidences", half),
        pa.field("ttft_s", pa.float32()),
        pa.field("e2e_s", pa.float32()),
        pa.field("sampling", text),
    ]
    return pa.schema(fields)


def table_of(traces: Sequence[Trace]) -> Any:
    """Arrow table of records, in their order."""
    pa = arrow()
    question = [trace.question for trace in traces]
    columns: dict[str, list[Any]] = {
        "dataset": [each.dataset for each in question],
        "question": [each.name for each in question],
        "messages": [each.messages_json for each in question],
        "reference": [each.reference for each in question],
        "answer_format": [each.answer_format for each in question],
        "category": [each.category for each in question],
        "tools": [each.tools_json for each in question],
        "tool_calls": [trace.tool_calls_json for trace in traces],
        "sampling": [trace.sampling_json for trace in traces],
        "tokens": [list(trace.tokens) or None for trace in traces],
    }
    same = (
        "model mode sample text reasoning_text finish_reason prompt_tokens completion_tokens "
        "reasoning_tokens answer correct score ttft_s e2e_s"
    )
    for name in same.split():
        columns[name] = [getattr(trace, name) for trace in traces]
    wanted = schema()
    arrays = {name: pa.array(values, wanted.field(name).type) for name, values in columns.items()}
    for name in ("logprobs", "confidences"):
        arrays[name] = _halves([getattr(trace, name) for trace in traces])
    return pa.Table.from_arrays([arrays[name] for name in wanted.names], schema=wanted)


def _halves(rows: Sequence[Any]) -> Any:
    pa = arrow()
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    values = np.concatenate(rows) if rows else np.zeros(0)
    # A row without values is null: the engine gave none.
    starts = pa.array(offsets, mask=np.append(np.diff(offsets) == 0, False))
    return pa.ListArray.from_arrays(starts, pa.array(values.astype(np.float16)))


class ContentDigest:
    """SHA-256 over rows in file order, the same whatever row groups or compression.

    One hash per column, in schema order, of three streams: validity (one byte per row), lengths
    (of texts and lists, little-endian int64), values (little-endian; UTF-8; 0 where null).
    """

    def __init__(self) -> None:
        self._streams = {name: [hashlib.sha256() for _ in range(5)] for name in schema().names}

    def update(self, table: Any) -> None:
        """Take in further rows."""
        for name, streams in self._streams.items():
            for chunk in table.column(name).chunks:
                _feed(streams, chunk)

    def hexdigest(self) -> str:
        """The digest of all rows so far."""
        whole = hashlib.sha256(f"suffice.traces {SCHEMA_VERSION}".encode())
        for name, streams in self._streams.items():
            whole.update(name.encode())
            for stream in streams:
                whole.update(stream.digest())
        return whole.hexdigest()


def content_digest(table: Any) -> str:
    """Digest of a whole table."""
    digest = ContentDigest()
    digest.update(table)
    return digest.hexdigest()


def _feed(streams: Sequence[Any], array: Any) -> None:
    pa = arrow()
    valid, lengths, values, *inner = streams
    valid.update(_plain(array.is_valid()).astype(np.uint8).tobytes())
    if pa.types.is_list(array.type):
        lengths.update(_plain(array.value_lengths().fill_null(0)).astype("<i8").tobytes())
        _feed([values, *inner], array.flatten())
    elif pa.types.is_string(array.type):
        binary = array.fill_null("").cast(pa.large_binary())
        lengths.update(_plain(pa.compute.binary_length(binary)).astype("<i8").tobytes())
        values.update(_bytes_of(binary))
    else:
        value = _plain(array.fill_null(False if pa.types.is_boolean(array.type) else 0))
        values.update(value.astype(value.dtype.newbyteorder("<")).tobytes())


def _bytes_of(binary: Any) -> Any:
    """All bytes of a large binary array, end to end, without a Python object for each row."""
    _, offsets, values = binary.buffers()
    if values is None or not len(binary):
        return b""
    places = np.frombuffer(offsets, np.int64)[binary.offset : binary.offset + len(binary) + 1]
    return memoryview(values)[int(places[0]) : int(places[-1])]


def _plain(array: Any) -> Any:
    return array.to_numpy(zero_copy_only=False)


def information_of(schema_metadata: dict[bytes, bytes] | None, path: str) -> TraceInformation:
    """The footer's description; raises InputError for files of another kind or a later version."""
    text = (schema_metadata or {}).get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{path!r} is Parquet but no trace file: import it first: suffice traces import "
            f"{path} --out traces.parquet"
        )
    try:
        return TraceInformation.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "description"
        raise InputError(
            f"{path!r} describes itself in a way this version cannot read ({where}: "
            f"{first['msg']}); it reads schema version {SCHEMA_VERSION}"
        ) from None


def check_schema(found: Any, path: str) -> None:
    """Raise InputError unless every column is there with its type."""
    pa = arrow()
    wanted = schema()
    lacking = [name for name in wanted.names if name not in found.names]
    if lacking:
        raise InputError(f"trace file {path!r} lacks the columns {', '.join(lacking)}")
    for name in wanted.names:
        given, due = found.field(name).type, wanted.field(name).type
        if pa.types.is_dictionary(given):
            given = given.value_type
        if given != due and not (pa.types.is_large_string(given) and pa.types.is_string(due)):
            raise InputError(f"trace file {path!r} has {given} in column {name}, {due} is needed")
