"""Maps with one number per clue, drawn over the picture."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from cace_pyg.read_picture import Picture
from cace_pyg.viz.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    picture_array,
)

_OPACITY = 0.6


def draw_feature_map(
    axes: Axes, picture: np.ndarray, feature_map: np.ndarray, limits: tuple[float, float], colours: str = "viridis"
) -> AxesImage:
    """Draw a map with one number per clue over the picture, which is grey, so that only the map has colours.

    Args:
        axes: where to draw; the y axis goes down, from 0 to the picture's height.
        picture: RGB, (height, width, 3).
        feature_map: one number per clue, (H, W), any unit. It is not interpolated, so its cells are visible.
        limits: the values of the first and the last colour, to share one scale between pictures.
        colours: name of a matplotlib colour map.

    Returns:
        The map's image, for a colour bar.
    """
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(picture.mean(axis=2), cmap="gray", extent=extent, interpolation="bilinear")
    low, high = limits
    overlay = axes.imshow(
        feature_map,
        cmap=colours,
        alpha=_OPACITY,
        extent=extent,
        interpolation="nearest",
        vmin=low,
        vmax=high,
    )
    axes.set(xticks=[], yticks=[])
    return overlay


_MAPS_WIDTH, _CELL, _TALL, _MAPS_BAR, _MAPS_WORDS = 9.0, 1.3, 1.9, 1.0, 1.0
_NORM = "‖x‖ of each clue"
_MOST = 8
_LETTERS = 11  # letters per inch of the title
_CHANGES = "PuOr_r"  # diverging, and distinguishable for colour-blind readers


@dataclass(frozen=True)
class ConditionalMap:
    """One gallery image, with the maps of it and the query given each other.

    Attributes:
        picture: the gallery image.
        query: L2 norm of each clue of the query given this image, ``(H, W)``.
        own_before: L2 norm of each clue of this image by itself, ``(H, W)``.
        own: the same given the query, ``(H, W)``.
        caption: its name or its distance.
    """

    picture: Picture
    query: np.ndarray
    own_before: np.ndarray
    own: np.ndarray
    caption: str = ""


def conditional_maps(query: Picture, before: np.ndarray, given: Sequence[ConditionalMap], title: str = "") -> Figure:
    """Draw the query's feature map by itself and given each gallery image, and the changes in both.

    Args:
        query: the query's picture.
        before: L2 norm of each of its clues by itself, ``(H, W)``, of any unit.
        given: one to eight gallery images.
        title: above the figure.

    Returns:
        A figure; its columns are the query by itself, then each gallery image. Rows: pictures; the query's norms on one
        scale; their change; the change in the gallery image. Both changes share one scale around zero: orange for an
        increase, purple for a decrease.

    Raises:
        ValueError: there is no gallery image or too many, or maps have another shape or are not finite.
    """
    if not 1 <= len(given) <= _MOST:
        raise ValueError(f"Expected 1 to {_MOST} gallery images, to fit on a page (got {len(given)})")
    _check_maps(before, given)
    picture = picture_array(query)
    columns = 1 + len(given)
    figure = Figure(
        figsize=(min(_MAPS_WIDTH, columns * _CELL + _MAPS_BAR), 4 * _TALL + _MAPS_WORDS),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.01),
    )
    grid = figure.add_gridspec(4, columns + 1, width_ratios=[1.0] * columns + [0.12])
    axes = np.array([[figure.add_subplot(grid[row, column]) for column in range(columns)] for row in range(4)])
    norms = _norm_limits([before, *(shown.query for shown in given)])
    largest = max(np.abs(change).max() for shown in given for change in _changes(shown, before)) or 1.0
    _draw_query(axes[:, 0], picture, before, norms)
    for column, shown in zip(axes.T[1:], given, strict=True):
        overlays = _draw_given(column, picture, before, shown, norms, largest)
    for overlay, rows, label in zip(overlays, (grid[1, -1], grid[2:, -1]), (_NORM, f"change of {_NORM}"), strict=True):
        figure.colorbar(overlay, cax=figure.add_subplot(rows), label=label)
    figure.suptitle(textwrap.fill(title, int(_LETTERS * figure.get_figwidth())), fontsize=10.5)
    return figure


def _check_maps(before: np.ndarray, given: Sequence[ConditionalMap]) -> None:
    for number, shown in enumerate(given, start=1):
        for name in ("query", "own_before", "own"):
            values = getattr(shown, name)
            if np.shape(values) != np.shape(before) or np.ndim(before) != 2:
                raise ValueError(
                    f"Expected {name} of gallery image {number} as a map (H, W) like the query's {np.shape(before)} "
                    f"(got {np.shape(values)})"
                )
            if not (np.isfinite(values).all() and np.isfinite(before).all()):
                raise ValueError(f"Expected finite numbers in the maps of gallery image {number} (got NaN or infinity)")


def _norm_limits(maps: list[np.ndarray]) -> tuple[float, float]:
    return min(values.min() for values in maps), max(values.max() for values in maps)


def _changes(shown: ConditionalMap, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return shown.query - before, shown.own - shown.own_before


def _draw_query(column: np.ndarray, picture: np.ndarray, before: np.ndarray, norms: tuple[float, float]) -> None:
    """The query by itself, and below it the labels for the rows of changes."""
    _draw_picture(column[0], picture, "query")
    draw_feature_map(column[1], picture, before, norms)
    column[1].set_xlabel("by itself", fontsize=8.5, color=GREY, labelpad=3)
    for axes, words in zip(column[2:], ("change\nin the\nquery", "change\nin the\ngallery\nimage"), strict=True):
        axes.axis("off")
        axes.text(0.5, 0.5, words, fontsize=9.5, ha="center", va="center", transform=axes.transAxes)


def _draw_given(
    column: np.ndarray,
    query: np.ndarray,
    before: np.ndarray,
    shown: ConditionalMap,
    norms: tuple[float, float],
    largest: float,
) -> tuple[AxesImage, AxesImage]:
    """One gallery image's column; returns a norm map and a change map, for their colour bars."""
    gallery = picture_array(shown.picture)
    _draw_picture(column[0], gallery, shown.caption)
    norm = draw_feature_map(column[1], query, shown.query, norms)
    column[1].set_xlabel("given it", fontsize=8.5, color=GREY, labelpad=3)
    for axes, picture, change in zip(column[2:], (query, gallery), _changes(shown, before), strict=True):
        overlay = draw_feature_map(axes, picture, change, (-largest, largest), _CHANGES)
        axes.set_xlabel(f"mean {change.mean():+.2g}", fontsize=8, color=GREY, labelpad=3)
    return norm, overlay


