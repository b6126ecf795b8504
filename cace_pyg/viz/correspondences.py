"""Figures of the corresponding clues of two pictures."""

from collections.abc import Mapping, Sequence

import matplotlib.patheffects as effects
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cace_pyg.read_picture import Picture
from cace_pyg.viz.clue_maps import draw_feature_map
from cace_pyg.viz.style import (
    BLACK,
    GREY,
    picture_array,
    verdict_color,
    verdict_sign,
)

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
    note: str = "",
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
        distance_before, distance_after: of the individual embeddings, and of the second stage.
        is_match: whether both show one person; None: unknown, and not shown.
        feature_map_a, feature_map_b: one number per clue, (H, W), drawn over each picture in a panel next to it; both
            share one colour scale.
        feature_map_label: describes these numbers, with their unit.
        strongest: how many matches to draw, by weight.
        note: a line below the pictures.

    Returns:
        A figure with one line per match: thicker and more opaque with the weight, coloured by the row of its clue in
        a. Its axes from left to right: the map of a, both pictures, the map of b, the colour bar; those without a map
        are left out.

    Raises:
        ValueError: a clue is outside the grid, a weight is negative or not finite, or a map has another shape.
    """
    drawn = matches_to_draw(matches, grid, strongest)
    pictures = picture_array(image_a), picture_array(image_b)
    maps = _checked_maps(feature_map_a, feature_map_b, grid)
    figure, pair_axes, map_axes = _layout(pictures, maps)
    draw_joined_pictures(pair_axes, pictures, drawn, grid, is_match)
    told = "\n".join(line for line in (_describe_lines(drawn), note) if line)
    pair_axes.set_xlabel(told, fontsize=8.5, color=GREY, labelpad=6)
    _draw_maps(figure, map_axes, pictures, maps, feature_map_label)
    figure.suptitle(_title(pid_a, pid_b, is_match, distance_before, distance_after), fontsize=10.5)
    return figure


_Maps = tuple[np.ndarray | None, np.ndarray | None]


def _checked_maps(map_a: np.ndarray | None, map_b: np.ndarray | None, grid: tuple[int, int]) -> _Maps:
    """The checked maps as arrays; None stays None."""
    for name, feature_map in (("feature_map_a", map_a), ("feature_map_b", map_b)):
        if feature_map is not None and np.shape(feature_map) != tuple(grid):
            raise ValueError(f"Expected {name} of the grid's shape {tuple(grid)} (got {np.shape(feature_map)})")
        if feature_map is not None and not np.isfinite(feature_map).all():
            raise ValueError(f"Expected {name} of finite numbers (got NaN or infinity)")
    map_a, map_b = (None if values is None else np.asarray(values, dtype=float) for values in (map_a, map_b))
    return map_a, map_b


def _layout(pictures: tuple[np.ndarray, np.ndarray], maps: _Maps) -> tuple[Figure, Axes, list[Axes | None]]:
    """The pair's axes in the middle, and a map's axes on the side of its picture."""
    sides = [
        [HEIGHT * picture.shape[1] / picture.shape[0]] * (drawn is not None)
        for picture, drawn in zip(pictures, maps, strict=True)
    ]
    columns = [*sides[0], joined_width(pictures), *sides[1]]
    colour_bar = _COLOUR_BAR if len(columns) > 1 else 0.0
    height = min(_TALLEST, _WIDTH * HEIGHT / (sum(columns) + colour_bar))
    figure = Figure(figsize=(_WIDTH, height + _WORDS), layout="constrained")
    axes = list(figure.subplots(1, len(columns), squeeze=False, width_ratios=columns)[0])
    map_a = axes.pop(0) if maps[0] is not None else None
    map_b = axes.pop() if maps[1] is not None else None
    return figure, axes[0], [map_a, map_b]


def _describe_lines(matches: np.ndarray) -> str:
    if not len(matches):
        return "no correspondence of positive weight"
    weak, strong = matches[0, 2], matches[-1, 2]
    return f"{len(matches)} strongest correspondences, weight {weak:.3g} (thin) to {strong:.3g} (thick)"


def _draw_maps(
    figure: Figure,
    map_axes: list[Axes | None],
    pictures: tuple[np.ndarray, np.ndarray],
    maps: _Maps,
    feature_map_label: str,
) -> None:
    present = [values for values in maps if values is not None]
    if not present:
        return
    limits = (min(values.min() for values in present), max(values.max() for values in present))
    drawn = [axes for axes in map_axes if axes is not None]
    for axes, picture, values in zip(map_axes, pictures, maps, strict=True):
        if axes is not None and values is not None:
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


_SECOND_LINES = 0.3  # inches for the second lines of title and caption


def decisive_correspondences(
    image_a: Picture,
    image_b: Picture,
    matching: np.ndarray,
    grid: tuple[int, int],
    *,
    title: str = "",
    strongest: int = 20,
    feature_map_a: np.ndarray | None = None,
    feature_map_b: np.ndarray | None = None,
    feature_map_label: str = "discrepancy of each clue",
) -> Figure:
    """Draw a matching as lines between two pictures; no two lines share a clue.

    Args:
        image_a: the left picture.
        image_b: the right picture.
        matching: rows (clue of a, clue of b, weight) of a complete matching, ``(match, 3)``, no unit.
        grid: (H, W) of both feature maps.
        title: the pictures and their distance, for example.
        strongest: how many matches to draw, by weight.
        feature_map_a, feature_map_b, feature_map_label: see :func:`~cace_pyg.viz.correspondences`.

    Returns:
        The figure of :func:`~cace_pyg.viz.correspondences`, with text about a matching.

    Raises:
        ValueError: see :func:`~cace_pyg.viz.correspondences`.
    """
    figure = correspondences(
        image_a,
        image_b,
        matching,
        grid,
        feature_map_a=feature_map_a,
        feature_map_b=feature_map_b,
        feature_map_label=feature_map_label,
        strongest=strongest,
    )
    figure.suptitle(title, fontsize=10.5)
    figure.set_figheight(figure.get_figheight() + _SECOND_LINES)
    # Two lines: there is little room for the pair between two maps.
    pair = figure.axes[0 if feature_map_a is None else 1]
    pair.set_xlabel(_caption(np.asarray(matching), strongest), fontsize=8.5, color=GREY, labelpad=6)
    return figure


def _caption(matching: np.ndarray, strongest: int) -> str:
    if not len(matching):
        return "no edges between the pictures: nothing to match"
    weights = np.sort(matching[:, 2])[::-1]
    drawn = weights[:strongest]
    count = f"all {len(weights)}" if len(drawn) == len(weights) else f"strongest {len(drawn)} of {len(weights)}"
    return (
        f"maximum-weight matching, {count} matches\n"
        f"each carries {100 * drawn[-1]:.2g} % (thin) to {100 * drawn[0]:.2g} % (thick) of the propagation"
    )


_COMPARED_WIDTH, _COMPARED_TALLEST, _COMPARED_WORDS = 9.0, 4.2, 0.95


def compared_correspondences(
    image_a: Picture,
    image_b: Picture,
    matches: Mapping[str, np.ndarray],
    grid: tuple[int, int],
    *,
    captions: Mapping[str, str] | None = None,
    title: str = "",
    is_match: bool | None = None,
) -> Figure:
    """Draw the same pair for each graph, with its matches as lines.

    Args:
        image_a: the left picture of each pair.
        image_b: the right one.
        matches: by graph ("CorrespondenceAttention", "TopKSimilarity"), rows (clue of a, clue of b, weight ≥ 0),
            ``(match, 3)``; a weight of 0 is no match. Weights of two graphs need not be comparable.
        grid: (H, W) of both feature maps.
        captions: by graph, the text below it.
        title: above the figure.
        is_match: whether both show one person; None: unknown.

    Returns:
        A figure with one axes per graph.

    Raises:
        ValueError: there is no graph; see also :func:`~cace_pyg.viz.correspondences.matches_to_draw`.
    """
    if not matches:
        raise ValueError("Expected the matches of at least one graph (got none)")
    pictures = picture_array(image_a), picture_array(image_b)
    drawn = {name: matches_to_draw(rows, grid, len(rows)) for name, rows in matches.items()}
    height = min(_COMPARED_TALLEST, _COMPARED_WIDTH / len(drawn) * HEIGHT / joined_width(pictures))
    figure = Figure(figsize=(_COMPARED_WIDTH, height + _COMPARED_WORDS), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        draw_joined_pictures(axes, pictures, rows, grid, is_match)
        axes.set_title(name, fontsize=10, fontweight="bold")
        words = (captions or {}).get(name, "") if len(rows) else "no edges between the pictures"
        axes.set_xlabel(words, fontsize=8.5, color=GREY, labelpad=6)
    figure.suptitle(title, fontsize=10.5)
    return figure


HEIGHT = 256.0  # of each picture, in the units of the axes
_GAP = 110.0
_BEND = 0.25  # share of a cell's height, for each column away from the middle


def joined_width(pictures: tuple[np.ndarray, np.ndarray]) -> float:
    """The width of both pictures and the gap between them, in units in which a picture is 256 high."""
    return sum(_widths(pictures)) + _GAP


def draw_joined_pictures(
    axes: Axes,
    pictures: tuple[np.ndarray, np.ndarray],
    matches: np.ndarray,
    grid: tuple[int, int],
    is_match: bool | None = None,
) -> None:
    """Draw two pictures side by side, and a line per match: thicker and more opaque with its weight.

    A line is coloured by the row of its clue in a, ends at the middle of its cells, and bends a little, so that lines
    of one row are distinguishable.

    Args:
        axes: where to draw.
        pictures: a and b, RGB arrays.
        matches: rows (clue of a, clue of b, weight > 0), the weakest first.
        grid: (H, W) of both feature maps.
        is_match: shown by the frames, see :mod:`cace_pyg.viz.style`; None: unknown, black frames.
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
    return Rectangle(
        (left, 0.0), width, HEIGHT, fill=False, clip_on=False, edgecolor=colour, linestyle=style, linewidth=2.5
    )


