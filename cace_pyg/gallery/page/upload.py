"""Reads a picture that was sent over the network."""

import asyncio
import io
import warnings
from collections.abc import AsyncIterator

from PIL import Image

from cace_pyg.read_picture import BROKEN, read_picture

MOST_BYTES = 10 * 2**20
MOST_PIXELS = 40_000_000
_MOST_PIXELS = f"at most {MOST_PIXELS // 10**6} megapixels"
FORMATS = ("JPEG", "PNG", "WEBP")


class UploadError(ValueError):
    """An upload is not valid: the reason and the HTTP status."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


async def read_upload(stream: AsyncIterator[bytes], patience: float) -> bytes:
    """The body of a request, kept in memory only.

    Args:
        stream: the body; reading stops if it is too long.
        patience: seconds within which all of it must have arrived.

    Raises:
        UploadError: it is above 10 MiB (status 413), empty (422), or not complete in time (408).
    """
    body = bytearray()
    try:
        async with asyncio.timeout(patience):
            async for part in stream:
                body += part
                if len(body) > MOST_BYTES:
                    limit = f"at most {MOST_BYTES // 2**20} MiB"
                    raise UploadError(413, f"Expected a picture of {limit} (got more); scale it down")
    except TimeoutError as error:
        got = f"got {len(body):,} bytes by then"
        raise UploadError(408, f"Expected the whole picture within {patience:g} s ({got}); try again") from error
    if not body:
        raise UploadError(422, "Expected a picture (got nothing)")
    return bytes(body)


def decode_upload(body: bytes) -> Image.Image:
    """The upright RGB picture in a body; its size is checked before any pixel is decoded.

    Raises:
        UploadError: it has more than 40 megapixels (status 413), is not JPEG, PNG or WebP, whatever its name (415), or
            is truncated (422).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below
            opened = Image.open(io.BytesIO(body), formats=FORMATS)  # reads the header, no pixels
    except Image.DecompressionBombError as error:
        raise UploadError(413, f"Expected {_MOST_PIXELS} (got far more); scale it down") from error
    except BROKEN as error:
        raise UploadError(415, "Expected a JPEG, PNG or WebP picture (got something else)") from error
    with opened:
        pixels = opened.width * opened.height
        if pixels > MOST_PIXELS:
            size = f"{opened.width} × {opened.height}"
            raise UploadError(413, f"Expected {_MOST_PIXELS} (got {size}); scale it down")
        try:
            return read_picture(opened)
        except ValueError as error:
            reason = error.__cause__ or error
            raise UploadError(422, f"cannot read the picture: {reason}; expected a whole file") from error
