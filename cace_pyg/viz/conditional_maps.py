"""Feature maps of one query, given one gallery image after the other (Fig. 4 of the paper)."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cace_pyg.viz.feature_map import draw_feature_map
from cace_pyg.viz.palette import BLACK, GREY
from cace_pyg.viz.picture import Picture, load_picture

_WIDTH, _CELL, _TALL, _BAR, _WORDS = 9.0, 1.3, 1.9, 1.0, 1.0
_NORM = "‖x‖ of each clue"
_MOST = 8
_LETTERS = 11  # an inch of the title
_CHANGES = "PuOr_r"  # diverging, apart for colour-blind readers


@dataclass(frozen=True)
class ConditionalMap:
    """One gallery image, and what it and the query become given each other.

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
    """Draw the query's feature map by itself and given each gallery image, and what changes in both.

    Args:
        query: the query's picture.
        before: L2 norm of each of its clues by itself, ``(H, W)``, of any unit.
        given: one to eight gallery images.
        title: above all.

    Returns:
        A figure; a column is the query by itself, then each gallery image. Rows: pictures; the query's norms, all in
        one scale; their change; the change in the gallery image. Both changes share one scale around zero, orange
        where a clue gained, purple where it lost.

    Raises:
        ValueError: no gallery image or too many, maps of another shape or not finite.
    """
    if not 1 <= len(given) <= _MOST:
        raise ValueError(f"Expected 1 to {_MOST} gallery images, which a page has room for (got {len(given)})")
    _check_maps(before, given)
    picture = load_picture(query)
    columns = 1 + len(given)
    figure = Figure(figsize=(min(_WIDTH, columns * _CELL + _BAR), 4 * _TALL + _WORDS), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.0, hspace=0.01)
    grid = figure.add_gridspec(4, columns + 1, width_ratios=[1.0] * columns + [0.12])
    axes = np.array([[figure.add_subplot(grid[row, column]) for column in range(columns)] for row in range(4)])
    norms = _limits([before, *(one.query for one in given)])
    largest = max(np.abs(change).max() for one in given for change in _changes(one, before)) or 1.0
    _draw_query(axes[:, 0], picture, before, norms)
    for column, one in zip(axes.T[1:], given, strict=True):
        overlays = _draw_given(column, picture, before, one, norms, largest)
    for overlay, rows, label in zip(overlays, (grid[1, -1], grid[2:, -1]), (_NORM, f"change of {_NORM}"), strict=True):
        figure.colorbar(overlay, cax=figure.add_subplot(rows), label=label)
    figure.suptitle(textwrap.fill(title, int(_LETTERS * figure.get_figwidth())), fontsize=10.5)
    return figure


def _check_maps(before: np.ndarray, given: Sequence[ConditionalMap]) -> None:
    for number, one in enumerate(given, start=1):
        for name in ("query", "own_before", "own"):
            values = getattr(one, name)
            if np.shape(values) != np.shape(before) or np.ndim(before) != 2:
                raise ValueError(
                    f"Expected {name} of gallery image {number} as a map (H, W) like the query's {np.shape(before)} "
                    f"(got {np.shape(values)})"
                )
            if not (np.isfinite(values).all() and np.isfinite(before).all()):
                raise ValueError(f"Expected finite numbers in the maps of gallery image {number} (got NaN or infinity)")


def _limits(maps: list[np.ndarray]) -> tuple[float, float]:
    return min(one.min() for one in maps), max(one.max() for one in maps)


def _changes(one: ConditionalMap, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return one.query - before, one.own - one.own_before


def _draw_query(column: np.ndarray, picture: np.ndarray, before: np.ndarray, norms: tuple[float, float]) -> None:
    """The query by itself; below, the words for the rows of changes."""
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
    one: ConditionalMap,
    norms: tuple[float, float],
    largest: float,
) -> tuple[AxesImage, AxesImage]:
    """One gallery image's column; returns a norm map and a change map, for their colour bars."""
    gallery = load_picture(one.picture)
    _draw_picture(column[0], gallery, one.caption)
    norm = draw_feature_map(column[1], query, one.query, norms)
    column[1].set_xlabel("given it", fontsize=8.5, color=GREY, labelpad=3)
    for axes, picture, change in zip(column[2:], (query, gallery), _changes(one, before), strict=True):
        overlay = draw_feature_map(axes, picture, change, (-largest, largest), _CHANGES)
        axes.set_xlabel(f"mean {change.mean():+.2g}", fontsize=8, color=GREY, labelpad=3)
    return norm, overlay


def _draw_picture(axes: Axes, picture: np.ndarray, words: str) -> None:
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear")
    axes.set(xticks=[], yticks=[])
    axes.set_title(words, fontsize=8.5, color=BLACK)
