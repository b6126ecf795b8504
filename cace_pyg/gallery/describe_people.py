"""People of a gallery, as text, as JSON and as a figure."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.gallery_table import Value
from cace_pyg.gallery.people import Explained, Identified, Join, Sighting
from cace_pyg.viz import Seen, timeline

_WHY = {"pair": "alike", "said": "somebody said so", "track": "one track"}


def describe_identified(found: Identified) -> str:
    """How many people there are, and what has changed."""
    lines = [
        f"{found.people:,} people on {found.pictures:,} pictures; new people: {found.fresh:,}; pictures that moved to "
        f"another person: {found.changed:,}"
    ]
    if found.doubted is not None:
        lines.append(
            f"warning: {found.doubted:,} pairs of pictures of one camera at one time look like one person, half of "
            "such pairs or more, and are kept apart. Where times are rounded, to seconds say, give --ignore_times"
        )
    return "\n".join(lines)


def describe_sightings(sightings: Sequence[Sighting]) -> str:
    """A line each: time, camera, confidence, name, under a line that says so."""
    cameras = {one.camera for one in sightings if one.camera}
    lines = [f"person {sightings[0].person}: {len(sightings)} sightings, {len(cameras)} cameras"]
    lines.append(f"{'time':>26}  {'camera':<8}{'sure':>6}  picture")
    for one in sightings:
        when = "–" if one.time is None else one.time.isoformat(" ")
        sure = "–" if one.confidence is None else f"{one.confidence:.2f}"
        lines.append(f"{when:>26}  {one.camera or '–':<8}{sure:>6}  {one.image}")
    return "\n".join(lines)


def sightings_as_dicts(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """For JSON; times as words."""
    return [_as_dict(one) for one in sightings]


def describe_explained(found: Explained) -> str:
    """Which joins lead from one picture to the other, or what is between two people."""
    a, b = Path(found.a.image).name, Path(found.b.image).name
    if found.same:
        lines = [f"{a} and {b} are person {found.a.person}"]
        lines += [f"  {Path(one.a).name} – {Path(one.b).name}: {_why(one)}" for one in found.chain]
        if not found.chain:
            lines.append("  joined through pictures that are gone, or that are no neighbours any more")
        return "\n".join(lines)
    lines = [f"{a} is person {found.a.person}, {b} person {found.b.person}"]
    lines += [f"  kept apart, whatever they look like: {told}" for told in found.forbidden]
    if found.probability is None:
        lines.append("  no picture of one is among the neighbours of a picture of the other")
    else:
        lines.append(f"  pairs of both among the neighbours: {found.pairs}; mean of all: {found.probability:.1%}")
    return "\n".join(lines)


def explained_as_dict(found: Explained) -> dict[str, Any]:
    """For JSON."""
    told = {"same": found.same, "pairs": found.pairs, "probability": found.probability, "forbidden": found.forbidden}
    return {"a": _as_dict(found.a), "b": _as_dict(found.b), "chain": [one._asdict() for one in found.chain]} | told


def sightings_figure(gallery: Gallery, sightings: Sequence[Sighting]) -> Figure:
    """A person's sightings in time order, a row for each camera, see :func:`cace_pyg.viz.timeline`."""
    seen = []
    for one in sightings:
        thumbnail = gallery.thumbnail(one.image)
        if thumbnail is not None:
            seen.append(
                Seen(thumbnail, one.camera, one.time, "" if one.confidence is None else f"{one.confidence:.2f}")
            )
    return timeline(f"person {sightings[0].person}", seen)


def _why(join: Join) -> str:
    if join.probability is None:
        return _WHY[join.why]
    return f"{_WHY[join.why]}, {join.probability:.1%} by itself, distance {join.distance:.4f}"


def _as_dict(sighting: Sighting) -> dict[str, Any]:
    metadata = {name: _as_word(one) for name, one in sighting.metadata.items()}
    return sighting._asdict() | {"time": _as_word(sighting.time), "metadata": metadata}


def _as_word(value: Value) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
