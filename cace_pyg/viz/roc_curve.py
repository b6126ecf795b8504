"""Receiver operating characteristic of pairs."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cace_pyg.viz.style import series_style

_MARKED = 1e-3


def roc_curve(curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw the share of accepted pairs of one person against that of accepted pairs of two.

    Args:
        curves: by ranking ("individual", "two_stage"), the points, ``(point, 2)``: false positive rate, ascending, and
            true positive rate, which never falls; fractions from 0 to 1. They may end before 1.

    Returns:
        A figure of one panel; its x axis is logarithmic and starts at the smallest rate above 0.

    Raises:
        ValueError: there is no curve, one is empty, or values are not an ROC in fractions.
    """
    if not curves:
        raise ValueError("Expected at least one ROC curve (got none)")
    shown = {name: _checked(name, np.asarray(curve, dtype=float)) for name, curve in curves.items()}
    smallest = min(curve[curve[:, 0] > 0, 0].min(initial=1.0) for curve in shown.values())
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    axes = figure.subplots()
    for index, (name, curve) in enumerate(shown.items()):
        style = series_style(index) | {"marker": ""}
        # Points at rate 0 have no place on a logarithmic axis; they are drawn at its left end.
        axes.plot(np.maximum(curve[:, 0], smallest), curve[:, 1], label=_label(name, curve), linewidth=1.8, **style)
    axes.set_xscale("log")
    axes.set_xlim(smallest, 1)
    axes.set_ylim(0, 1.02)
    if smallest < _MARKED:
        axes.axvline(_MARKED, color="#999999", linewidth=0.8, linestyle=":")
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    axes.set_xlabel("false positive rate: pairs of two people that are accepted")
    axes.set_ylabel("pairs of one person accepted")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    return figure


def _label(name: str, curve: np.ndarray) -> str:
    """The label, with the rate at one false positive in a thousand if the curve reaches that low."""
    reached = curve[curve[:, 0] <= _MARKED]
    if not len(reached) or not (curve[:, 0] > 0).any() or curve[curve[:, 0] > 0, 0].min() > _MARKED:
        return name
    return f"{name} ({100 * reached[-1, 1]:.1f} % at 0.1 % false positives)"


def _checked(name: str, curve: np.ndarray) -> np.ndarray:
    if curve.ndim != 2 or curve.shape[1] != 2 or not len(curve):
        raise ValueError(f"Expected the ROC of {name!r} as points (point, 2) (got shape {curve.shape})")
    if not (curve.min() >= 0 and curve.max() <= 1):
        raise ValueError(f"Expected the ROC of {name!r} in fractions from 0 to 1 (got others)")
    if (np.diff(curve, axis=0) < 0).any():
        raise ValueError(f"Expected an ROC that never falls (that of {name!r} does)")
    return curve
