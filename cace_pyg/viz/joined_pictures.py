"""Two pictures in one axes, and lines between their clues."""

import matplotlib.patheffects as effects
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from cace_pyg.viz.palette import BLACK
from cace_pyg.viz.verdict_border import verdict_color

HEIGHT = 256.0  # of each picture, in the units of the axes
_GAP = 110.0
_BEND = 0.25  # of a cell's height, for each column away from the middle


def joined_width(pictures: tuple[np.ndarray, np.ndarray]) -> float:
    """How wide both pictures and the gap between them are, in units of which a picture is 256 high."""
    return sum(_widths(pictures)) + _GAP


def draw_joined_pictures(
    axes: Axes,
    pictures: tuple[np.ndarray, np.ndarray],
    matches: np.ndarray,
    grid: tuple[int, int],
    is_match: bool | None = None,
) -> None:
    """Draw two pictures side by side, and a line a match: thicker and more opaque with its weight.

    A line has the colour of the row that its clue of a lies in, ends at the middle of its cells, and bends a little, so
    that lines of one row can be told apart.

    Args:
        axes: where to draw.
        pictures: a and b, RGB arrays.
        matches: rows (clue of a, clue of b, weight > 0), the weakest first.
        grid: (H, W) of both feature maps.
        is_match: what the frames tell, see :mod:`cace_pyg.viz.verdict_border`; black where nobody knows.
    """
    widths = _widths(pictures)
    for picture, left, width in zip(pictures, (0.0, widths[0] + _GAP), widths, strict=True):
        axes.imshow(picture, extent=(left, left + width, HEIGHT, 0.0), interpolation="bilinear")
        axes.add_patch(_frame(left, width, is_match))
    axes.set(xlim=(-2, joined_width(pictures) + 2), ylim=(HEIGHT + 2, -2), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if len(matches):
        _draw_lines(axes, matches, grid, widths)


def _widths(pictures: tuple[np.ndarray, np.ndarray]) -> list[float]:
    return [HEIGHT * picture.shape[1] / picture.shape[0] for picture in pictures]


def _frame(left: float, width: float, is_match: bool | None) -> Rectangle:
    colour = BLACK if is_match is None else verdict_color(is_match)
    style = (0, (3, 1.5)) if is_match is not None and not is_match else "-"
    line = {"edgecolor": colour, "linestyle": style, "linewidth": 2.5}
    return Rectangle((left, 0.0), width, HEIGHT, fill=False, clip_on=False, **line)


def _draw_lines(axes: Axes, matches: np.ndarray, grid: tuple[int, int], widths: list[float]) -> None:
    start = _centres(matches[:, 0], grid, 0.0, widths[0])
    end = _centres(matches[:, 1], grid, widths[0] + _GAP, widths[1])
    strength = matches[:, 2] / matches[:, 2].max()
    # Neighbouring rows in a get neighbouring colours: a line that leaves its bundle is seen at once.
    colours = colormaps["plasma"](0.1 + 0.8 * start[:, 1] / HEIGHT)
    colours[:, 3] = 0.35 + 0.65 * strength
    line_widths = 0.6 + 2.4 * strength
    lines = LineCollection(
        _arcs(start, end, matches[:, 0].astype(int) % grid[1], grid), colors=colours, linewidths=line_widths, zorder=3
    )
    lines.set_path_effects([effects.withStroke(linewidth=3.6, foreground="#ffffff66")])
    axes.add_collection(lines)
    for ends in (start, end):
        axes.scatter(*ends.T, c=colours, s=14 + 20 * strength, edgecolors="white", linewidths=0.7, zorder=4)


def _arcs(start: np.ndarray, end: np.ndarray, column: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The lines as points, ``(match, 25, 2)``: up from the left columns, down from the right ones."""
    bend = (column - (grid[1] - 1) / 2) * _BEND * HEIGHT / grid[0]
    along = np.linspace(0, 1, 25)[None, :, None]
    straight = (1 - along) * start[:, None] + along * end[:, None]
    return straight + 4 * along * (1 - along) * np.stack([np.zeros_like(bend), bend], axis=1)[:, None]


def _centres(nodes: np.ndarray, grid: tuple[int, int], left: float, width: float) -> np.ndarray:
    """The middles of the clues' cells, (match, 2) as x and y, in the units of the axes."""
    rows, columns = np.divmod(nodes.astype(int), grid[1])
    return np.stack([left + (columns + 0.5) * width / grid[1], (rows + 0.5) * HEIGHT / grid[0]], axis=1)
