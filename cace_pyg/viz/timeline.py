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
    """Draw pictures from left to right in the given order, each in the row of its camera.

    Args:
        title: names the person.
        sightings: in time order. At most 16 are drawn, evenly chosen, with the first and the last.

    Returns:
        One axes per sighting, with the time of day and the note below; the date is in the title if all share it.

    Raises:
        ValueError: there are no sightings.
        FileNotFoundError: a picture's file does not exist.
    """
    if not sightings:
        raise ValueError("Expected at least one sighting (got none)")
    count = len(sightings)
    places = range(count) if count <= _MOST else [round(i * (count - 1) / (_MOST - 1)) for i in range(_MOST)]
    shown = [sightings[place] for place in places]
    cameras = sorted({seen.camera or "" for seen in shown})
    days = {seen.time.date() for seen in shown if seen.time}
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.04, wspace=0.0, hspace=0.02)
    figure = Figure(figsize=(1.0 + 0.7 * len(shown), 0.4 + 1.3 * len(cameras)), layout=layout)
    which = f", {len(shown)} of them" if len(shown) < count else ""
    day = f", {days.pop().isoformat()}" if len(days) == 1 else ""
    figure.suptitle(f"{title}: {count} sightings{which}{day}", fontsize=11, fontweight="bold")
    grid = figure.add_gridspec(len(cameras), len(shown))
    named: set[str] = set()
    for column, seen in enumerate(shown):
        camera = seen.camera or ""
        axes = figure.add_subplot(grid[cameras.index(camera), column])
        axes.imshow(picture_array(seen.picture, _CANVAS), interpolation="bilinear")
        axes.set(xticks=[], yticks=[])
        clock = "" if seen.time is None else f"{seen.time:%H:%M:%S}" if len(days) <= 1 else f"{seen.time:%m-%d %H:%M}"
        axes.set_xlabel("\n".join(filter(None, [clock, seen.note])), fontsize=7, color=GREY, labelpad=3)
        if camera not in named:
            axes.set_ylabel(f"camera {camera}" if camera else "camera unknown", fontsize=9, color=BLACK)
            named.add(camera)
    return figure
