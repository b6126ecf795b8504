"""A map over the clues of one picture, laid over it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

_OPACITY = 0.6


def draw_feature_map(
    axes: Axes, picture: np.ndarray, feature_map: np.ndarray, limits: tuple[float, float], colours: str = "viridis"
) -> AxesImage:
    """Lay one number a clue over the picture, in grey below, so that only the map speaks in colour.

    Args:
        axes: where to draw; the y axis runs down, from 0 to the picture's height.
        picture: RGB, (height, width, 3).
        feature_map: one number a clue, (H, W), any unit. Its cells stay visible: nothing is interpolated.
        limits: the values of the first and the last colour, to share one scale between pictures.
        colours: matplotlib's name of the scale.

    Returns:
        The map's image, for a colour bar.
    """
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    axes.imshow(picture.mean(axis=2), cmap="gray", extent=extent, interpolation="bilinear")
    low, high = limits
    overlay = axes.imshow(
        feature_map,
        cmap=colours,
        alpha=_OPACITY,
        extent=extent,
        interpolation="nearest",
        vmin=low,
        vmax=high,
    )
    axes.set(xticks=[], yticks=[])
    return overlay
