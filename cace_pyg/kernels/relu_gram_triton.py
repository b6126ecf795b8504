"""The Triton kernels behind :func:`cace_pyg.kernels.relu_gram_products`, and what launches them.

Importing this module imports Triton. With TRITON_INTERPRET=1 in the environment before that, the kernels run on the
CPU, slowly: for tests.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

INTERPRETED = triton.knobs.runtime.interpret  # read once, as Triton reads it when a kernel is defined


class Tile(NamedTuple):
    """The block that one program works on at a time; powers of two, at least 16."""

    rows: int = 64
    columns: int = 64
    channels: int = 64
    warps: int = 4
    stages: int = 3


def products(
    x_a: Tensor, x_b: Tensor, left: Tensor, right: Tensor, sharpness: float, threshold: float, tile: Tile | None = None
) -> tuple[Tensor, Tensor]:
    """R @ right ``(pair, n_a)`` and Rᵀ @ left ``(pair, n_b)``, float32.

    A program takes ``tile.rows`` rows of one pair and loops over the columns. Its partial sums of the columns are
    stored separately and added afterwards, in the order of the rows. Without atomic additions, results are the same
    every time. This takes 4·n_b·⌈n_a / rows⌉ bytes per pair.

    Args:
        x_a: ``(pair, n_a, channel)`` of any strides; 0 along the pairs costs nothing.
        x_b: ``(pair, n_b, channel)``, of the same type.
        left: float32 ``(pair, n_a)``.
        right: float32 ``(pair, n_b)``.
        sharpness: exponent.
        threshold: edges of at most this are zero.
        tile: chosen by the size of a clue's numbers, unless given.
    """
    (pairs, n_a, channels), n_b = x_a.shape, x_b.size(1)
    tile = tile or default_tile(x_a.dtype)
    row_blocks = triton.cdiv(n_a, tile.rows)
    by_row = left.new_empty(pairs, n_a)
    by_column = left.new_empty(pairs, row_blocks, n_b)
    _products_kernel[(pairs * row_blocks,)](
        x_a, x_b, left.contiguous(), right.contiguous(), by_row, by_column,
        n_a, n_b, channels, *x_a.stride(), *x_b.stride(), sharpness, threshold,
        SHARPEN=sharpness != 1, INTERPRETED=INTERPRETED,
        ROWS=tile.rows, COLUMNS=tile.columns, CHANNELS=tile.channels, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return by_row, by_column.sum(1)


def gradient(
    x: Tensor,
    x_other: Tensor,
    vectors: Tensor,
    vectors_other: Tensor,
    sharpness: float,
    threshold: float,
    tile: Tile | None = None,
) -> Tensor:
    r"""The gradient of one side's clues, float32 ``(pair, n, channel)``.

    With :math:`G_{ij} = \sum_k` ``vectors[k, i] * vectors_other[k, j]`` the gradient of R, it is
    :math:`(G \circ \partial R / \partial S) X_{other}`. A program owns ``tile.rows`` rows of the result and adds to
    them in place, tile by tile of the other side: S is computed once for it, 4·n²·channel flops altogether.

    Args:
        x: ``(pair, n, channel)``, the side whose gradient is wanted.
        x_other: ``(pair, m, channel)``.
        vectors: float32 ``(pair, 2, n)``.
        vectors_other: float32 ``(pair, 2, m)``.
        sharpness: exponent.
        threshold: edges of at most this are zero.
        tile: chosen by the size of a clue's numbers, unless given.
    """
    (pairs, n, channels), others = x.shape, x_other.size(1)
    tile = tile or default_tile(x.dtype)
    result = vectors.new_zeros(pairs, n, channels)
    _gradient_kernel[(pairs * triton.cdiv(n, tile.rows),)](
        x, x_other, vectors.contiguous(), vectors_other.contiguous(), result,
        n, others, channels, *x.stride(), *x_other.stride(), sharpness, threshold,
        SHARPEN=sharpness != 1, INTERPRETED=INTERPRETED,
        ROWS=tile.rows, COLUMNS=tile.columns, CHANNELS=tile.channels, num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return result


def default_tile(dtype: torch.dtype) -> Tile:
    """What fits the registers and the shared memory of every GPU from 8.0 on; small in the interpreter, for tests.

    In half precision the fastest on an H200 of those that ``python -m benchmarks.gpu --tiles`` tries; in float32 by
    what the compiler reports (tests/kernels/test_compiles.py).
    """
    if INTERPRETED:
        return Tile(16, 16, 16)
    return Tile(channels=32, warps=8, stages=2) if dtype == torch.float32 else Tile()


@triton.jit
def _products_kernel(
    x_a, x_b, left, right, by_row, by_column,
    n_a, n_b, channels, pair_stride_a, node_stride_a, channel_stride_a, pair_stride_b, node_stride_b, channel_stride_b,
    sharpness, threshold,
    SHARPEN: tl.constexpr, INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    # the row blocks of a pair run next to each other, so they share the other image's clues in the cache
    row_blocks = tl.cdiv(n_a, ROWS)
    pair = (tl.program_id(0) // row_blocks).to(tl.int64)  # times a stride it may exceed 2³¹
    block = tl.program_id(0) % row_blocks
    row = block * ROWS + tl.arange(0, ROWS)
    weight_of_row = tl.load(left + pair * n_a + row, mask=row < n_a, other=0.0)
    total = tl.zeros((ROWS,), tl.float32)
    for start in range(0, n_b, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        importance = _importance(
            x_a + pair * pair_stride_a, x_b + pair * pair_stride_b, row, column, n_a, n_b, channels,
            node_stride_a, channel_stride_a, node_stride_b, channel_stride_b, INTERPRETED, ROWS, COLUMNS, CHANNELS,
        )  # fmt: skip
        edges, _ = _edges(importance, sharpness, threshold, SHARPEN)
        weight_of_column = tl.load(right + pair * n_b + column, mask=column < n_b, other=0.0)
        total += tl.sum(edges * weight_of_column[None, :], 1)
        added = tl.sum(edges * weight_of_row[:, None], 0)
        tl.store(by_column + (pair * row_blocks + block) * n_b + column, added, mask=column < n_b)
    tl.store(by_row + pair * n_a + row, total, mask=row < n_a)


@triton.jit
def _gradient_kernel(
    x, x_other, vectors, vectors_other, result,
    n, others, channels, pair_stride, node_stride, channel_stride, other_pair_stride, other_node_stride,
    other_channel_stride, sharpness, threshold,
    SHARPEN: tl.constexpr, INTERPRETED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    row_blocks = tl.cdiv(n, ROWS)
    pair = (tl.program_id(0) // row_blocks).to(tl.int64)
    row = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)
    first = tl.load(vectors + pair * 2 * n + row, mask=row < n, other=0.0)
    second = tl.load(vectors + (pair * 2 + 1) * n + row, mask=row < n, other=0.0)
    for start in range(0, others, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        importance = _importance(
            x + pair * pair_stride, x_other + pair * other_pair_stride, row, column, n, others, channels,
            node_stride, channel_stride, other_node_stride, other_channel_stride, INTERPRETED, ROWS, COLUMNS, CHANNELS,
        )  # fmt: skip
        _, slope = _edges(importance, sharpness, threshold, SHARPEN)
        there = column < others
        first_other = tl.load(vectors_other + pair * 2 * others + column, mask=there, other=0.0)
        second_other = tl.load(vectors_other + (pair * 2 + 1) * others + column, mask=there, other=0.0)
        of_importance = slope * (first[:, None] * first_other[None, :] + second[:, None] * second_other[None, :])
        of_importance = of_importance.to(x.dtype.element_ty)
        if INTERPRETED:
            of_importance = of_importance.to(tl.float32)
        for channel_start in range(0, channels, CHANNELS):
            channel = channel_start + tl.arange(0, CHANNELS)
            inside = channel[None, :] < channels
            tile = tl.load(
                x_other + pair * other_pair_stride + column[:, None] * other_node_stride
                + channel[None, :] * other_channel_stride,
                mask=there[:, None] & inside, other=0.0,
            )  # fmt: skip
            place = result + (pair * n + row[:, None]) * channels + channel[None, :]
            kept = (row < n)[:, None] & inside
            so_far = tl.load(place, mask=kept, other=0.0)
            if INTERPRETED:
                tile = tile.to(tl.float32)
            tl.store(place, tl.dot(of_importance, tile, so_far, input_precision="ieee"), mask=kept)
        tl.debug_barrier()  # what one thread stored, another may load for the next tile of columns


@triton.jit
def _importance(
    x_a, x_b, row, column, n_a, n_b, channels, node_stride_a, channel_stride_a, node_stride_b, channel_stride_b,
    INTERPRETED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One tile of S = x_a x_bᵀ, in float32; zero outside the images."""
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, channels, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        tile_a = tl.load(
            x_a + row[:, None] * node_stride_a + channel[None, :] * channel_stride_a,
            mask=(row < n_a)[:, None] & (channel < channels)[None, :], other=0.0,
        )  # fmt: skip
        tile_b = tl.load(
            x_b + channel[:, None] * channel_stride_b + column[None, :] * node_stride_b,
            mask=(channel < channels)[:, None] & (column < n_b)[None, :], other=0.0,
        )  # fmt: skip
        if INTERPRETED:  # the interpreter multiplies bfloat16 wrongly; the products are the same in float32
            tile_a, tile_b = tile_a.to(tl.float32), tile_b.to(tl.float32)
        total = tl.dot(tile_a, tile_b, total, input_precision="ieee")  # no TF32, like torch by default
    return total


@triton.jit
def _edges(importance, sharpness, threshold, SHARPEN: tl.constexpr):
    """R and ∂R/∂S: relu(S) ** sharpness and its slope, both zero where R is at most the threshold; NaN stays NaN."""
    positive = (importance > 0) | (importance != importance)
    if SHARPEN:
        edge = tl.where(positive, tl.exp2(sharpness * tl.log2(tl.where(positive, importance, 1.0))), 0.0)
        slope = sharpness * edge / tl.where(positive, importance, 1.0)
    else:
        edge = tl.where(positive, importance, 0.0)
        slope = tl.where(positive, 1.0, 0.0)
    kept = (edge > threshold) | (edge != edge)
    return tl.where(kept, edge, 0.0), tl.where(kept, slope, 0.0)