def _draw_picture(axes: Axes, picture: np.ndarray, words: str) -> None:
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.set_title(words, fontsize=8.5, color=BLACK)


_DEGREES_HEIGHT, _DEGREES_WORDS, _DEGREES_BAR, _HISTOGRAM = 3.6, 0.6, 0.9, 3.6
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
    """Draw the weighted degree of each clue over both pictures, and the distribution of the degrees.

    Args:
        image_a: the left picture.
        image_b: the right picture.
        degrees_a: of each clue of a, ``(H, W)``, ≥ 0, in the unit of the weights.
        degrees_b: of b, ``(H, W)``.
        title: above all panels.
        label: describes the degrees, with their unit.

    Returns:
        A figure of two maps on one colour scale, their colour bar, and a histogram of both: a solid and filled, b
        dashed.

    Raises:
        ValueError: a map is not a matrix of finite numbers.
    """
    maps = [_checked_degrees(name, values) for name, values in (("degrees_a", degrees_a), ("degrees_b", degrees_b))]
    limits = (min(values.min() for values in maps), max(values.max() for values in maps))
    pictures = [picture_array(image) for image in (image_a, image_b)]
    widths = [_DEGREES_HEIGHT * picture.shape[1] / picture.shape[0] for picture in pictures]
    columns = [*widths, _HISTOGRAM]
    figure = Figure(figsize=(sum(columns) + _DEGREES_BAR + 0.5, _DEGREES_HEIGHT + _DEGREES_WORDS), layout="constrained")
    panel_a, panel_b, histogram = figure.subplots(1, 3, width_ratios=columns)
    for axes, picture, values, name in zip((panel_a, panel_b), pictures, maps, "ab", strict=True):
        overlay = draw_feature_map(axes, picture, values, limits)
        axes.set_title(name, fontsize=9.5)
    figure.colorbar(overlay, ax=panel_b, label=label, shrink=0.8)
    _draw_histogram(histogram, maps, label)
    figure.suptitle(title, fontsize=10.5)
    return figure


def _checked_degrees(name: str, values: np.ndarray) -> np.ndarray:
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
    axes.locator_params("y", integer=True)
    axes.set_ylim(0, 1.25 * max(in_a.max(), in_b.max()))
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, fontsize=8.5)


_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
_CLUSTERS_OPACITY = 0.5
_CLUSTERS_HEIGHT, _LEGEND, _CLUSTERS_WORDS = 4.2, 2.9, 0.85


