"""The decisive correspondences of a pair."""

import numpy as np
from matplotlib.figure import Figure

from cace_pyg.viz.correspondence import correspondences
from cace_pyg.viz.palette import GREY
from cace_pyg.viz.picture import Picture

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
    """Draw a matching as lines between two pictures; no two lines end at one clue.

    Args:
        image_a: the left picture.
        image_b: the right picture.
        matching: rows (clue of a, clue of b, weight) of a whole matching, ``(match, 3)``, no unit.
        grid: (H, W) of both feature maps.
        title: who meets whom, and how near they are.
        strongest: how many matches to draw, by weight.
        feature_map_a, feature_map_b, feature_map_label: see :func:`~cace_pyg.viz.correspondences`.

    Returns:
        The figure of :func:`~cace_pyg.viz.correspondences`, with words that tell a matching.

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
    # Two lines: between two maps the pair has little room.
    pair = figure.axes[0 if feature_map_a is None else 1]
    pair.set_xlabel(_caption(np.asarray(matching), strongest), fontsize=8.5, color=GREY, labelpad=6)
    return figure


def _caption(matching: np.ndarray, strongest: int) -> str:
    if not len(matching):
        return "no edge between the pictures: nothing to match"
    weights = np.sort(matching[:, 2])[::-1]
    drawn = weights[:strongest]
    count = f"all {len(weights)}" if len(drawn) == len(weights) else f"strongest {len(drawn)} of {len(weights)}"
    return (
        f"maximum-weight matching, {count} matches\n"
        f"each carries {100 * drawn[-1]:.2g} % (thin) to {100 * drawn[0]:.2g} % (thick) of the propagation"
    )
