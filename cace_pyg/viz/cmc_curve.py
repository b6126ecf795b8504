"""Cumulative matching characteristic curves."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cace_pyg.viz.style import series_style

_LAST_RANK = 20
_STEP = 0.05


def cmc_curve(curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw the share of queries whose first match is at rank k or before.

    Args:
        curves: by ranking ("individual", "two_stage"), the CMC from rank 1, ``(rank,)``, fractions from 0 to 1 that
            never fall. Ranks beyond 20 are left out.

    Returns:
        A figure of one panel; its y axis starts just below the lowest Rank-1.

    Raises:
        ValueError: there is no curve, one is empty, or values are not a CMC in fractions.
    """
    if not curves:
        raise ValueError("Expected at least one CMC curve (got none)")
    shown = {name: _checked(name, np.asarray(curve, dtype=float))[:_LAST_RANK] for name, curve in curves.items()}
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, curve) in enumerate(shown.items()):
        # Later markers are hollow and larger, so that two equal curves are both visible.
        axes.plot(
            np.arange(1, len(curve) + 1),
            curve,
            label=f"{name} (Rank-1 {100 * curve[0]:.1f} %)",
            linewidth=1.6,
            markersize=5 + 3 * index,
            markerfacecolor="none" if index else None,
            **series_style(index),
        )
    low, high = _limits(np.concatenate(list(shown.values())))
    axes.set_ylim(low, high + 0.02 * (high - low))
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_xlim(0.5, _LAST_RANK + 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    axes.set_xlabel("rank k")
    axes.set_ylabel("queries matched by rank k" + (f" (axis from {100 * low:.0f} %)" if low > 0 else ""))
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _checked(name: str, curve: np.ndarray) -> np.ndarray:
    if curve.ndim != 1 or not len(curve):
        raise ValueError(f"Expected the CMC of {name!r} as a vector over ranks (got shape {curve.shape})")
    if not (curve.min() >= 0 and curve.max() <= 1 + 1e-6):
        raise ValueError(
            f"Expected the CMC of {name!r} in fractions from 0 to 1 (got {curve.min():.3g} to {curve.max():.3g})"
        )
    if (np.diff(curve) < -1e-6).any():
        raise ValueError(f"Expected a CMC that never falls with the rank (that of {name!r} does)")
    return curve


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The lowest and highest value, rounded outwards to steps of 5 %, with some space below."""
    low = np.floor((values.min() - 0.01) / _STEP) * _STEP
    high = np.ceil((values.max() + 0.005) / _STEP) * _STEP
    return float(np.clip(low, 0.0, 0.9)), float(np.clip(high, 0.1, 1.0))
