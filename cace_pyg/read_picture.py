"""Decodes pictures from files, bytes, arrays and PIL images.

:mod:`cace_pyg.data.mediapipe_parser` runs this file without the library installed, so it must not import the rest of
the library.
"""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Picture = str | Path | bytes | np.ndarray | Image.Image
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF")  # no other: Pillow runs Ghostscript for PostScript
BROKEN = Exception  # decoders raise OSError, SyntaxError, struct.error, RuntimeError (AVIF), and others
_BEHIND = (128, 128, 128)  # grey background of transparent pictures
_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF's tags, and a value


def read_picture(picture: Picture) -> Image.Image:
    """An RGB picture from a file's path, the bytes of a file, a PIL image, or an array.

    The picture is upright: it is rotated by the orientation in its EXIF data. Grey values of 12 and 16 bits and floats
    from 0 to 1 are scaled to 8 bits. Transparent pixels are blended with mid grey. Of several frames or pages the first
    is used.

    Args:
        picture: a file is JPEG, PNG, WebP, BMP, GIF, TIFF, or AVIF if Pillow supports it; an array is (height, width,
            3) or (height, width), uint8, uint16, or floats from 0 to 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, not a picture, or far too large; its range is unknown (32-bit numbers, floats
            outside 0 to 1); or an array has another shape, type or range.
    """
    if isinstance(picture, np.ndarray):
        return _from_array(picture)
    if not isinstance(picture, str | Path | bytes | Image.Image):
        kind = type(picture).__name__
        raise ValueError(f"Expected a picture as a path, bytes of a file, an array or a PIL image (got {kind})")
    name = picture if isinstance(picture, str | Path) else "from bytes or PIL"
    if isinstance(picture, str | Path) and not Path(picture).exists():
        raise FileNotFoundError(f"there is no picture at {picture}")
    try:
        if isinstance(picture, Image.Image):
            return _upright(picture)
        file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
        with Image.open(file, formats=_formats()) as opened:
            return _upright(opened)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"cannot read the picture {name}: it is none of {', '.join(FORMATS)}; replace or remove it"
        ) from error
    except BROKEN as error:
        raise ValueError(
            f"cannot read the picture {name}: {str(error) or type(error).__name__}; replace or remove it"
        ) from error


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # AVIF came with Pillow 11.3


def _upright(picture: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(picture)
    if picture.mode == "F" or picture.mode.startswith("I"):
        return Image.fromarray(_in_8_bits(np.asarray(turned), picture)).convert("RGB")
    if not picture.has_transparency_data:
        return turned.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", turned.size, (*_BEHIND, 255)), turned.convert("RGBA")).convert("RGB")


def _in_8_bits(values: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Scale grey values of more than 8 bits; Pillow itself would clip them to white."""
    if picture.mode == "F":
        return _from_floats(values)
    tags = getattr(picture, "tag_v2", {})
    if picture.mode == "I" and picture.format != "PNG":  # older versions of Pillow use this mode for 16-bit PNG
        raise ValueError("grey values of 32 bits, or with a sign, have no defined white; save it with 8 or 16 bits")
    bits = tags.get(_BITS, (16,))[0]
    grey = np.round(values.astype(np.float64) * (255 / (2**bits - 1))).astype(np.uint8)
    return 255 - grey if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else grey


def _from_floats(values: np.ndarray) -> np.ndarray:
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"Expected a float picture from 0 to 1 (got {values.min():.3g} to {values.max():.3g}); undo the "
            "normalisation first, or divide by its white"
        )
    return np.round(values * 255).astype(np.uint8)


def _from_array(array: np.ndarray) -> Image.Image:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise ValueError(f"Expected a picture (height, width, 3) or (height, width) (got shape {array.shape})")
    if np.issubdtype(array.dtype, np.floating):
        array = _from_floats(array)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        if array.max() <= 255:
            raise ValueError(
                f"Expected a uint16 picture from 0 to 65535 (got at most {array.max()}, which is nearly black); if it "
                "has 8 bits, give array.astype(numpy.uint8)"
            )
        array = np.round(array / 257).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"Expected a picture of uint8, uint16, or of floats from 0 to 1 (got {array.dtype})")
    return Image.fromarray(array).convert("RGB")
