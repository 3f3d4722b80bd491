# ruff: noqa: PLR0917, PLR0915 - kernels take pointers and sizes by position, and are one body
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
"""Triton kernels of a decode step: every byte of weights and KV cache is read once.

    M  sequences in the batch      N, K  rows and columns of a weight matrix (output, input)
    D  head_dim                    G     query heads per KV head
    T  KV entries already cached   S     splits of T that are attended to in parallel

All arithmetic is in float32; values rest in the model's dtype. `PDL` is programmatic dependent
launch (compute capability 9.0): the next kernel's blocks start while this one drains, and wait
before they read what it wrote.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

# Stands in for -inf: a difference of two of them is 0, not NaN.
_LOWEST = tl.constexpr(-1.0e30)


@triton.jit
def gemv(
    x_ptr, w_ptr, norm_ptr, out_ptr, n, k, eps,
    NORM: tl.constexpr, GATED: tl.constexpr, ADD: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """out = W (RMSNorm) x for one token; SiLU-gated over the two halves of W, or added to out.

    The next tile of weights is loaded before the current one is used, and the first before the
    input is waited for: weights do not depend on the kernel that comes before.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    columns = tl.arange(0, BLOCK_K)
    inside = (rows < n)[:, None]
    tile = w_ptr + rows.to(tl.int64)[:, None] * k + columns[None, :]
    second = tile + n.to(tl.int64) * k
    w = tl.load(tile, mask=inside & (columns < k)[None, :], other=0.0)
    total = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    if GATED:
        u = tl.load(second, mask=inside & (columns < k)[None, :], other=0.0)
        total_up = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    squares = tl.zeros([BLOCK_K], tl.float32)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    for start in range(0, k, BLOCK_K):
        following = start + BLOCK_K + columns
        mask = inside & (following < k)[None, :]
        w_next = tl.load(tile + start + BLOCK_K, mask=mask, other=0.0)
        if GATED:
            u_next = tl.load(second + start + BLOCK_K, mask=mask, other=0.0)
        here = start + columns
        x = tl.load(x_ptr + here, mask=here < k, other=0.0).to(tl.float32)
        if NORM:
            squares += x * x
            x = x * tl.load(norm_ptr + here, mask=here < k, other=0.0).to(tl.float32)
        total += w.to(tl.float32) * x[None, :]
        w = w_next
        if GATED:
            total_up += u.to(tl.float32) * x[None, :]
            u = u_next
    y = tl.sum(total, axis=1)
    scale = 1.0
    if NORM:
        scale = tl.rsqrt(tl.sum(squares, axis=0) / k + eps)
        y *= scale
    if GATED:
        up = tl.sum(total_up, axis=1) * scale
        y = y / (1.0 + tl.exp(-y)) * up
    out = out_ptr + rows
    if ADD:
        y += tl.load(out, mask=rows < n, other=0.0).to(tl.float32)
    tl.store(out, y.to(out_ptr.dtype.element_ty), mask=rows < n)