def _draw_lines(axes: Axes, matches: np.ndarray, grid: tuple[int, int], widths: list[float]) -> None:
    start = _centres(matches[:, 0], grid, 0.0, widths[0])
    end = _centres(matches[:, 1], grid, widths[0] + _GAP, widths[1])
    strength = matches[:, 2] / matches[:, 2].max()
    # Neighbouring rows in a have similar colours, so that a line that leaves its bundle stands out.
    colours = colormaps["plasma"](0.1 + 0.8 * start[:, 1] / HEIGHT)
    colours[:, 3] = 0.35 + 0.65 * strength
    line_widths = 0.6 + 2.4 * strength
    arcs = list(_arcs(start, end, matches[:, 0].astype(int) % grid[1], grid))
    lines = LineCollection(arcs, colors=colours, linewidths=line_widths, zorder=3)
    lines.set_path_effects([effects.withStroke(linewidth=3.6, foreground="#ffffff66")])
    axes.add_collection(lines)
    for ends in (start, end):
        x, y = ends.T
        axes.scatter(x, y, c=colours, s=14 + 20 * strength, edgecolors="white", linewidths=0.7, zorder=4)


def _arcs(start: np.ndarray, end: np.ndarray, column: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The lines as points, ``(match, 25, 2)``: bent upwards from the left columns, downwards from the right ones."""
    bend = (column - (grid[1] - 1) / 2) * _BEND * HEIGHT / grid[0]
    along = np.linspace(0, 1, 25)[None, :, None]
    straight = (1 - along) * start[:, None] + along * end[:, None]
    return straight + 4 * along * (1 - along) * np.stack([np.zeros_like(bend), bend], axis=1)[:, None]


def _centres(nodes: np.ndarray, grid: tuple[int, int], left: float, width: float) -> np.ndarray:
    """The centres of the clues' cells, (match, 2) as x and y, in the units of the axes."""
    rows, columns = np.divmod(nodes.astype(int), grid[1])
    return np.stack([left + (columns + 0.5) * width / grid[1], (rows + 0.5) * HEIGHT / grid[0]], axis=1)


def matches_to_draw(
    matches: Sequence[tuple[int, int, float]] | np.ndarray, grid: tuple[int, int], strongest: int
) -> np.ndarray:
    """The ``strongest`` matches of weight above 0, the weakest first, so that the strong ones are drawn on top.

    Args:
        matches: rows (clue of a, clue of b, weight), in any order, ``(match, 3)``.
        grid: (H, W) of both feature maps.
        strongest: how many at most.

    Raises:
        ValueError: a clue is outside the grid, or a weight is negative or not finite.
    """
    table = _checked(np.asarray(matches, dtype=float), grid)
    positive = table[table[:, 2] > 0]
    order = np.argsort(-positive[:, 2], kind="stable")[:strongest]
    return positive[order][::-1]


def _checked(table: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
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
