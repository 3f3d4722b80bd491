"""A table of training runs: read, mapped to known columns, and checked before anything uses it.

loss  nats   N  parameters   D  tokens   x = d / sqrt(N)   r = MLP / attention parameters
width_per_layer = hidden_size / num_hidden_layers   weight  how much a run counts
loss_opt  best loss at the run's N and D, nats   scale, shape  labels of groups of runs
C training FLOPs   flops_per_token  of training; 6 N where it is not given
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suffice.architecture.run_tables import Row, table_rows
from suffice.core.arrays import FloatArray
from suffice.core.errors import TableError, UnknownName

NUMERIC = (
    "loss", "N", "D", "C", "x", "r", "width_per_layer", "tokens_per_parameter", "weight",
    "loss_opt", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "gqa", "flops_per_token",
)  # fmt: skip
LABELS = ("scale", "shape", "seed")

# Names that tables in the wild use, folded to lower case. A name with two meanings is not here.
_ALIASES = {
    "val_loss": "loss", "valid_loss": "loss", "train_loss": "loss", "final_loss": "loss",
    "params": "N", "parameters": "N", "num_parameters": "N", "n_nonembed": "N",
    "non_embedding_parameters": "N", "model size": "N",
    "tokens": "D", "training_tokens": "D", "num_tokens": "D",
    "flops": "C", "training flop": "C", "training_flops": "C",
    "d_model": "hidden_size", "width": "hidden_size",
    "n_layers": "num_hidden_layers", "depth": "num_hidden_layers", "layers": "num_hidden_layers",
    "f_size": "intermediate_size", "d_ff": "intermediate_size", "ffn_size": "intermediate_size",
    "n_heads": "num_attention_heads", "n_kv_heads": "num_key_value_heads",
    "d_head": "head_dim", "mlp_to_attention_ratio": "r", "l_opt": "loss_opt",
}  # fmt: skip

# Far beyond any language model's loss in nats: a perplexity or a percentage in the wrong column.
_LARGEST_LOSS_NATS = 30.0
_LARGEST = 1e40


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsTable:
    """Checked runs: `numbers` are float64 columns, `labels` text columns, all of one length."""

    numbers: Mapping[str, FloatArray]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = "memory"
    sha256: str = ""
    row_numbers: tuple[int, ...] = ()  # in the file, from 1; empty: counted from 1 here
    notes: tuple[str, ...] = ()  # what was done to the rows: belongs to every output

    def __len__(self) -> int:
        return int(self.numbers["loss"].shape[0])

    def column(self, name: str) -> FloatArray:
        """The column `name`, given or derived from others; TableError says what would give it."""
        if name in self.numbers:
            return self.numbers[name]
        derived = _derive(self.numbers, name)
        if derived is None:
            raise TableError(
                f"{self.source}: no column {name!r}{_HINTS.get(name, '')}; columns are "
                f"{', '.join(self.numbers)}. Map one with --map {name}=YOUR_COLUMN"
            )
        return derived

    def has(self, name: str) -> bool:
        """Whether `column(name)` would succeed."""
        return name in self.numbers or _derive(self.numbers, name) is not None

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> RunsTable:
        """The runs at `rows` (a mask or positions)."""
        positions = np.arange(len(self))[rows]
        return RunsTable(
            numbers={name: column[positions] for name, column in self.numbers.items()},
            labels={n: tuple(column[i] for i in positions) for n, column in self.labels.items()},
            source=self.source,
            sha256=self.sha256,
            row_numbers=tuple(self.row(i) for i in positions),
            notes=self.notes,
        )

    def row(self, position: int) -> int:
        """The number of a run's row in the file, from 1."""
        return self.row_numbers[position] if self.row_numbers else int(position) + 1

    def best_per(self, names: Sequence[str]) -> RunsTable:
        """The run with the lowest loss of each combination of columns; a note says so.

        For sweeps of learning rate, batch size or seed, of which a law wants the best.
        """
        keys = np.stack([self.column(name) for name in names], axis=1)
        _, group = np.unique(keys, axis=0, return_inverse=True)
        loss = self.column("loss")
        best: dict[int, int] = {}
        for position, number in enumerate(group.reshape(-1).tolist()):
            if number not in best or loss[position] < loss[best[number]]:
                best[number] = position
        kept = self.take(np.array(sorted(best.values()), dtype=np.intp))
        note = f"kept the best run of each {', '.join(names)}: {len(kept)} of {len(self)} rows"
        return replace(kept, notes=(*self.notes, note))

    def with_flops_per_token(self, per_parameter: float) -> RunsTable:
        """The table with FLOPs per token = `per_parameter` N, which D = C / that follows from."""
        if not np.isfinite(per_parameter) or per_parameter <= 0:
            raise TableError(f"FLOPs per token and parameter must be positive, got {per_parameter}")
        numbers = dict(self.numbers) | {"flops_per_token": per_parameter * self.column("N")}
        return replace(self, numbers=numbers)

    def with_seed_weights(self) -> RunsTable:
        """The table with weights from how far repeated runs scatter, by size; a note says so.

        Runs equal in every column that we know but loss and seed are repeats. A size with three and
        more degrees of freedom counts by one over its own variance of ln loss, other sizes by one
        over that of all repeats.
        """
        spread = _repeat_variances(self)
        weights = np.array([1.0 / spread.get(size, spread[None]) for size in _sizes(self)])
        weights /= weights.mean()
        sds = ", ".join(
            f"{'others' if size is None else f'N {size:.3g}'} {100 * np.sqrt(value):.2g} %"
            for size, value in spread.items()
        )
        note = f"runs are weighed by the scatter of repeats, sd of ln loss: {sds}"
        return replace(self, numbers={**self.numbers, "weight": weights}, notes=(*self.notes, note))

    @property
    def assumed_tokens(self) -> bool:
        """Whether D was made up as C / (6 N)."""
        return not ({"D", "tokens_per_parameter", "flops_per_token"} & self.numbers.keys()) and (
            self.has("D")
        )

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Row],
        *,
        columns: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
        extra: Sequence[str] = (),
        source: str = "memory",
        sha256: str = "",
    ) -> RunsTable:
        """Runs from dictionaries; `columns` maps our names to theirs, `where` keeps equal rows.

        `extra` names numeric columns beyond the known ones, of any sign: variables of a family.
        """
        kept = [(i, row) for i, row in enumerate(rows, start=1) if _keeps(row, where, source)]
        if not kept:
            raise TableError(
                f"{source}: no rows{' match ' + str(dict(where)) if where else ''}; "
                "at least one run with a loss is needed"
            )
        present = [str(name) for name in kept[0][1]]
        names = _resolve(present, columns or {}, source, (*NUMERIC, *LABELS, *extra))
        if "loss" not in names:
            raise TableError(
                f"{source}: no column 'loss' (nats); columns are {', '.join(kept[0][1])}. "
                "Map one with --map loss=YOUR_COLUMN"
            )
        numbers = {
            ours: np.array([_number(row.get(theirs), ours, theirs, i, source) for i, row in kept])
            for ours, theirs in names.items()
            if ours in NUMERIC or ours in extra
        }
        # A column that is empty throughout is as good as absent; `loss` was required above.
        numbers = {n: c for n, c in numbers.items() if n == "loss" or not np.isnan(c).all()}
        labels = {
            ours: tuple(str(row.get(theirs, "")) for _, row in kept)
            for ours, theirs in names.items()
            if ours in LABELS
        }
        _check(numbers, kept, names, source)
        rows_ = tuple(index for index, _ in kept)
        return cls(numbers=numbers, labels=labels, source=source, sha256=sha256, row_numbers=rows_)


