"""The sightings of one person in time order, a row for each camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cace_pyg.read_picture import Picture
from cace_pyg.viz.style import BLACK, GREY, picture_array

_MOST = 16
_CANVAS = (256, 128)


@dataclass(frozen=True)
class Seen:
    """One sighting of a person."""

    picture: Picture
    """A file, a PIL image, an array, or the bytes of a file."""
    camera: str | None
    """None: unknown."""
    time: datetime | None
    """None: unknown."""
    note: str = ""
    """A few words below the time."""


def timeline(title: str, sightings: Sequence[Seen]) -> Figure:
    """Draw pictures from left to right in the order that they come in, each in the row of its camera.

    Args:
        title: who it is.
        sightings: in time order. 16 are drawn at most, the first and the last among them, evenly chosen.

    Returns:
        One axes a sighting, with the clock time and the note below; the date stands in the title where all share it.

    Raises:
        ValueError: no sighting.
        FileNotFoundError: a picture's file does not exist.
    """
    if not sightings:
        raise ValueError("Expected at least one sighting (got none)")
    count = len(sightings)
    places = range(count) if count <= _MOST else [round(i * (count - 1) / (_MOST - 1)) for i in range(_MOST)]
    shown = [sightings[place] for place in places]
    cameras = sorted({one.camera or "" for one in shown})
    days = {one.time.date() for one in shown if one.time}
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.04, wspace=0.0, hspace=0.02)
    figure = Figure(figsize=(1.0 + 0.7 * len(shown), 0.4 + 1.3 * len(cameras)), layout=layout)
    which = f", {len(shown)} of them" if len(shown) < count else ""
    day = f", {days.pop().isoformat()}" if len(days) == 1 else ""
    figure.suptitle(f"{title}: {count} sightings{which}{day}", fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(len(cameras), len(shown))
    named: set[str] = set()
    for column, one in enumerate(shown):
        camera = one.camera or ""
        axes = figure.add_subplot(grid[cameras.index(camera), column])
        axes.imshow(picture_array(one.picture, _CANVAS), interpolation="bilinear")
        axes.set(xticks=[], yticks=[])
        clock = "" if one.time is None else f"{one.time:%H:%M:%S}" if len(days) <= 1 else f"{one.time:%m-%d %H:%M}"
        axes.set_xlabel("\n".join(filter(None, [clock, one.note])), fontsize=7, color=GREY, labelpad=3)
        if camera not in named:
            axes.set_ylabel(f"camera {camera}" if camera else "camera unknown", fontsize=9, color=BLACK)
            named.add(camera)
    return figure
