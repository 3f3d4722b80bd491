"""Results of runs: append-only JSONL that survives a kill at any byte, and its Parquet copy."""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from suffice.core.errors import InputError, MissingExtra, TableError
from suffice.core.files import disk_full_is_an_error

Status = Literal["finished", "diverged", "out_of_memory", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run as it ended. Losses are nats per token on held-out text; None if it did not end well.

    `N` counts attention and MLP matrices alone; `tokens` are those trained on. `model_flops` is the
    matmul work of training (forward and backward), for utilisation.
    """

    run_id: str
    status: Status
    purpose: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    non_embedding_parameters: int
    total_parameters: int
    x: float
    r: float
    kv_share: float
    tokens: int
    steps: int
    batch_tokens: int
    epochs: float
    seed: int
    learning_rate_factor: float
    peak_learning_rate: float
    precision: str
    recipe: str
    data: str
    loss: float | None
    loss_per_byte: float | None
    train_loss: float | None
    evaluations: tuple[tuple[int, float], ...] = ()
    model_flops: float = 0.0
    wall_s: float = 0.0
    tokens_per_s: float = 0.0
    resumes: int = 0
    world_size: int = 1
    device: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    finished_at: str = ""
    error: str | None = None


class RunStore:
    """The JSONL file of a ladder. One writer at a time; readers need no lock.

    With `writes` false nothing is written: the other ranks of a distributed run hold such a store.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes

    def read(self) -> list[RunRecord]:
        """All records, in order of writing; the last one of a run wins over its earlier ones."""
        if not self.path.exists():
            return []
        records: dict[str, RunRecord] = {}
        lines = self.path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            # Without its line end the last line was cut short by a kill: that run repeats.
            if not line or number == len(lines):
                continue
            record = self._parse(line, number)
            records.pop(record.run_id, None)
            records[record.run_id] = record
        return list(records.values())

    def append(self, record: RunRecord) -> None:
        """Add one line and flush it to the disk."""
        if not self._writes:
            return
        line = json.dumps(asdict(record), allow_nan=False, ensure_ascii=False) + "\n"
        with disk_full_is_an_error(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as stream:
                start = self._drop_partial_line(stream)
                try:
                    stream.write(line.encode())
                    stream.flush()
                    os.fsync(stream.fileno())
                except OSError:
                    os.ftruncate(stream.fileno(), start)
                    raise

    def done(self) -> set[str]:
        """Runs that need not be made again: all but those that failed for outside reasons."""
        return {
            r.run_id for r in self.read() if r.status in ("finished", "diverged", "out_of_memory")
        }

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for one writer; a second one gets an error instead of a mixed file."""
        if not self._writes:
            yield
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"another process is writing {str(self.path)!r}: wait for it, or use another "
                    "--store"
                ) from None
            yield

    def write_parquet(self, path: Path) -> None:
        """The same records as a Parquet table."""
        try:
            import pyarrow as pa  # noqa: PLC0415
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ImportError:
            raise MissingExtra.of("pyarrow", "parquet", "writing Parquet") from None
        rows = [_flat(record) for record in self.read()]
        with disk_full_is_an_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path)

    def _parse(self, line: str, number: int) -> RunRecord:
        where = f"run store {str(self.path)!r}, line {number}"
        try:
            row = json.loads(line)
            known = {f.name for f in fields(RunRecord)}
            if unknown := set(row) - known:
                raise TableError(f"{where} has unknown fields {', '.join(sorted(unknown))}")
            row["evaluations"] = tuple((int(t), float(v)) for t, v in row["evaluations"])
            return RunRecord(**row)
        except (json.JSONDecodeError, TypeError, KeyError, ValueError) as error:
            if isinstance(error, TableError):
                raise
            raise TableError(f"{where} is not a run record: {error}") from None

    @staticmethod
    def _drop_partial_line(stream: Any) -> int:
        """End of the last whole line; whatever a kill left after it is cut off."""
        size = stream.seek(0, os.SEEK_END)
        if size == 0:
            return 0
        stream.seek(max(0, size - (1 << 20)))
        tail = stream.read()
        whole = size - (len(tail) - (tail.rfind(b"\n") + 1))
        if whole != size:
            os.ftruncate(stream.fileno(), whole)
        stream.seek(0, os.SEEK_END)
        return int(whole)


def finite(value: float) -> float | None:
    """`value`, or None where JSON could not hold it."""
    return value if math.isfinite(value) else None


def _flat(record: RunRecord) -> dict[str, Any]:
    row = asdict(record)
    row["evaluation_tokens"] = [t for t, _ in record.evaluations]
    row["evaluation_losses"] = [v for _, v in record.evaluations]
    row["versions"] = json.dumps(dict(record.versions), sort_keys=True)
    del row["evaluations"]
    return row
