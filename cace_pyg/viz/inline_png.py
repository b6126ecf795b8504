"""Figures as data URIs."""

import base64
import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from PIL import Image

# 100 dpi fills a page of 900 pixels; more is for dense screens, less keeps a report with many figures small.
_DOTS_PER_INCH = (140, 100, 80, 65)
# 32 levels a channel, black and white kept: no colour moves by more than 4 of 255, and photographs take half
# the room. A palette of 256 colours would give rare colours away, such as the top of a colour bar.
_LEVELS = 32
_COARSER = [round(round(value * (_LEVELS - 1) / 255) * 255 / (_LEVELS - 1)) for value in range(256)]


def inline_pngs(figures: Sequence[Figure], budget: int = 4_500_000) -> list[str]:
    """Render figures as PNG data URIs that stay together below ``budget`` characters.

    All share one resolution: the finest of 140, 100, 80 and 65 dpi that keeps the budget, or else 65 dpi,
    where words can still be read. Colours are rounded to 32 levels a channel.

    Args:
        figures: what to render; they are not changed.
        budget: of all URIs together, in characters, which are bytes of the HTML file.

    Returns:
        One ``data:image/png;base64,…`` a figure, in order.
    """
    for dots_per_inch in _DOTS_PER_INCH[:-1]:
        uris = _within(budget, figures, dots_per_inch)
        if uris is not None:
            return uris
    return [_inline_png(figure, _DOTS_PER_INCH[-1]) for figure in figures]


def _within(budget: int, figures: Sequence[Figure], dots_per_inch: int) -> list[str] | None:
    """The URIs at this resolution; None as soon as they pass the budget, for rendering takes the time."""
    uris: list[str] = []
    for figure in figures:
        uris.append(_inline_png(figure, dots_per_inch))
        if sum(map(len, uris)) > budget:
            return None
    return uris


def _inline_png(figure: Figure, dots_per_inch: int) -> str:
    rendered = io.BytesIO()
    figure.savefig(rendered, format="png", dpi=dots_per_inch, facecolor="white", pil_kwargs={"compress_level": 0})
    reduced = io.BytesIO()
    with Image.open(rendered) as image:
        image.convert("RGB").point(_COARSER * 3).save(reduced, format="PNG", compress_level=6)
    return "data:image/png;base64," + base64.b64encode(reduced.getvalue()).decode("ascii")
