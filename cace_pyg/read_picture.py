"""Whatever holds a picture, as a decoded one."""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

Picture = str | Path | bytes | np.ndarray | Image.Image
BROKEN = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)  # all come from broken files


def read_picture(picture: Picture) -> Image.Image:
    """An RGB picture from a file's path, the bytes of a file, a PIL image, or an array.

    Upright: where EXIF data says how the camera was held, the picture is turned by it.

    Args:
        picture: an array is (height, width, 3) or (height, width), uint8, or floats from 0 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, no picture, or far too large; or an array of another shape, type or range.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if isinstance(picture, Image.Image):
        return _upright(picture)
    name = "from bytes" if isinstance(picture, bytes) else picture
    if not isinstance(picture, bytes) and not Path(picture).exists():
        raise FileNotFoundError(f"there is no picture at {picture}")
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as opened:
            return _upright(opened)
    except BROKEN as error:
        raise ValueError(
            f"cannot read the picture {name}: {error}; expected a whole JPEG or PNG file, replace or remove it"
        ) from error


def _upright(picture: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(picture).convert("RGB")


def _from_array(array: np.ndarray) -> Image.Image:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ValueError(f"Expected a picture (height, width, 3) or (height, width) (got shape {array.shape})")
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"Expected a float picture from 0 to 1 (got {array.min():.3g} to {array.max():.3g}); undo the "
                "normalisation first"
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"Expected a picture of uint8, or of floats from 0 to 1 (got {array.dtype})")
    return Image.fromarray(array).convert("RGB")
