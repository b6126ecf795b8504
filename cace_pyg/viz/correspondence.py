"""Which clue of one picture meets which clue of the other."""

from collections.abc import Sequence

import matplotlib.patheffects as effects
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cace_pyg.viz.feature_map import draw_feature_map
from cace_pyg.viz.palette import BLACK, GREY
from cace_pyg.viz.picture import Picture, load_picture
from cace_pyg.viz.verdict_border import verdict_color, verdict_sign

_HEIGHT = 256.0
_GAP = 110.0
_COLOUR_BAR = 60.0
_WIDTH, _TALLEST, _WORDS = 9.0, 4.2, 0.75


def correspondences(
    image_a: Picture,
    image_b: Picture,
    matches: Sequence[tuple[int, int, float]] | np.ndarray,
    grid: tuple[int, int],
    *,
    pid_a: int | str | None = None,
    pid_b: int | str | None = None,
    distance_before: float | None = None,
    distance_after: float | None = None,
    is_match: bool | None = None,
    feature_map_a: np.ndarray | None = None,
    feature_map_b: np.ndarray | None = None,
    feature_map_label: str = "discrepancy of each clue",
    strongest: int = 20,
) -> Figure:
    """Draw two pictures side by side, and lines between the clues that correspond.

    Args:
        image_a: the first picture, such as a query.
        image_b: the second, such as a gallery image.
        matches: rows (clue of a, clue of b, weight), in any order, ``(match, 3)``. A clue is a pixel of the
            feature map, counted row by row; its line ends at the middle of its cell. Weights are ≥ 0, without
            unit; a weight of 0 is no match.
        grid: (H, W) of both feature maps.
        pid_a, pid_b: the persons, for the title.
        distance_before, distance_after: of the individual embeddings, and as the second stage has it.
        is_match: whether both show one person; None leaves the verdict out.
        feature_map_a, feature_map_b: one number a clue, (H, W), drawn over each picture in a panel beside
            it; both share one colour scale.
        feature_map_label: what these numbers are, with their unit.
        strongest: how many matches to draw, by weight.

    Returns:
        A figure with one line a match: thicker and more opaque with the weight, coloured by the row of its
        clue in a. Its axes from left to right: the map of a, both pictures, the map of b, the colour bar;
        those without a map are left out.

    Raises:
        ValueError: a clue outside the grid, a weight that is negative or not finite, a map of another shape.
    """
    drawn = _strongest(_checked_matches(matches, grid), strongest)
    pictures = load_picture(image_a), load_picture(image_b)
    maps = _checked_maps(feature_map_a, feature_map_b, grid)
    widths = [_HEIGHT * picture.shape[1] / picture.shape[0] for picture in pictures]
    figure, pair_axes, map_axes = _layout(widths, maps)

    _draw_pair(pair_axes, pictures, widths, is_match)
    _draw_lines(pair_axes, drawn, grid, widths)
    pair_axes.set_xlabel(_describe_lines(drawn), fontsize=8.5, color=GREY, labelpad=6)
    _draw_maps(figure, map_axes, pictures, maps, feature_map_label)
    figure.suptitle(_title(pid_a, pid_b, is_match, distance_before, distance_after), fontsize=10.5)
    return figure


def _checked_matches(matches: Sequence[tuple[int, int, float]] | np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    table = np.asarray(matches, dtype=float)
    if not table.size:
        return np.zeros((0, 3))
    if table.ndim != 2 or table.shape[1] != 3:
        raise ValueError(f"Expected matches as rows (clue of a, clue of b, weight) (got shape {table.shape})")
    nodes, weights, clues = table[:, :2], table[:, 2], grid[0] * grid[1]
    if (nodes != np.floor(nodes)).any() or nodes.min() < 0 or nodes.max() >= clues:
        raise ValueError(
            f"Expected whole numbers from 0 to {clues - 1} as clues on a grid of {grid} "
            f"(got {nodes.min():g} to {nodes.max():g}); "
            "number them in each picture from 0, not through the pair graph"
        )
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"Expected finite weights ≥ 0 (got {weights.min():g} to {weights.max():g})")
    return table


