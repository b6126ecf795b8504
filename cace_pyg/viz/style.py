"""Shared by all figures: colours, verdicts, pictures as arrays."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from PIL import ImageOps

from cace_pyg.read_picture import Picture, read_picture

BLACK = "#000000"
GREY = "#666666"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"
# Without yellow, which is unreadable on white. Neighbours in the cycle also differ in lightness.
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")


def series_style(index: int) -> dict[str, Any]:
    """Colour, marker and line of series number ``index`` (from 0); the first 28 all differ, even in grey."""
    # Colours and markers repeat together, so each round shifts the lines by one.
    turn, place = divmod(index, len(SERIES))
    return {
        "color": SERIES[place],
        "marker": MARKERS[place],
        "linestyle": LINES[(place + turn) % len(LINES)],
    }


def verdict_sign(is_match: bool | None) -> str:
    """✓ for the same person, ✗ for another, "" if unknown."""
    return {True: "✓", False: "✗", None: ""}[is_match]


def verdict_color(is_match: bool | None) -> str:
    """Blue for the same person, vermillion for another, grey if unknown."""
    return {True: BLUE, False: VERMILLION, None: GREY}[is_match]


def draw_verdict_border(axes: Axes, is_match: bool | None) -> None:
    """Frame ``axes``: blue and solid for the same person, vermillion and dashed for another, else thin and grey."""
    for spine in axes.spines.values():
        spine.set_visible(True)
        # Butt caps: the default caps extend into the gaps, and the dashes would look solid.
        style = {"linestyle": (0, (2.0, 1.0)) if is_match is False else "-", "capstyle": "butt"}
        spine.set(color=verdict_color(is_match), linewidth=1.0 if is_match is None else 3.0, **style)


def picture_array(picture: Picture, canvas: tuple[int, int] | None = None) -> np.ndarray:
    """A picture as an RGB array, (height, width, 3), uint8.

    Args:
        picture: see :func:`cace_pyg.read_picture.read_picture`, also for the errors.
        canvas: (height, width) in pixels to fit the picture into, keeping its proportions, with a white background;
            None keeps the size.
    """
    image = read_picture(picture)
    if canvas is not None:
        height, width = canvas
        image = ImageOps.pad(image, (width, height), color="white")
    return np.asarray(image)