@triton.jit
def skinny_matmul(
    x_ptr, w_ptr, norm_ptr, out_ptr, m, n, k, eps,
    NORM: tl.constexpr, GATED: tl.constexpr, ADD: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """The same as `gemv` for M tokens: weights stream through the matrix units as rows of 16.

    RMSNorm's scale is applied to the result, so that x is read once.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    tokens = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.arange(0, BLOCK_K)
    weights = w_ptr + rows.to(tl.int64)[:, None] * k
    up_weights = weights + n.to(tl.int64) * k
    inputs = x_ptr + tokens[None, :] * k
    total = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    if GATED:
        total_up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    squares = tl.zeros([BLOCK_M], tl.float32)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    for start in tl.range(0, k, BLOCK_K, num_stages=STAGES):
        here = start + columns
        mask = (rows < n)[:, None] & (here < k)[None, :]
        w = tl.load(weights + here[None, :], mask=mask, other=0.0)
        x = tl.load(
            inputs + here[:, None], mask=(tokens < m)[None, :] & (here < k)[:, None], other=0.0
        )
        if NORM:
            wide = x.to(tl.float32)
            squares += tl.sum(wide * wide, axis=0)
            norm = tl.load(norm_ptr + here, mask=here < k, other=0.0).to(tl.float32)
            x = (wide * norm[:, None]).to(x.dtype)
        total = tl.dot(w, x, total, input_precision="ieee")
        if GATED:
            u = tl.load(up_weights + here[None, :], mask=mask, other=0.0)
            total_up = tl.dot(u, x, total_up, input_precision="ieee")
    y = total
    if NORM:
        scale = tl.rsqrt(squares / k + eps)
        y *= scale[None, :]
    if GATED:
        up = total_up
        if NORM:
            up *= scale[None, :]
        y = y / (1.0 + tl.exp(-y)) * up
    out = out_ptr + tokens.to(tl.int64)[None, :] * n + rows[:, None]
    mask_out = (rows < n)[:, None] & (tokens < m)[None, :]
    if ADD:
        y += tl.load(out, mask=mask_out, other=0.0).to(tl.float32)
    tl.store(out, y.to(out_ptr.dtype.element_ty), mask=mask_out)


@triton.jit
def _rotated(row, norm_ptr, cos, sin, d, mask, eps, NORM: tl.constexpr, HEAD_DIM: tl.constexpr):
    """Rows of heads, normalised per head if asked, with rotary positions applied: [G, D]."""
    half: tl.constexpr = HEAD_DIM // 2
    partner = tl.where(d < half, d + half, d - half)
    x = tl.load(row + d[None, :], mask=mask, other=0.0).to(tl.float32)
    y = tl.load(row + partner[None, :], mask=mask, other=0.0).to(tl.float32)
    if NORM:
        scale = tl.rsqrt(tl.sum(x * x, axis=1) / HEAD_DIM + eps)[:, None]
        x = x * scale * tl.load(norm_ptr + d).to(tl.float32)[None, :]
        y = y * scale * tl.load(norm_ptr + partner).to(tl.float32)[None, :]
    sign = tl.where(d < half, -1.0, 1.0)
    return x * cos[None, :] + sign[None, :] * y * sin[None, :]


@triton.jit(do_not_specialize=["kv_heads", "group", "splits"])
def decode_attention(
    qkv_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, positions_ptr, q_norm_ptr, k_norm_ptr,
    out_ptr, partial_ptr, stats_ptr, kv_heads, group, splits, capacity, scale_log2, eps,
    QK_NORM: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_T: tl.constexpr,
    STAGES: tl.constexpr, SINGLE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Attention of one new token per sequence over its cached entries and itself.

    One program per (split of T, KV head, sequence). The query heads that share the KV head are the
    rows of the matrix product. T is read from `positions_ptr`, so that a captured graph can be
    replayed while the context grows. The last split also appends the new key and value.
    """
    split = tl.program_id(0)
    head = tl.program_id(1)
    sequence = tl.program_id(2)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    cached = tl.load(positions_ptr + sequence)
    heads = kv_heads * group
    d = tl.arange(0, HEAD_DIM)
    g = tl.arange(0, BLOCK_G)
    one = tl.arange(0, 1)
    angle = cached * (HEAD_DIM // 2) + d % (HEAD_DIM // 2)
    cos = tl.load(cos_ptr + angle)
    sin = tl.load(sin_ptr + angle)
    token = qkv_ptr + sequence.to(tl.int64) * (heads + 2 * kv_heads) * HEAD_DIM
    used = (g < group)[:, None]
    q_row = token + (head * group + g)[:, None] * HEAD_DIM
    q = _rotated(q_row, q_norm_ptr, cos, sin, d, used, eps, QK_NORM, HEAD_DIM)
    q = q.to(k_ptr.dtype.element_ty)
    k_row = token + (heads + head + one)[:, None] * HEAD_DIM
    k_new = _rotated(k_row, k_norm_ptr, cos, sin, d, (one == 0)[:, None], eps, QK_NORM, HEAD_DIM)
    k_new = k_new.to(k_ptr.dtype.element_ty)
    v_new = tl.load(token + (heads + kv_heads + head + one)[:, None] * HEAD_DIM + d[None, :])

    first = (sequence.to(tl.int64) * kv_heads + head) * capacity * HEAD_DIM
    last = split == splits - 1
    new = first + (cached + one)[:, None].to(tl.int64) * HEAD_DIM + d[None, :]
    mask_new = (one == 0)[:, None] & last
    tl.store(k_ptr + new, k_new, mask=mask_new)
    tl.store(v_ptr + new, v_new, mask=mask_new)

    # The last split starts from the new token, the others from nothing.
    own = tl.sum(q.to(tl.float32) * k_new.to(tl.float32), axis=1) * scale_log2
    highest = tl.where(last, own, _LOWEST)
    total = tl.where(last, tl.full([BLOCK_G], 1.0, tl.float32), 0.0)
    start_value = v_new.to(tl.float32) + tl.zeros([BLOCK_G, HEAD_DIM], tl.float32)
    mixed = tl.where(last, start_value, 0.0)

    share = tl.cdiv(tl.cdiv(cached, splits), 16) * 16
    begin = split * share
    end = tl.minimum(begin + share, cached)
    keys = k_ptr + first + d[:, None]
    values = v_ptr + first + d[None, :]
    for at in tl.range(begin, end, BLOCK_T, num_stages=STAGES):
        t = at + tl.arange(0, BLOCK_T)
        k = tl.load(keys + t[None, :] * HEAD_DIM, mask=(t < end)[None, :], other=0.0)
        scores = tl.dot(q, k, input_precision="ieee") * scale_log2
        scores = tl.where((t < end)[None, :], scores, _LOWEST)
        raised = tl.maximum(highest, tl.max(scores, axis=1))
        decay = tl.exp2(highest - raised)
        p = tl.exp2(scores - raised[:, None])
        total = total * decay + tl.sum(p, axis=1)
        v = tl.load(values + t[:, None] * HEAD_DIM, mask=(t < end)[:, None], other=0.0)
        mixed = tl.dot(p.to(v.dtype), v, mixed * decay[:, None], input_precision="ieee")
        highest = raised

    row = (sequence * heads + head * group + g).to(tl.int64)
    if SINGLE:
        result = (mixed / total[:, None]).to(out_ptr.dtype.element_ty)
        tl.store(out_ptr + row[:, None] * HEAD_DIM + d[None, :], result, mask=used)
    else:
        part = row * splits + split
        tl.store(partial_ptr + part[:, None] * HEAD_DIM + d[None, :], mixed, mask=used)
        tl.store(stats_ptr + 2 * part, highest, mask=g < group)
        tl.store(stats_ptr + 2 * part + 1, total, mask=g < group)


@triton.jit(do_not_specialize=["splits"])
def combine_splits(
    partial_ptr, stats_ptr, out_ptr, splits,
    HEAD_DIM: tl.constexpr, BLOCK_S: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Weighted sum of the splits of one query head of one sequence."""
    row = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK_S)
    d = tl.arange(0, HEAD_DIM)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    part = row * splits + s
    highest = tl.load(stats_ptr + 2 * part, mask=s < splits, other=_LOWEST)
    total = tl.load(stats_ptr + 2 * part + 1, mask=s < splits, other=0.0)
    weight = tl.exp2(highest - tl.max(highest, axis=0))
    mixed = tl.load(
        partial_ptr + part[:, None] * HEAD_DIM + d[None, :], mask=(s < splits)[:, None], other=0.0
    )
    result = tl.sum(mixed * weight[:, None], axis=0) / tl.sum(total * weight, axis=0)
    tl.store(out_ptr + row * HEAD_DIM + d, result.to(out_ptr.dtype.element_ty))


@triton.jit
def rms_norm(x_ptr, norm_ptr, out_ptr, width, eps, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """Root-mean-square norm of one row."""
    row = tl.program_id(0).to(tl.int64) * width
    columns = tl.arange(0, BLOCK)
    norm = tl.load(norm_ptr + columns, mask=columns < width, other=0.0).to(tl.float32)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    x = tl.load(x_ptr + row + columns, mask=columns < width, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / width + eps)
    y = (x * scale * norm).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row + columns, y, mask=columns < width)


@triton.jit
def silu_mul(gate_up_ptr, out_ptr, width, BLOCK: tl.constexpr, PDL: tl.constexpr):
    """SiLU of the first half of a row times its second half."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    source = gate_up_ptr + row * 2 * width + columns
    gate = tl.load(source, mask=columns < width, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=columns < width, other=0.0).to(tl.float32)
    y = (gate / (1.0 + tl.exp(-gate)) * up).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row * width + columns, y, mask=columns < width)


@triton.jit(do_not_specialize=["heads", "kv_heads", "prompt"])
def rotate_and_cache(
    qkv_ptr, q_out_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, q_norm_ptr, k_norm_ptr,
    heads, kv_heads, prompt, capacity, eps,
    QK_NORM: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    """Prefill: rotary positions for queries and keys; keys and values into the cache."""
    token = tl.program_id(0).to(tl.int64)
    h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, HEAD_DIM)
    sequence = token // prompt
    position = token % prompt
    angle = position * (HEAD_DIM // 2) + d % (HEAD_DIM // 2)
    cos = tl.load(cos_ptr + angle)
    sin = tl.load(sin_ptr + angle)
    row = qkv_ptr + token * (heads + 2 * kv_heads) * HEAD_DIM + h[:, None] * HEAD_DIM
    to_q = (h < heads)[:, None]
    to_k = ((h >= heads) & (h < heads + kv_heads))[:, None]
    to_v = ((h >= heads + kv_heads) & (h < heads + 2 * kv_heads))[:, None]
    q = _rotated(row, q_norm_ptr, cos, sin, d, to_q, eps, QK_NORM, HEAD_DIM)
    target = q_out_ptr + token * heads * HEAD_DIM + h[:, None] * HEAD_DIM + d[None, :]
    tl.store(target, q.to(q_out_ptr.dtype.element_ty), mask=to_q)
    k = _rotated(row, k_norm_ptr, cos, sin, d, to_k, eps, QK_NORM, HEAD_DIM)
    kv_head = sequence * kv_heads + (h - heads)
    k_at = (kv_head[:, None] * capacity + position) * HEAD_DIM + d[None, :]
    tl.store(k_ptr + k_at, k.to(k_ptr.dtype.element_ty), mask=to_k)
    v = tl.load(row + d[None, :], mask=to_v, other=0.0)
    v_at = k_at - kv_heads * capacity * HEAD_DIM
    tl.store(v_ptr + v_at, v, mask=to_v)


@triton.jit
def argmax_chunks(
    logits_ptr, best_ptr, index_ptr, vocab, BLOCK: tl.constexpr, PDL: tl.constexpr
):  # fmt: skip
    """Largest logit of one chunk of one row, and where it is."""
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    at = chunk * BLOCK + tl.arange(0, BLOCK)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    logits = tl.load(logits_ptr + row * vocab + at, mask=at < vocab, other=float("-inf"))
    best, index = tl.max(logits.to(tl.float32), axis=0, return_indices=True)
    slot = row * tl.num_programs(1) + chunk
    tl.store(best_ptr + slot, best)
    tl.store(index_ptr + slot, chunk * BLOCK + index)


@triton.jit(do_not_specialize=["chunks"])
def next_token(
    best_ptr, index_ptr, embedding_ptr, tokens_ptr, positions_ptr, x_ptr, chunks, width,
    BLOCK_C: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Greedy token of one sequence, its embedding as the next input, and one more position."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    columns = tl.arange(0, BLOCK)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    best = tl.load(best_ptr + row * chunks + c, mask=c < chunks, other=float("-inf"))
    _, winner = tl.max(best, axis=0, return_indices=True)
    token = tl.load(index_ptr + row * chunks + winner).to(tl.int64)
    tl.store(tokens_ptr + row, token)
    tl.store(positions_ptr + row, tl.load(positions_ptr + row) + 1)
    x = tl.load(embedding_ptr + token * width + columns, mask=columns < width)
    tl.store(x_ptr + row * width + columns, x, mask=columns < width)