def load_runs(
    path: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
) -> RunsTable:
    """Runs from CSV, TSV, JSONL or Parquet, or an embedded table by name (`morph`, `bian2025`)."""
    embedded = _EMBEDDED.get(str(path).lower())
    path = Path(path)
    if not path.exists() and embedded is not None:
        path = Path(str(files("suffice.architecture").joinpath(f"data/runs/{embedded}")))
    if not path.exists():
        if path.suffix:
            raise TableError(f"table of runs {str(path)!r} does not exist")
        raise UnknownName.of(
            "table of runs", str(path), _EMBEDDED,
            f"— a file ending in .csv, .tsv, .jsonl or .parquet, or {', '.join(_EMBEDDED)}",
        )  # fmt: skip
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TableError(f"table of runs {str(path)!r} cannot be read: {error.strerror}") from None
    return RunsTable.from_rows(
        table_rows(path, data),
        columns=columns,
        where=where,
        extra=extra,
        source=path.name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


_EMBEDDED = {"morph": "morph_runs.csv", "bian2025": "bian2025_final_models.csv"}

_FEWEST_FREEDOM = 3


def _sizes(runs: RunsTable) -> list[float]:
    return [float(v) for v in runs.column("N")] if runs.has("N") else [0.0] * len(runs)


def _repeat_variances(runs: RunsTable) -> dict[float | None, float]:
    """Variance of ln loss over repeats by N, where it is known; of all under None."""
    # What a run was, not what came out of it: other columns, as accuracies, differ between seeds.
    names = [n for n in runs.numbers if n in NUMERIC and n not in ("loss", "weight")]
    labels = [n for n in runs.labels if n != "seed"]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in range(len(runs)):
        key = (
            *(float(runs.numbers[n][row]) for n in names),
            *(runs.labels[n][row] for n in labels),
        )
        groups.setdefault(key, []).append(row)
    log_loss, size = np.log(runs.column("loss")), _sizes(runs)
    sums: dict[float | None, tuple[float, int]] = {None: (0.0, 0)}
    for rows in groups.values():
        squares = float(np.var(log_loss[rows])) * len(rows)
        for at in (size[rows[0]], None):
            total, freedom = sums.get(at, (0.0, 0))
            sums[at] = (total + squares, freedom + len(rows) - 1)
    total, freedom = sums[None]
    if freedom < _FEWEST_FREEDOM or total <= 0:
        raise TableError(
            f"{runs.source}: {freedom} repeats beyond the first are too few for weights by seed: "
            "at least three runs must be equal in all but loss and seed"
        )
    found: dict[float | None, float] = {
        at: total / freedom
        for at, (total, freedom) in sums.items()
        if at is not None and freedom >= _FEWEST_FREEDOM and total > 0
    }
    return {**found, None: total / freedom}


_HINTS = {
    "D": " (or tokens_per_parameter with N, or training FLOPs C with N)",
    "x": " (or hidden_size with the non-embedding N)",
    "r": " (or intermediate_size, num_attention_heads, num_key_value_heads, head_dim)",
    "N": " (parameters)",
    "width_per_layer": " (or hidden_size with num_hidden_layers)",
    "kv_share": " (or num_attention_heads with num_key_value_heads)",
    "layers": " (or num_hidden_layers)",
}


def _derive(numbers: Mapping[str, FloatArray], name: str) -> FloatArray | None:
    for needed, formula in _DERIVED.get(name, ()):
        if set(needed) <= numbers.keys():
            result: FloatArray = formula(*(numbers[column] for column in needed))
            return result
    return None


def _mlp_to_attention(
    intermediate: FloatArray, heads: FloatArray, kv_heads: FloatArray, head_dim: FloatArray
) -> FloatArray:
    """r of a gated MLP: 3 f / (2 (d_q + d_kv)), arXiv:2510.18245."""
    return 3.0 * intermediate / (2.0 * (heads + kv_heads) * head_dim)


_HEADS = ("num_attention_heads", "num_key_value_heads")
# For each column, the columns it follows from and how; the first set that is present counts.
_DERIVED: Mapping[str, tuple[tuple[tuple[str, ...], Callable[..., FloatArray]], ...]] = {
    "D": (
        (("N", "tokens_per_parameter"), lambda n, ratio: n * ratio),
        (("flops_per_token", "C"), lambda per_token, c: c / per_token),
        (("N", "C"), lambda n, c: c / (6.0 * n)),
    ),
    "x": ((("hidden_size", "N"), lambda d, n: d / np.sqrt(n)),),
    "width_per_layer": ((("hidden_size", "num_hidden_layers"), lambda d, layers: d / layers),),
    "r": ((("intermediate_size", *_HEADS, "head_dim"), _mlp_to_attention),),
    "gqa": ((_HEADS, lambda heads, kv_heads: heads / kv_heads),),
    "kv_share": ((_HEADS, lambda heads, kv_heads: kv_heads / heads),),
    "layers": ((("num_hidden_layers",), lambda layers: layers),),
}


def _resolve(
    present: Sequence[str], columns: Mapping[str, str], source: str, known: Sequence[str]
) -> dict[str, str]:
    names: dict[str, str] = {}
    for ours, theirs in columns.items():
        if ours not in known:
            raise TableError(
                f"--map {ours}={theirs}: {ours!r} is not a known column; known are "
                f"{', '.join(known)}"
            )
        if theirs not in present:
            raise TableError(
                f"{source}: no column {theirs!r} for {ours}; columns are {', '.join(present)}"
            )
        names[ours] = theirs
    for exact in known:
        if exact in present:
            names.setdefault(exact, exact)
    for theirs in present:
        ours = _ALIASES.get(theirs.strip().lower(), "")
        taken = theirs in names.values() or theirs in known
        if not ours or taken or ours in columns:
            continue
        if ours in names and names[ours] != ours:
            raise TableError(
                f"{source}: both {names[ours]!r} and {theirs!r} could be {ours}; say which with "
                f"--map {ours}={theirs}"
            )
        names.setdefault(ours, theirs)
    return names


def _keeps(row: Row, where: Mapping[str, str] | None, source: str) -> bool:
    for name, wanted in (where or {}).items():
        if name not in row:
            raise TableError(f"{source}: no column {name!r} to select by; columns are {list(row)}")
        if str(row[name]).strip().lower() != wanted.strip().lower():
            return False
    return True


def _number(value: Any, ours: str, theirs: str, row: int, source: str) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        if ours == "loss":
            raise TableError(f"{source}: row {row} has no {theirs!r}; drop it or fill it in")
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TableError(
            f"{source}: row {row}, column {theirs!r}: {value!r} is not a number"
        ) from None
    if not math.isfinite(number):
        raise TableError(
            f"{source}: row {row}, column {theirs!r} is {number}: drop runs that diverged"
        )
    if ours not in NUMERIC:
        return number
    if number < 0 or (number == 0 and ours != "weight") or number > _LARGEST:
        raise TableError(
            f"{source}: row {row}, column {theirs!r} is {number:g}: {ours} must be positive"
        )
    if ours in ("loss", "loss_opt") and number > _LARGEST_LOSS_NATS:
        raise TableError(
            f"{source}: row {row}, column {theirs!r} is {number:g}: a loss in nats stays under "
            f"{_LARGEST_LOSS_NATS:g}; is it a perplexity?"
        )
    return number


def _check(
    numbers: Mapping[str, FloatArray],
    kept: Sequence[tuple[int, Row]],
    names: Mapping[str, str],
    source: str,
) -> None:
    for name, column in numbers.items():
        missing = np.flatnonzero(np.isnan(column))
        if missing.size:
            raise TableError(
                f"{source}: row {kept[missing[0]][0]} has no {names[name]!r} while other rows do; "
                "fill it in or drop the row"
            )
    seen: dict[tuple[str, ...], int] = {}
    for index, row in kept:
        # The whole row: equal shapes with different losses are repeats, which a fit wants.
        key = tuple(str(value) for value in row.values())
        if key in seen:
            raise TableError(
                f"{source}: rows {seen[key]} and {index} are the same; drop one, or add a seed "
                "column if they are two runs"
            )
        seen[key] = index