def _checked_maps(
    map_a: np.ndarray | None, map_b: np.ndarray | None, grid: tuple[int, int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The maps as arrays; None stays None."""
    for name, feature_map in (("feature_map_a", map_a), ("feature_map_b", map_b)):
        if feature_map is not None and np.shape(feature_map) != tuple(grid):
            raise ValueError(f"Expected {name} of the grid's shape {tuple(grid)} (got {np.shape(feature_map)})")
        if feature_map is not None and not np.isfinite(feature_map).all():
            raise ValueError(f"Expected {name} of finite numbers (got NaN or infinity)")
    return tuple(None if values is None else np.asarray(values, dtype=float) for values in (map_a, map_b))


def _strongest(matches: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` matches of most weight, the weakest first, so that the strong ones are drawn on top."""
    positive = matches[matches[:, 2] > 0]
    order = np.argsort(-positive[:, 2], kind="stable")[:count]
    return positive[order][::-1]


def _layout(widths: list[float], maps: tuple) -> tuple[Figure, Axes, list[Axes | None]]:
    """The pair's axes in the middle, a map's axes on the side of its picture."""
    columns = [widths[0]] * (maps[0] is not None) + [sum(widths) + _GAP] + [widths[1]] * (maps[1] is not None)
    colour_bar = _COLOUR_BAR if len(columns) > 1 else 0.0
    height = min(_TALLEST, _WIDTH * _HEIGHT / (sum(columns) + colour_bar))
    figure = Figure(figsize=(_WIDTH, height + _WORDS), layout="constrained")
    axes = list(figure.subplots(1, len(columns), squeeze=False, width_ratios=columns)[0])
    map_a = axes.pop(0) if maps[0] is not None else None
    map_b = axes.pop() if maps[1] is not None else None
    return figure, axes[0], [map_a, map_b]


def _draw_pair(axes: Axes, pictures: tuple, widths: list[float], is_match: bool | None) -> None:
    colour = BLACK if is_match is None else verdict_color(is_match)
    style = (0, (3, 1.5)) if is_match is not None and not is_match else "-"
    for picture, left, width in zip(pictures, (0.0, widths[0] + _GAP), widths, strict=True):
        axes.imshow(picture, extent=(left, left + width, _HEIGHT, 0.0), interpolation="bilinear")
        frame = Rectangle(
            (left, 0.0),
            width,
            _HEIGHT,
            fill=False,
            edgecolor=colour,
            linestyle=style,
            linewidth=2.5,
            clip_on=False,
        )
        axes.add_patch(frame)
    axes.set(xlim=(-2, sum(widths) + _GAP + 2), ylim=(_HEIGHT + 2, -2), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _centres(nodes: np.ndarray, grid: tuple[int, int], left: float, width: float) -> np.ndarray:
    """The middles of the clues' cells, (match, 2) as x and y, in the units of the pair's axes."""
    rows, columns = np.divmod(nodes.astype(int), grid[1])
    return np.stack([left + (columns + 0.5) * width / grid[1], (rows + 0.5) * _HEIGHT / grid[0]], axis=1)


def _draw_lines(axes: Axes, matches: np.ndarray, grid: tuple[int, int], widths: list[float]) -> None:
    if not len(matches):
        return
    start = _centres(matches[:, 0], grid, 0.0, widths[0])
    end = _centres(matches[:, 1], grid, widths[0] + _GAP, widths[1])
    strength = matches[:, 2] / matches[:, 2].max()
    # Neighbouring rows in a get neighbouring colours: a line that leaves its bundle is seen at once.
    colours = colormaps["plasma"](0.1 + 0.8 * start[:, 1] / _HEIGHT)
    colours[:, 3] = 0.35 + 0.65 * strength
    line_widths = 0.6 + 2.4 * strength
    lines = LineCollection(np.stack([start, end], axis=1), colors=colours, linewidths=line_widths, zorder=3)
    lines.set_path_effects([effects.withStroke(linewidth=3.6, foreground="#ffffff66")])
    axes.add_collection(lines)
    for ends in (start, end):
        axes.scatter(*ends.T, c=colours, s=14 + 20 * strength, edgecolors="white", linewidths=0.7, zorder=4)


def _describe_lines(matches: np.ndarray) -> str:
    if not len(matches):
        return "no correspondence of positive weight"
    weak, strong = matches[0, 2], matches[-1, 2]
    return f"{len(matches)} strongest correspondences, weight {weak:.3g} (thin) to {strong:.3g} (thick)"


def _draw_maps(
    figure: Figure, map_axes: list[Axes | None], pictures: tuple, maps: tuple, feature_map_label: str
) -> None:
    present = [values for values in maps if values is not None]
    if not present:
        return
    limits = (min(values.min() for values in present), max(values.max() for values in present))
    drawn = [axes for axes in map_axes if axes is not None]
    for axes, picture, values in zip(map_axes, pictures, maps, strict=True):
        if axes is not None:
            overlay = draw_feature_map(axes, picture, values, limits)
    figure.colorbar(overlay, ax=drawn[-1], label=feature_map_label, shrink=0.7)


def _title(
    pid_a: int | str | None,
    pid_b: int | str | None,
    is_match: bool | None,
    distance_before: float | None,
    distance_after: float | None,
) -> str:
    parts = []
    if pid_a is not None and pid_b is not None:
        parts.append(f"person {pid_a} and person {pid_b}")
    if is_match is not None:
        parts.append(f"{verdict_sign(is_match)} {'the same person' if is_match else 'another person'}")
    if distance_before is not None:
        parts.append(f"distance before {distance_before:.3f}")
    if distance_after is not None:
        parts.append(f"distance after {distance_after:.3f}")
    return "   ·   ".join(parts)
