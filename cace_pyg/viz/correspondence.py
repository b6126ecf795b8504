"""Which clue of one picture meets which clue of the other."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cace_pyg.viz.feature_map import draw_feature_map
from cace_pyg.viz.joined_pictures import HEIGHT, draw_joined_pictures, joined_width
from cace_pyg.viz.matches_to_draw import matches_to_draw
from cace_pyg.viz.palette import GREY
from cace_pyg.viz.picture import Picture, load_picture
from cace_pyg.viz.verdict_border import verdict_sign

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
    drawn = matches_to_draw(matches, grid, strongest)
    pictures = load_picture(image_a), load_picture(image_b)
    maps = _checked_maps(feature_map_a, feature_map_b, grid)
    figure, pair_axes, map_axes = _layout(pictures, maps)
    draw_joined_pictures(pair_axes, pictures, drawn, grid, is_match)
    pair_axes.set_xlabel(_describe_lines(drawn), fontsize=8.5, color=GREY, labelpad=6)
    _draw_maps(figure, map_axes, pictures, maps, feature_map_label)
    figure.suptitle(_title(pid_a, pid_b, is_match, distance_before, distance_after), fontsize=10.5)
    return figure


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


def _layout(pictures: tuple, maps: tuple) -> tuple[Figure, Axes, list[Axes | None]]:
    """The pair's axes in the middle, a map's axes on the side of its picture."""
    sides = [
        [HEIGHT * one.shape[1] / one.shape[0]] * (drawn is not None) for one, drawn in zip(pictures, maps, strict=True)
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
