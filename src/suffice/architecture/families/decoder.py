"""Layers of the usual kind, read from the usual keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from suffice.architecture.families.parts import (
    NOTHING,
    attention,
    experts,
    gated_mlp,
    linear,
    mlp,
    norm,
    vectors,
)
from suffice.architecture.model import Block, Experts, Mixer, Model, Part, runs_of
from suffice.architecture.settings import Settings
from suffice.core.errors import ConfigError

Feed = Part | Experts
# What a setting decides: always, never, or as the key of this name says.
Switch = bool | str


def switched(s: Settings, switch: Switch) -> bool:
    """Whether `switch` is on."""
    return s.flag(switch) if isinstance(switch, str) else switch


def hidden(s: Settings) -> int:
    """Width of the residual stream."""
    return s.size("hidden_size")


def depth(s: Settings) -> int:
    """Number of layers."""
    return s.size("num_hidden_layers")


def head_width(s: Settings, *, exact: bool = True) -> int:
    """Explicit head_dim, or hidden_size over heads; `exact` False where the family rounds down."""
    explicit = s.maybe("head_dim")
    if explicit is not None:
        return explicit
    d, heads = hidden(s), s.size("num_attention_heads")
    if exact and d % heads:
        raise ConfigError(
            f"hidden_size ({d}) is not a multiple of num_attention_heads ({heads}) and the config "
            "gives no head_dim: add head_dim, or correct one of the two"
        )
    return d // heads


def layer_kinds(s: Settings, otherwise: Callable[[int], str] | None = None) -> tuple[str, ...]:
    """The kind of each layer: `layer_types` where given, else what the family does."""
    layers = depth(s)
    named = s.names("layer_types", layers)
    if named is None:
        choose = otherwise or (lambda _: "full_attention")
        named = tuple(choose(i) for i in range(layers))
    return tuple(_NEWER_NAMES.get(name, name) for name in named)


_NEWER_NAMES = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
    "qwen_sparse_attention": "indexed_attention",
}


def every(period: int, special: str, usual: str) -> Callable[[int], str]:
    """Every `period`-th layer is special; none where the period is 0."""
    return lambda i: special if period and (i + 1) % period == 0 else usual


def sliding_pattern(
    s: Settings, period: int, key: str = "sliding_window_pattern"
) -> Callable[[int], str]:
    """Which layers slide: all but every n-th, or as letters say, "LLLG" over and over.

    L is a local layer, G a global one. Checkpoints write either under the same key.
    """
    value = s.get(key)
    if not isinstance(value, str):
        return every(s.count(key, period), "full_attention", "sliding_attention")
    letters = value.upper()
    if not letters or set(letters) - {"L", "G"}:
        raise ConfigError(
            f"{key} {value!r} is not a pattern: a whole number, or letters L (local) and G (global)"
        )
    return lambda i: "full_attention" if letters[i % len(letters)] == "G" else "sliding_attention"


def windows(
    s: Settings, otherwise: Callable[[int], str] | None = None, *, key: str = "sliding_window"
) -> tuple[int | None, ...]:
    """The window of each layer, None where it attends to everything."""
    size = s.maybe(key)
    return tuple(
        size if kind in ("sliding_attention", "chunked_attention") else None
        for kind in layer_kinds(s, otherwise)
    )


def grouped(
    s: Settings,
    window: int | None = None,
    *,
    qkv_bias: Switch = False,
    output_bias: Switch | None = None,
    qk_norm: str = "none",
    gate: int = 0,
    sinks: bool = False,
    extra: Part = NOTHING,
    head_dim: int | None = None,
    kv_heads: int | None = None,
    own_keys: bool = True,
    own_values: bool = True,
    chunked: bool = False,
) -> Mixer:
    """Grouped attention from the usual keys.

    `qk_norm`: "head", one scale of head_dim for queries and one for keys; "full", over the whole
    projections. `gate` is the width of an output gate. `output_bias` None: as queries have it.
    """
    d, heads = hidden(s), s.size("num_attention_heads")
    kv = kv_heads or s.size("num_key_value_heads", heads)
    width = head_dim or head_width(s)
    bias = switched(s, qkv_bias)
    more = extra
    if qk_norm == "head":
        more += vectors(2 * width if own_keys else width)
    elif qk_norm == "full":
        more += vectors((heads + kv) * width)
    if gate:
        more += linear(d, gate)
    if sinks:
        more += vectors(heads)
    return attention(
        d, heads, kv, width,
        query_bias=bias,
        output_bias=bias if output_bias is None else switched(s, output_bias),
        extra=more,
        window=window,
        own_keys=own_keys,
        own_values=own_values,
        kind="chunked attention" if chunked and window is not None else None,
    )  # fmt: skip


def dense(s: Settings, *, gated: bool = True, bias: Switch = False, key: str | None = None) -> Part:
    """The MLP from the usual keys."""
    return mlp(hidden(s), s.size(key or "intermediate_size"), gated=gated, bias=switched(s, bias))


def routed(
    s: Settings,
    *,
    count: str = "num_experts",
    per_token: str = "num_experts_per_tok",
    width: str = "moe_intermediate_size",
    shared: int = 0,
    shared_gate: bool = False,
    shared_bias: bool = False,
    gated: bool = True,
    bias: bool = False,
    router_bias: bool = False,
    extra: Part = NOTHING,
) -> Experts:
    """Experts from the usual keys; `shared` is the width of the part that every token meets."""
    d = hidden(s)
    always = extra
    if shared:
        always += mlp(d, shared, gated=gated, bias=shared_bias)
        always += linear(d, 1, "none") if shared_gate else NOTHING
    return experts(
        d, s.size(width), s.size(count), s.size(per_token),
        gated=gated, bias=bias, router_bias=router_bias, shared=always,
    )  # fmt: skip


def feeds(s: Settings, sparse: Callable[[int], bool], mlp_part: Part, moe: Experts) -> list[Feed]:
    """An MLP or experts for each layer."""
    return [moe if sparse(i) else mlp_part for i in range(depth(s))]


def sparse_kinds(s: Settings, otherwise: Callable[[int], bool]) -> Callable[[int], bool]:
    """Where experts are: as `mlp_layer_types` says, else as the family has them."""
    named = s.names("mlp_layer_types", depth(s))
    return otherwise if named is None else (lambda i: named[i] != "dense")


def decoder(
    s: Settings,
    mixers: Mixer | Sequence[Mixer | tuple[Mixer, ...]],
    feed: Feed | Sequence[Feed],
    *,
    norms: int = 2,
    norm_bias: bool = False,
    final_norm: Part | None = None,
    layer: Part | Sequence[Part] = NOTHING,
    body: Part = NOTHING,
    lookup: int = 0,
    head_bias: bool = False,
) -> Model:
    """A model of `norms` norms, a mixer and an MLP or experts per layer."""
    d, layers = hidden(s), depth(s)
    every_layer = Part((), norms * d * (2 if norm_bias else 1))
    blocks = []
    for i in range(layers):
        mixer = mixers if isinstance(mixers, Mixer) else mixers[i]
        fed = feed if isinstance(feed, Part | Experts) else feed[i]
        rest = layer if isinstance(layer, Part) else layer[i]
        blocks.append(
            Block(
                mixers=(mixer,) if isinstance(mixer, Mixer) else mixer,
                mlp=fed if isinstance(fed, Part) else NOTHING,
                experts=(fed,) if isinstance(fed, Experts) else (),
                rest=every_layer + rest,
            )
        )
    last = norm(d, bias=norm_bias) if final_norm is None else final_norm
    return assembled(s, blocks, body=body + last, lookup=lookup, head_bias=head_bias)


def assembled(
    s: Settings,
    blocks: Sequence[Block],
    *,
    body: Part,
    lookup: int = 0,
    head_bias: bool = False,
    head_inputs: int | None = None,
    embedding: int | None = None,
    tied: bool | None = None,
) -> Model:
    """A model of these layers between an embedding and an output matrix of the usual size."""
    d, vocabulary = hidden(s), s.size("vocab_size")
    return Model(
        model_type=str(s.get("model_type", "")),
        hidden_size=d,
        vocab_size=vocabulary,
        runs=runs_of(blocks),
        lookup=vocabulary * (embedding or d) + lookup,
        head=linear(head_inputs or d, vocabulary, bias=head_bias),
        tied=s.flag("tie_word_embeddings") if tied is None else tied,
        body=body,
        max_context=s.maybe("max_position_embeddings"),
    )


__all__ = [
    "Feed", "Switch", "assembled", "decoder", "dense", "depth", "every", "feeds", "gated_mlp",
    "grouped", "head_width", "hidden", "layer_kinds", "routed", "sparse_kinds", "switched",
    "windows",
]  # fmt: skip
