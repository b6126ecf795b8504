"""Tests whether one ranking is better than another, by a paired bootstrap over queries."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_BLOCK = 2**22  # numbers drawn at once


@dataclass(frozen=True)
class Difference:
    """How much higher one measure is than another.

    Attributes:
        mean: over queries and seeds.
        low: lower end of the interval.
        high: upper end of the interval.
        seeds: the mean over queries for each seed.
        spread: standard deviation over the seeds (dividing by their number minus one); NaN for a single seed.
    """

    mean: float
    low: float
    high: float
    seeds: tuple[float, ...]
    spread: float


def paired_bootstrap(
    better: ArrayLike, baseline: ArrayLike, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """The mean of ``better − baseline`` with its bootstrap interval (percentiles; Efron and Tibshirani, 1993).

    Queries are drawn with replacement, each with all its seeds and both its values, so the difficulty of a query
    cancels. The interval shows the uncertainty from the choice of queries; ``seeds`` and ``spread`` show the
    uncertainty from training.

    Args:
        better: ``(seed, query)``, such as average precision, or 1 if the first image is a match; ``(query,)`` for one
            seed.
        baseline: the same queries and seeds.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: the shapes differ or are empty, a value is not finite, or a number is out of range.
    """
    better, baseline = (np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in (better, baseline))
    if better.shape != baseline.shape or better.ndim != 2 or not better.size:
        raise ValueError(
            f"Expected two (seed, query) tables of the same queries and seeds (got {better.shape} and {baseline.shape})"
        )
    if not (np.isfinite(better).all() and np.isfinite(baseline).all()):
        raise ValueError("Expected finite values (got NaN or infinity)")
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"Expected confidence in (0, 1) and resamples of at least 1 (got {confidence}, {resamples})")
    difference = better - baseline
    low, high = np.quantile(
        _means(difference.mean(axis=0), resamples, seed), [(1 - confidence) / 2, (1 + confidence) / 2]
    )
    seeds = difference.mean(axis=1)
    spread = float(seeds.std(ddof=1)) if len(seeds) > 1 else float("nan")
    return Difference(float(difference.mean()), float(low), float(high), tuple(map(float, seeds)), spread)


def _means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The mean of each resample of ``values``."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(values))
    counts = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate(
        [values[rng.integers(len(values), size=(count, len(values)))].mean(axis=1) for count in counts]
    )
