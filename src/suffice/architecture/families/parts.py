"""The parts that layers are made of, each from its dimensions.

d  hidden_size    h  heads    k  KV heads    e  head_dim    f  MLP width    B, C  state width
"""

from __future__ import annotations

from suffice.architecture.model import Experts, Matrix, Mixer, MixerKind, Part, Split
from suffice.core.errors import ConfigError

NOTHING = Part()


def linear(inputs: int, outputs: int, split: Split = "outputs", *, bias: bool = False) -> Part:
    """One matrix, with a bias or without."""
    return Part((Matrix(inputs, outputs, split),), outputs if bias else 0)


def vectors(values: int) -> Part:
    """Weights that are no matrix."""
    return Part((), values)


def norm(width: int, *, bias: bool = False) -> Part:
    """A norm's scale, and its shift if it has one."""
    return Part((), width * (2 if bias else 1))


def gated_mlp(d: int, f: int, *, bias: bool = False) -> Part:
    """Gate, up and down: 3 d f."""
    biases = (2 * f + d) if bias else 0
    up = Matrix(d, f, "outputs")
    return Part((up, up, Matrix(f, d, "inputs")), biases)


def plain_mlp(d: int, f: int, *, bias: bool = False) -> Part:
    """Up and down: 2 d f."""
    return Part((Matrix(d, f, "outputs"), Matrix(f, d, "inputs")), (f + d) if bias else 0)


def mlp(d: int, f: int, *, gated: bool = True, bias: bool = False) -> Part:
    """An MLP of either kind."""
    return gated_mlp(d, f, bias=bias) if gated else plain_mlp(d, f, bias=bias)


def attention(
    d: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    *,
    value_dim: int | None = None,
    inputs: int | None = None,
    query_bias: bool = False,
    key_bias: bool | None = None,
    value_bias: bool | None = None,
    output_bias: bool = False,
    extra: Part = NOTHING,
    window: int | None = None,
    kind: MixerKind | None = None,
    own_keys: bool = True,
    own_values: bool = True,
) -> Mixer:
    """Multi-head attention with grouped KV heads; `value_dim` where values are of another width.

    `own_keys` False: the layer attends to another layer's cache. `own_values` False: keys serve as
    values too. `inputs` is the width that is projected where it is not d.
    """
    if heads % kv_heads:
        raise ConfigError(
            f"num_attention_heads ({heads}) must be a multiple of num_key_value_heads "
            f"({kv_heads}): each KV head serves a whole number of query heads"
        )
    value_dim = head_dim if value_dim is None else value_dim
    inputs = d if inputs is None else inputs
    key_bias = query_bias if key_bias is None else key_bias
    value_bias = query_bias if value_bias is None else value_bias
    part = linear(inputs, heads * head_dim, bias=query_bias) + extra
    if own_keys:
        part += _kv(inputs, kv_heads, head_dim, bias=key_bias)
        if own_values:
            part += _kv(inputs, kv_heads, value_dim, bias=value_bias)
    part += linear(heads * value_dim, d, "inputs", bias=output_bias)
    pair = 2 * heads * (head_dim + value_dim)
    return Mixer(
        kind=kind or ("full attention" if window is None else "sliding attention"),
        part=part,
        cached=kv_heads * (head_dim + value_dim) if own_keys else 0,
        cache_heads=kv_heads,
        window=window,
        pair_flops=pair,
        prefill_pair_flops=pair,
    )


def _kv(inputs: int, kv_heads: int, width: int, *, bias: bool) -> Part:
    outputs = kv_heads * width
    return Part((Matrix(inputs, outputs, "kv", kv_heads),), outputs if bias else 0)


def latent_attention(
    d: int,
    heads: int,
    *,
    query_rank: int | None,
    cache_rank: int,
    plain_dim: int,
    rotary_dim: int,
    value_dim: int,
    bias: bool = False,
    extra: Part = NOTHING,
    window: int | None = None,
    selected: int | None = None,
) -> Mixer:
    """Multi-head latent attention: a token caches `cache_rank` + `rotary_dim` values in all.

    Decoded with the up-projections absorbed into query and output, so that the scores are taken in
    the latent space; prefilled with them applied. Reference: arXiv:2405.04434, section 2.1.
    """
    head = plain_dim + rotary_dim
    part = Part()
    if query_rank is None:
        part += linear(d, heads * head)
    else:
        part += linear(d, query_rank, "none", bias=bias) + norm(query_rank)
        part += linear(query_rank, heads * head)
    part += linear(d, cache_rank + rotary_dim, "none", bias=bias) + norm(cache_rank)
    part += linear(cache_rank, heads * (plain_dim + value_dim))
    part += linear(heads * value_dim, d, "inputs", bias=bias) + extra
    return Mixer(
        kind="latent attention" if selected is None else "sparse attention",
        part=part,
        cached=cache_rank + rotary_dim,
        cache_heads=1,
        window=window,
        selected=selected,
        pair_flops=2 * heads * (2 * cache_rank + rotary_dim),
        prefill_pair_flops=2 * heads * (head + value_dim),
    )


