"""A language model of any architecture, reduced to what its size, memory and speed depend on.

`Shape` is a uniform dense decoder and what a search varies. A `Model` is what people serve: layers
that differ, experts, latent attention, recurrent state, quantised weights. Every count is a sum
over its parts, each of which is a list of matrices and a number of single values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from suffice.architecture.weight_format import PLAIN, WeightFormat

# How devices share a matrix under tensor parallelism: by output columns, by input rows, by KV
# heads (copied beyond their number), or not at all.
Split = Literal["outputs", "inputs", "kv", "none"]
MixerKind = Literal[
    "full attention", "sliding attention", "chunked attention", "latent attention",
    "sparse attention", "index", "compressed attention", "linear attention", "state space",
    "recurrent", "convolution", "cross attention",
]  # fmt: skip


class Matrix(NamedTuple):
    """A weight matrix that each token is multiplied with; `ways` bounds a "kv" split."""

    inputs: int
    outputs: int
    split: Split = "none"
    ways: int = 0

    @property
    def values(self) -> int:
        """Weights in it."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class Part:
    """Matrices and, in `vectors`, all other weights: norms, biases, convolutions, decays."""

    matrices: tuple[Matrix, ...] = ()
    vectors: int = 0

    def __add__(self, other: Part) -> Part:
        return Part(self.matrices + other.matrices, self.vectors + other.vectors)

    @property
    def matrix_values(self) -> int:
        """Weights that a token is multiplied with."""
        return sum(matrix.values for matrix in self.matrices)

    @property
    def values(self) -> int:
        """All weights."""
        return self.matrix_values + self.vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """What moves information between tokens in a layer, and what it remembers of a sequence.

    A token adds `cached` values to the cache, once per `stride` tokens, kept for the last `window`
    tokens (None: for all). `cache_heads` is how many ways devices can share them. A decoded token
    reads at most `selected` of the entries. One pair of a query and an entry costs `pair_flops`
    when decoded and `prefill_pair_flops` in a prefill, on all devices together; `token_flops` come
    on top per token. `state` values are held per sequence whatever its length; in a decode step
    they are read and written.
    """

    kind: MixerKind
    part: Part
    cached: int = 0
    cache_heads: int = 1
    window: int | None = None
    stride: int = 1
    selected: int | None = None
    pair_flops: int = 0
    prefill_pair_flops: int = 0
    token_flops: int = 0
    state: int = 0
    state_heads: int = 1

    def entries(self, context: int) -> int:
        """Entries that are kept of a sequence of `context` tokens."""
        kept = context if self.window is None else min(context, self.window)
        return kept // self.stride

    def attended(self, context: int) -> int:
        """Entries that a decoded token attends to."""
        kept = self.entries(context)
        return kept if self.selected is None else min(kept, self.selected)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """`count` experts of which a token is multiplied with `per_token`.

    Every token meets the `router`, which engines keep at 16 bits, and the `shared` experts.
    """

    count: int
    per_token: int
    expert: Part
    router: Part = Part()
    shared: Part = Part()

    @property
    def always(self) -> Part:
        """What every token meets."""
        return self.router + self.shared

    @property
    def values(self) -> int:
        """All weights."""
        return self.count * self.expert.values + self.always.values


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer: mixers, MLPs, experts, and in `rest` its norms and whatever else it has."""

    mixers: tuple[Mixer, ...] = ()
    mlp: Part = Part()
    experts: tuple[Experts, ...] = ()
    rest: Part = Part()

    @property
    def values(self) -> int:
        """All weights of the layer."""
        mixing = sum(mixer.part.values for mixer in self.mixers)
        routed = sum(experts.values for experts in self.experts)
        return mixing + self.mlp.values + routed + self.rest.values


class Run(NamedTuple):
    """Equal layers: `layers` are computed, `stored` have weights of their own."""

    block: Block
    layers: int
    stored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A decoder.

    `lookup` counts the weights of which a token reads single rows: embeddings, learned positions.
    `head` is the output matrix, `tied` if it is the embedding itself and so is stored once. `body`
    holds what stands outside the layers, the last norm first of all. `draft` are the layers that
    predict further tokens, loaded only to speculate; transformers leaves them out of its count.
    """

    model_type: str
    hidden_size: int
    vocab_size: int
    runs: tuple[Run, ...]
    lookup: int
    head: Part
    tied: bool
    body: Part = Part()
    draft: tuple[Run, ...] = ()
    max_context: int | None = None
    name: str | None = field(default=None, compare=False)
    weights: WeightFormat = PLAIN
    left_out: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def layers(self) -> int:
        """Layers that a token passes through."""
        return sum(run.layers for run in self.runs)

    def renamed(self, name: str | None) -> Model:
        """The same model under another name."""
        return replace(self, name=name)

    def __str__(self) -> str:
        return f"{self.name or self.model_type}: {describe_layers(self)}"


def runs_of(blocks: Iterable[Block]) -> tuple[Run, ...]:
    """Equal layers put together, in the order in which they first occur."""
    counted: dict[Block, int] = {}
    for block in blocks:
        counted[block] = counted.get(block, 0) + 1
    return tuple(Run(block, count, count) for block, count in counted.items())


def describe_layers(model: Model) -> str:
    """The layers in words: "48 layers: 36 linear attention, 12 full attention; 48 of experts"."""
    kinds: dict[str, int] = {}
    sparse = 0
    for run in model.runs:
        names: Sequence[str] = [mixer.kind for mixer in run.block.mixers if mixer.kind != "index"]
        label = " + ".join(dict.fromkeys(names))
        if label:
            kinds[label] = kinds.get(label, 0) + run.layers
        sparse += run.layers if run.block.experts else 0
    text = f"{model.layers} layers: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    return f"{text}; {sparse} with experts" if sparse else text
