"""Reliability diagrams, which show whether probabilities are right (Guo et al., 2017)."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cace_pyg.viz.style import BLUE, GREY


def reliability_diagram(predicted: np.ndarray, observed: np.ndarray, count: np.ndarray, error: float) -> Figure:
    """Draw the share of pairs that show one person against their predicted probability, and the number of pairs.

    Args:
        predicted: mean probability of each bin, ``(bin,)``, 0 to 1, ascending.
        observed: share of its pairs that show one person, ``(bin,)``.
        count: number of its pairs, ``(bin,)``, 1 or more.
        error: expected calibration error, for the legend.

    Returns:
        A figure of two panels: the curve with the diagonal of a perfect calibration, and below it the pairs.

    Raises:
        ValueError: there are no bins, or numbers are not fractions or counts.
    """
    predicted, observed, count = (np.asarray(values, dtype=float) for values in (predicted, observed, count))
    if not len(predicted) or not predicted.shape == observed.shape == count.shape:
        raise ValueError(
            f"Expected as many probabilities as shares and counts, one or more (got {predicted.shape}, "
            f"{observed.shape} and {count.shape})"
        )
    both = np.concatenate([predicted, observed])
    if not (both.min() >= 0 and both.max() <= 1 and count.min() >= 1):
        raise ValueError("Expected fractions from 0 to 1, and bins of one pair or more (got others)")
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--", label="perfect calibration")
    label = f"this model (expected calibration error {error:.3f})"
    upper.plot(predicted, observed, color=BLUE, marker="o", markersize=5, linewidth=1.6, label=label)
    lower.bar(predicted, count, width=0.03, color=BLUE)
    lower.set_yscale("log")
    for axis in (upper.xaxis, upper.yaxis, lower.xaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.set_ylabel("pairs of one person")
    lower.set_ylabel("pairs")
    lower.set_xlabel("probability that both pictures show one person")
    for axes in (upper, lower):
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    upper.legend(loc="upper left", frameon=False)
    return figure
