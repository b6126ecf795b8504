"""Whatever holds a picture, as an RGB array."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

Picture = str | Path | np.ndarray | Image.Image


def load_picture(picture: Picture, canvas: tuple[int, int] | None = None) -> np.ndarray:
    """Read a picture into an RGB array, (height, width, 3), uint8.

    Args:
        picture: a file's path, a PIL image, or an array (height, width, 3) or (height, width): uint8, or
            floats from 0 to 1.
        canvas: (height, width) in pixels to fit the picture into, its proportions kept, the rest white; None
            keeps the size.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an array of another shape, type or range.
    """
    image = _to_pil(picture)
    if canvas is not None:
        height, width = canvas
        image = ImageOps.pad(image, (width, height), color="white")
    return np.asarray(image)


def _to_pil(picture: Picture) -> Image.Image:
    if isinstance(picture, Image.Image):
        return ImageOps.exif_transpose(picture).convert("RGB")
    if isinstance(picture, np.ndarray):
        return Image.fromarray(_to_bytes(picture)).convert("RGB")
    with Image.open(picture) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _to_bytes(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] == 3):
        raise ValueError(f"Expected a picture (height, width, 3) or (height, width) (got shape {array.shape})")
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"Expected a picture of uint8, or of floats from 0 to 1 (got {array.dtype})")
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"Expected a float picture from 0 to 1 (got {array.min():.3g} to {array.max():.3g}); "
            "undo the normalisation first"
        )
    return np.round(array * 255).astype(np.uint8)
