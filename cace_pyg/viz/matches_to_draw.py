"""Matches between the clues of two pictures, checked, and the strongest of them."""

from collections.abc import Sequence

import numpy as np


def matches_to_draw(
    matches: Sequence[tuple[int, int, float]] | np.ndarray, grid: tuple[int, int], strongest: int
) -> np.ndarray:
    """The ``strongest`` matches of weight above 0, the weakest first, so that the strong ones are drawn on top.

    Args:
        matches: rows (clue of a, clue of b, weight), in any order, ``(match, 3)``.
        grid: (H, W) of both feature maps.
        strongest: how many at most.

    Raises:
        ValueError: a clue outside the grid, or a weight that is negative or not finite.
    """
    table = _checked(np.asarray(matches, dtype=float), grid)
    positive = table[table[:, 2] > 0]
    order = np.argsort(-positive[:, 2], kind="stable")[:strongest]
    return positive[order][::-1]


def _checked(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    if not table.size:
        return np.zeros((0, 3))
    if table.ndim != 2 or table.shape[1] != 3:
        raise ValueError(f"Expected matches as rows (clue of a, clue of b, weight) (got shape {table.shape})")
    nodes, weights, clues = table[:, :2], table[:, 2], grid[0] * grid[1]
    if (nodes != np.floor(nodes)).any() or nodes.min() < 0 or nodes.max() >= clues:
        raise ValueError(
            f"Expected whole numbers from 0 to {clues - 1} as clues on a grid of {grid} "
            f"(got {nodes.min():g} to {nodes.max():g}); "
            "number them in each picture from 0, not through the pair graph"
        )
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"Expected finite weights ≥ 0 (got {weights.min():g} to {weights.max():g})")
    return table