def indexer(d: int, query_inputs: int, heads: int, head_dim: int) -> Mixer:
    """The small attention that picks which entries sparse attention reads (DeepSeek-V3.2)."""
    part = linear(query_inputs, heads * head_dim, "none") + linear(d, head_dim, "none")
    part += norm(head_dim, bias=True) + linear(d, heads, "none")
    return Mixer(
        kind="index",
        part=part,
        cached=head_dim,
        pair_flops=2 * heads * head_dim,
        prefill_pair_flops=2 * heads * head_dim,
    )


def experts(
    d: int,
    width: int,
    count: int,
    per_token: int,
    *,
    gated: bool = True,
    bias: bool = False,
    router_bias: bool = False,
    router: Part | None = None,
    shared: Part = NOTHING,
) -> Experts:
    """Routed experts of `width`, their router and the shared part."""
    if count < 1 or not 1 <= per_token <= max(count, 1):
        raise ConfigError(
            f"experts per token ({per_token}) must lie between 1 and the number of experts "
            f"({count})"
        )
    if router is None:
        router = linear(d, count, "none", bias=router_bias)
    return Experts(
        count=count,
        per_token=per_token,
        expert=mlp(d, width, gated=gated, bias=bias),
        router=router,
        shared=shared,
    )


def short_convolution(d: int, kernel: int, *, bias: bool = False) -> Mixer:
    """The gated short convolution of LFM2: in d to 3 d, a causal filter per channel, out."""
    part = linear(d, 3 * d, bias=bias) + linear(d, d, "inputs", bias=bias)
    part += vectors(d * (kernel + (1 if bias else 0)))
    return Mixer(
        kind="convolution", part=part, token_flops=2 * d * kernel, state=d * kernel, state_heads=d
    )


def mamba(
    d: int,
    inner: int,
    *,
    state: int,
    kernel: int,
    rank: int,
    bias: bool = False,
    conv_bias: bool = True,
    extra: Part = NOTHING,
) -> Mixer:
    """Mamba's selective scan: `inner` channels with a state of `state` values each.

    Reference: arXiv:2312.00752, section 3.
    """
    part = linear(d, 2 * inner, bias=bias)
    part += Part((Matrix(inner, rank + 2 * state, "inputs"),))
    part += linear(rank, inner, bias=True)
    part += linear(inner, d, "inputs", bias=bias)
    part += vectors(inner * (kernel + (1 if conv_bias else 0)))
    part += vectors(inner * state + inner) + extra
    return Mixer(
        kind="state space",
        part=part,
        token_flops=inner * (7 * state + 2 * kernel),
        state=inner * (state + kernel),
        state_heads=inner,
    )


def mamba2(
    d: int,
    inner: int,
    *,
    heads: int,
    groups: int,
    state: int,
    kernel: int,
    bias: bool = False,
    conv_bias: bool = True,
    gate_norm: bool = True,
) -> Mixer:
    """Mamba-2: `heads` heads of `inner` channels, B and C shared by groups.

    Reference: arXiv:2405.21060, section 7.
    """
    channels = inner + 2 * groups * state
    part = linear(d, inner + channels + heads, bias=bias)
    part += linear(inner, d, "inputs", bias=bias)
    part += vectors(channels * (kernel + (1 if conv_bias else 0)) + 3 * heads)
    part += vectors(inner if gate_norm else 0)
    return Mixer(
        kind="state space",
        part=part,
        token_flops=6 * inner * state + 2 * channels * kernel,
        state=inner * state + channels * kernel,
        state_heads=heads,
    )


def delta_net(
    d: int,
    *,
    key_heads: int,
    value_heads: int,
    key_dim: int,
    value_dim: int,
    kernel: int,
    extra: Part,
    decays: int,
) -> Mixer:
    """Gated delta rule (Qwen3-Next, OLMo Hybrid, Kimi Linear): one key-by-value matrix per head.

    Holds the query, key, value and output projections, the convolution and the output's norm;
    gates differ between families and come in `extra`, decay parameters in `decays`.
    Reference: arXiv:2412.06464.
    """
    keys, values = key_heads * key_dim, value_heads * value_dim
    channels = 2 * keys + values
    part = linear(d, channels) + linear(values, d, "inputs") + extra
    part += vectors(channels * kernel + value_dim + decays)
    return Mixer(
        kind="linear attention",
        part=part,
        token_flops=8 * value_heads * key_dim * value_dim + 2 * channels * kernel,
        state=value_heads * key_dim * value_dim + channels * kernel,
        state_heads=value_heads,
    )
