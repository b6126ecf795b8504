"""How strongly each clue of a pair is connected."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cace_pyg.viz.feature_map import draw_feature_map
from cace_pyg.viz.palette import BLUE, VERMILLION
from cace_pyg.viz.picture import Picture, load_picture

_HEIGHT, _WORDS, _BAR, _HISTOGRAM = 3.6, 0.6, 0.9, 3.6
_BINS = 18


def weighted_degrees(
    image_a: Picture,
    image_b: Picture,
    degrees_a: np.ndarray,
    degrees_b: np.ndarray,
    *,
    title: str = "",
    label: str = "weighted degree",
) -> Figure:
    """Draw the weighted degree of each clue over both pictures, and how the degrees of each are distributed.

    Args:
        image_a: the left picture.
        image_b: the right picture.
        degrees_a: of each clue of a, ``(H, W)``, ≥ 0, in the unit of the weights.
        degrees_b: of b, ``(H, W)``.
        title: above all panels.
        label: what the degrees are, with their unit.

    Returns:
        A figure of two maps on one colour scale, their colour bar, and a histogram of both: a solid and filled, b
        dashed.

    Raises:
        ValueError: a map that is no matrix of finite numbers.
    """
    maps = [_checked(name, values) for name, values in (("degrees_a", degrees_a), ("degrees_b", degrees_b))]
    limits = (min(values.min() for values in maps), max(values.max() for values in maps))
    pictures = [load_picture(image) for image in (image_a, image_b)]
    widths = [_HEIGHT * picture.shape[1] / picture.shape[0] for picture in pictures]
    columns = [*widths, _HISTOGRAM]
    figure = Figure(figsize=(sum(columns) + _BAR + 0.5, _HEIGHT + _WORDS), layout="constrained")
    panel_a, panel_b, histogram = figure.subplots(1, 3, width_ratios=columns)
    for axes, picture, values, name in zip((panel_a, panel_b), pictures, maps, "ab", strict=True):
        overlay = draw_feature_map(axes, picture, values, limits)
        axes.set_title(name, fontsize=9.5)
    figure.colorbar(overlay, ax=panel_b, label=label, shrink=0.8)
    _draw_histogram(histogram, maps, label)
    figure.suptitle(title, fontsize=10.5)
    return figure


def _checked(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"Expected {name} as a matrix (H, W) of finite numbers (got shape {values.shape})")
    return values


def _draw_histogram(axes: Axes, maps: list[np.ndarray], label: str) -> None:
    edges = np.histogram_bin_edges(np.concatenate([values.ravel() for values in maps]), _BINS)
    (in_a, in_b) = (np.histogram(values, edges)[0] for values in maps)
    axes.stairs(in_a, edges, color=BLUE, fill=True, alpha=0.35)
    axes.stairs(in_a, edges, color=BLUE, linewidth=1.4, label="a")
    axes.stairs(in_b, edges, color=VERMILLION, linewidth=1.6, linestyle=(0, (3, 1.5)), label="b")
    axes.set_xlabel(label)
    axes.set_ylabel("clues")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylim(0, 1.25 * max(in_a.max(), in_b.max()))
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)
