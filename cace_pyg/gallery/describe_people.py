"""People of a gallery as text, JSON and figures."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.evidence import Explained, Join, Sighting
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.people import Identified
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
            f"warning: {found.doubted:,} pairs of pictures of one camera at one time look like one person. That is "
            "half of such pairs or more. They are kept apart. If times are rounded, to seconds say, give --ignore_times"
        )
    return "\n".join(lines)


def describe_sightings(sightings: Sequence[Sighting]) -> str:
    """A headline, then a line for each sighting: time, camera, confidence, name."""
    cameras = {sighting.camera for sighting in sightings if sighting.camera}
    lines = [f"person {sightings[0].person}: {len(sightings)} sightings, {len(cameras)} cameras"]
    lines.append(f"{'time':>26}  {'camera':<8}{'sure':>6}  picture")
    for sighting in sightings:
        when = "–" if sighting.time is None else sighting.time.isoformat(" ")
        sure = "–" if sighting.confidence is None else f"{sighting.confidence:.2f}"
        lines.append(f"{when:>26}  {sighting.camera or '–':<8}{sure:>6}  {sighting.image}")
    return "\n".join(lines)


def sightings_as_dicts(sightings: Sequence[Sighting]) -> list[dict[str, Any]]:
    """For JSON, with times as text."""
    return [_as_dict(sighting) for sighting in sightings]


def describe_explained(found: Explained) -> str:
    """The joins that lead from one picture to the other, or what separates two people."""
    a, b = Path(found.a.image).name, Path(found.b.image).name
    if found.same:
        lines = [f"{a} and {b} are person {found.a.person}"]
        lines += [f"  {Path(join.a).name} – {Path(join.b).name}: {_why(join)}" for join in found.chain]
        if not found.chain:
            lines.append("  joined through pictures that are gone or are no longer neighbours")
        return "\n".join(lines)
    lines = [f"{a} is person {found.a.person}, {b} person {found.b.person}"]
    lines += [f"  kept apart, whatever they look like: {told}" for told in found.forbidden]
    if found.probability is None:
        lines.append("  no picture of one is among the neighbours of a picture of the other")
    else:
        lines.append(f"  pairs of the two among the neighbours: {found.pairs}; mean of all: {found.probability:.1%}")
    return "\n".join(lines)


def explained_as_dict(found: Explained) -> dict[str, Any]:
    """For JSON."""
    told = {"same": found.same, "pairs": found.pairs, "probability": found.probability, "forbidden": found.forbidden}
    return {"a": _as_dict(found.a), "b": _as_dict(found.b), "chain": [join._asdict() for join in found.chain]} | told


def sightings_figure(gallery: Gallery, sightings: Sequence[Sighting]) -> Figure:
    """A person's sightings in time order, a row for each camera, see :func:`cace_pyg.viz.timeline`."""
    seen = []
    for sighting in sightings:
        thumbnail = gallery.thumbnail(sighting.image)
        if thumbnail is not None:
            seen.append(
                Seen(
                    thumbnail,
                    sighting.camera,
                    sighting.time,
                    "" if sighting.confidence is None else f"{sighting.confidence:.2f}",
                )
            )
    return timeline(f"person {sightings[0].person}", seen)


def _why(join: Join) -> str:
    if join.probability is None:
        return _WHY[join.why]
    return f"{_WHY[join.why]}, {join.probability:.1%} by itself, distance {join.distance:.4f}"


def _as_dict(sighting: Sighting) -> dict[str, Any]:
    metadata = {name: _as_word(value) for name, value in sighting.metadata.items()}
    return sighting._asdict() | {"time": _as_word(sighting.time), "metadata": metadata}


def _as_word(value: Value) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
