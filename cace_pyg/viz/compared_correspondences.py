"""Where several graphs send the same clues (Fig. 5 of the paper)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cace_pyg.viz.joined_pictures import HEIGHT, draw_joined_pictures, joined_width
from cace_pyg.viz.matches_to_draw import matches_to_draw
from cace_pyg.viz.palette import GREY
from cace_pyg.viz.picture import Picture, load_picture

_WIDTH, _TALLEST, _WORDS = 9.0, 4.2, 0.95


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
    """Draw the same pair once for each graph, with its matches as lines.

    Args:
        image_a: the left picture of each pair.
        image_b: the right one.
        matches: by graph ("CorrespondenceAttention", "TopKSimilarity"), rows (clue of a, clue of b, weight ≥ 0),
            ``(match, 3)``; a weight of 0 is no match. Weights of two graphs need not compare.
        grid: (H, W) of both feature maps.
        captions: by graph, what stands below.
        title: above all.
        is_match: whether both show one person; None: nobody knows.

    Returns:
        A figure with one axes a graph.

    Raises:
        ValueError: no graph, or matches as :func:`~cace_pyg.viz.matches_to_draw.matches_to_draw` refuses them.
    """
    if not matches:
        raise ValueError("Expected the matches of at least one graph (got none)")
    pictures = load_picture(image_a), load_picture(image_b)
    drawn = {name: matches_to_draw(rows, grid, len(rows)) for name, rows in matches.items()}
    height = min(_TALLEST, _WIDTH / len(drawn) * HEIGHT / joined_width(pictures))
    figure = Figure(figsize=(_WIDTH, height + _WORDS), layout="constrained")
    for axes, (name, rows) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        draw_joined_pictures(axes, pictures, rows, grid, is_match)
        axes.set_title(name, fontsize=10, fontweight="bold")
        words = (captions or {}).get(name, "") if len(rows) else "no edge between the pictures"
        axes.set_xlabel(words, fontsize=8.5, color=GREY, labelpad=6)
    figure.suptitle(title, fontsize=10.5)
    return figure