def cluster_cells(
    image_a: Picture,
    image_b: Picture,
    clusters_a: np.ndarray,
    clusters_b: np.ndarray,
    *,
    title: str = "",
    inner_shares: Sequence[float] = (),
) -> Figure:
    """Colour each clue's cell by its cluster; a cluster looks the same in both pictures.

    Args:
        image_a: the left picture.
        image_b: the right picture.
        clusters_a: cluster number of each clue of a, from 1, or 0 for none, ``(H, W)`` integers.
        clusters_b: the same for b, ``(H, W)``.
        title: above both pictures.
        inner_shares: the part of each cluster's weight that stays within it, 0 to 1; empty: not shown.

    Returns:
        A figure of two panels, a and b. Each cell shows its cluster's number, so that colours are not needed; the
        first six clusters have their own colour, the others are grey. Cells without a cluster are not coloured.

    Raises:
        ValueError: a map is not a matrix of integers ≥ 0, or the number of shares is not that of the clusters.
    """
    maps = [
        _checked_clusters(name, clusters) for name, clusters in (("clusters_a", clusters_a), ("clusters_b", clusters_b))
    ]
    count = int(max(cells.max() for cells in maps))
    if len(inner_shares) not in (0, count):
        raise ValueError(f"Expected one inner share for each of {count} clusters, or none (got {len(inner_shares)})")
    pictures = [picture_array(image) for image in (image_a, image_b)]
    widths = [picture.shape[1] / picture.shape[0] for picture in pictures]
    figure = Figure(
        figsize=(_CLUSTERS_HEIGHT * sum(widths) + _LEGEND, _CLUSTERS_HEIGHT + _CLUSTERS_WORDS), layout="constrained"
    )
    panels = figure.subplots(1, 2, width_ratios=widths)
    for axes, picture, cells, name in zip(panels, pictures, maps, "ab", strict=True):
        _draw_cells(axes, picture, cells)
        axes.set_title(name, fontsize=9.5)
    figure.legend(
        handles=_cluster_legend(maps, count, inner_shares),
        loc="outside right center",
        frameon=False,
        fontsize=9,
        title="cluster: clues in a + b" + (", weight within" if len(inner_shares) else ""),
        title_fontsize=9,
        alignment="left",
    )
    figure.suptitle(title, fontsize=10.5)
    return figure


def _checked_clusters(name: str, clusters: np.ndarray) -> np.ndarray:
    cells = np.asarray(clusters)
    if cells.ndim != 2 or not np.issubdtype(cells.dtype, np.integer) or not cells.size or cells.min() < 0:
        raise ValueError(
            f"Expected {name} as a matrix (H, W) of whole numbers, clusters from 1 and 0 for none "
            f"(got {cells.dtype} of shape {cells.shape})"
        )
    return cells


def _cluster_colour(cluster: int) -> str:
    return _COLOURS[cluster - 1] if cluster <= len(_COLOURS) else GREY


def _draw_cells(axes: Axes, picture: np.ndarray, cells: np.ndarray) -> None:
    (height, width), (rows, columns) = picture.shape[:2], cells.shape
    extent = (0, width, height, 0)
    axes.imshow(picture.mean(axis=2), cmap="gray", extent=extent, interpolation="bilinear", vmin=0, vmax=255)
    overlay = np.zeros((rows, columns, 4))
    for cluster in np.unique(cells[cells > 0]):
        overlay[cells == cluster] = (*to_rgb(_cluster_colour(cluster)), _CLUSTERS_OPACITY)
    axes.imshow(overlay, extent=extent, interpolation="nearest")
    size = min(8.0, 0.5 * 72 * _CLUSTERS_HEIGHT / rows)
    halo = [effects.withStroke(linewidth=1.2, foreground="#ffffffaa")]
    for row, column in np.argwhere(cells > 0):
        axes.text(
            (column + 0.5) * width / columns,
            (row + 0.5) * height / rows,
            str(cells[row, column]),
            fontsize=size,
            ha="center",
            va="center",
            color=BLACK,
            path_effects=halo,
        )
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def _cluster_legend(maps: list[np.ndarray], count: int, inner_shares: Sequence[float]) -> list[Patch]:
    handles = []
    for cluster in range(1, min(count, len(_COLOURS)) + 1):
        in_a, in_b = (int((cells == cluster).sum()) for cells in maps)
        share = f", {100 * inner_shares[cluster - 1]:.0f} %" if len(inner_shares) else ""
        handles.append(
            Patch(color=_cluster_colour(cluster), alpha=_CLUSTERS_OPACITY, label=f"{cluster}: {in_a} + {in_b}{share}")
        )
    if count > len(_COLOURS):
        handles.append(
            Patch(color=GREY, alpha=_CLUSTERS_OPACITY, label=f"{len(_COLOURS) + 1} to {count}: smaller ones")
        )
    bare = sum(int((cells == 0).sum()) for cells in maps)
    if bare:
        handles.append(Patch(facecolor="none", edgecolor=GREY, label=f"no cluster: {bare} without an edge"))
    return handles
