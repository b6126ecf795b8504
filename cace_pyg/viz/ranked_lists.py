"""The ranked lists of one query, one below the other."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cace_pyg.read_picture import Picture
from cace_pyg.viz.style import (
    BLACK,
    GREY,
    draw_verdict_border,
    picture_array,
    verdict_color,
    verdict_sign,
)

_RANKS = 10
_CANVAS = (256, 128)
_NOTE_WIDTH = 12


@dataclass(frozen=True)
class RankedImage:
    """One gallery image in a ranking."""

    path: Picture
    """The picture: a file, a PIL image or an array."""
    is_match: bool | None
    """Whether it shows the query's person; None: unknown."""
    distance: float
    """The distance that it was ranked by; no unit, smaller is nearer."""
    note: str = ""
    """A few words below the distance, such as "camera 3" or "was rank 7"; line breaks are kept."""


def ranked_lists(query: Picture, rows: Mapping[str, Sequence[RankedImage]]) -> Figure:
    """Draw a query and the first ten gallery images of each ranking.

    Args:
        query: the query's picture.
        rows: by ranking ("individual", "two_stage"), its images, nearest first. At most ten are drawn.

    Returns:
        The query at the left, and one row per ranking. The right person has a solid blue border and ✓, a wrong one a
        dashed vermillion border and ✗, an unknown one a thin grey border; the distance is below each. The axes are the
        query's, then row by row, rank by rank.

    Raises:
        ValueError: there is no ranking, or one has no images.
        FileNotFoundError: a picture's file does not exist.
    """
    if not rows:
        raise ValueError("Expected at least one ranking, such as 'individual' (got none)")
    for name, images in rows.items():
        if not images:
            raise ValueError(f"Expected at least one ranked image in {name!r} (got none)")
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.04, wspace=0.0, hspace=0.02)
    figure = Figure(figsize=(9.0, 2.25 * len(rows)), layout=layout)
    grid = figure.add_gridspec(len(rows), _RANKS + 1, width_ratios=[1.35] + [1.0] * _RANKS)
    _draw_query(figure.add_subplot(grid[:, 0]), query)
    for row, (name, images) in enumerate(rows.items()):
        for rank, image in enumerate(images[:_RANKS], start=1):
            _draw_ranked(figure.add_subplot(grid[row, rank]), image, rank)
        first = figure.axes[-min(len(images), _RANKS)]
        first.set_ylabel(name, fontsize=10, fontweight="bold")
    return figure


def _draw_picture(axes: Axes, picture: Picture) -> None:
    axes.imshow(picture_array(picture, _CANVAS), interpolation="bilinear")
    axes.set(xticks=[], yticks=[])


def _draw_query(axes: Axes, query: Picture) -> None:
    _draw_picture(axes, query)
    axes.set_title("query", fontsize=10, fontweight="bold", color=BLACK)
    for spine in axes.spines.values():
        spine.set(color=BLACK, linewidth=1.2)


def _draw_ranked(axes: Axes, image: RankedImage, rank: int) -> None:
    _draw_picture(axes, image.path)
    draw_verdict_border(axes, image.is_match)
    axes.set_title(f"{rank} {verdict_sign(image.is_match)}", fontsize=10, color=verdict_color(image.is_match), pad=4)
    notes = [textwrap.shorten(line, 2 * _NOTE_WIDTH, placeholder="…") for line in image.note.splitlines()]
    lines = [f"{image.distance:.3f}", *(part for line in notes for part in textwrap.wrap(line, _NOTE_WIDTH))]
    axes.set_xlabel("\n".join(lines), fontsize=8, color=GREY, labelpad=4)
