"""Clusters of clues over both pictures."""

from collections.abc import Sequence

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cace_pyg.viz.palette import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from cace_pyg.viz.picture import Picture, load_picture

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION)
_OPACITY = 0.5
_HEIGHT, _LEGEND, _WORDS = 4.2, 2.9, 0.85


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
        clusters_a: number of the cluster of each clue of a, from 1 on, 0 for none, ``(H, W)`` whole numbers.
        clusters_b: the same of b, ``(H, W)``.
        title: above both pictures.
        inner_shares: of each cluster, the part of its weight that stays within it, 0 to 1; none leaves it out.

    Returns:
        A figure of two panels, a and b. Each cell bears its cluster's number, so that colours are not needed; the
        first six clusters have a colour of their own, the others are grey. Cells without a cluster stay bare.

    Raises:
        ValueError: a map that is no matrix of whole numbers ≥ 0, or shares of another number of clusters.
    """
    maps = [_checked(name, clusters) for name, clusters in (("clusters_a", clusters_a), ("clusters_b", clusters_b))]
    count = int(max(cells.max() for cells in maps))
    if len(inner_shares) not in (0, count):
        raise ValueError(f"Expected one inner share for each of {count} clusters, or none (got {len(inner_shares)})")
    pictures = [load_picture(image) for image in (image_a, image_b)]
    widths = [picture.shape[1] / picture.shape[0] for picture in pictures]
    figure = Figure(figsize=(_HEIGHT * sum(widths) + _LEGEND, _HEIGHT + _WORDS), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=widths)
    for axes, picture, cells, name in zip(panels, pictures, maps, "ab", strict=True):
        _draw_cells(axes, picture, cells)
        axes.set_title(name, fontsize=9.5)
    figure.legend(
        handles=_legend(maps, count, inner_shares),
        loc="outside right center",
        frameon=False,
        fontsize=9,
        title="cluster: clues in a + b" + (", weight within" if len(inner_shares) else ""),
        title_fontsize=9,
        alignment="left",
    )
    figure.suptitle(title, fontsize=10.5)
    return figure


def _checked(name: str, clusters: np.ndarray) -> np.ndarray:
    cells = np.asarray(clusters)
    if cells.ndim != 2 or not np.issubdtype(cells.dtype, np.integer) or not cells.size or cells.min() < 0:
        raise ValueError(
            f"Expected {name} as a matrix (H, W) of whole numbers, clusters from 1 on and 0 for none "
            f"(got {cells.dtype} of shape {cells.shape})"
        )
    return cells


def _colour(cluster: int) -> str:
    return _COLOURS[cluster - 1] if cluster <= len(_COLOURS) else GREY


def _draw_cells(axes: Axes, picture: np.ndarray, cells: np.ndarray) -> None:
    (height, width), (rows, columns) = picture.shape[:2], cells.shape
    extent = (0, width, height, 0)
    axes.imshow(picture.mean(axis=2), cmap="gray", extent=extent, interpolation="bilinear", vmin=0, vmax=255)
    overlay = np.zeros((rows, columns, 4))
    for cluster in np.unique(cells[cells > 0]):
        overlay[cells == cluster] = (*to_rgb(_colour(cluster)), _OPACITY)
    axes.imshow(overlay, extent=extent, interpolation="nearest")
    size = min(8.0, 0.5 * 72 * _HEIGHT / rows)
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


def _legend(maps: list[np.ndarray], count: int, inner_shares: Sequence[float]) -> list[Patch]:
    handles = []
    for cluster in range(1, min(count, len(_COLOURS)) + 1):
        in_a, in_b = (int((cells == cluster).sum()) for cells in maps)
        share = f", {100 * inner_shares[cluster - 1]:.0f} %" if len(inner_shares) else ""
        handles.append(Patch(color=_colour(cluster), alpha=_OPACITY, label=f"{cluster}: {in_a} + {in_b}{share}"))
    if count > len(_COLOURS):
        handles.append(Patch(color=GREY, alpha=_OPACITY, label=f"{len(_COLOURS) + 1} to {count}: smaller ones"))
    bare = sum(int((cells == 0).sum()) for cells in maps)
    if bare:
        handles.append(Patch(facecolor="none", edgecolor=GREY, label=f"in none: {bare} without an edge"))
    return handles
