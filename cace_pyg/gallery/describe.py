"""Search results and galleries as text, JSON and figures."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cace_pyg.engine.decisions import drift_warning
from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.search_result import SearchHit, SearchResult
from cace_pyg.read_picture import Picture, read_picture
from cace_pyg.retrieval.calibration import shortly_above
from cace_pyg.viz import RankedImage, ranked_lists

_TYPES = {"bool": "yes or no", "int64": "whole number", "double": "number", "string": "word"}


def describe_hits(found: SearchResult) -> str:
    """One line per hit: rank, first-stage rank, probability if known, distances, camera, time, other columns, name.

    Hits that were ranked by neighbours also have the distance that they were ranked by.
    """
    if not len(found):
        return "nothing found: the gallery is empty, or no picture passes the filter"
    calibrated = any(hit.probability is not None for hit in found)
    by_neighbours = found[0].neighbour_distance is not None
    head = f"{'rank':>4}{'was':>5}" + (f"{'neighbours':>12}" if by_neighbours else "")
    head += f"{'probability':>13}" if calibrated else ""
    lines = [f"{head}{'distance':>10}{'individual':>12}{'conditional':>13}  camera  image"]
    for hit in found:
        conditional = "–" if hit.conditional is None else f"{hit.conditional:.4f}"
        told = [f"{name}={value}" for name, value in {"time": hit.time, **hit.metadata}.items() if value is not None]
        told += [f"{len(hit.pictures)} pictures"] if hit.pictures else []
        told += [f"in {hit.gallery}"] if hit.gallery else []
        lines.append(
            f"{hit.rank:>4}{hit.first_stage_rank:>5}{f'{hit.neighbour_distance:>12.4f}' if by_neighbours else ''}"
            f"{_probability(hit) if calibrated else ''}"
            f"{hit.distance:>10.4f}{hit.individual:>12.4f}{conditional:>13}"
            f"  {hit.camera or '–':<6}  {'  '.join([hit.image, *told])}"
        )
    spent = ", ".join(f"{name.replace('_', ' ')} {1e3 * seconds:.0f} ms" for name, seconds in found.seconds.items())
    return "\n".join([*lines, spent])


def _probability(hit: SearchHit) -> str:
    return f"{'–':>13}" if hit.probability is None else f"{hit.probability:>13.1%}"


def describe_decision(found: SearchResult, false_alarms: float) -> str:
    """Whether the person is in the gallery, in words, at the rate of false alarms that the search was given."""
    share = f"at most {100 * false_alarms:.4g} % of the people who are not in the gallery come below"
    if found.is_known:
        return (
            f"known: the nearest is at {found[0].distance:.4f}, and {share} {found.threshold:.4f}. "
            "This is no proof of identity, nor that the first picture is the right one: look at the pictures."
        )
    return f"nobody we know: the nearest is at {found[0].distance:.4f}, not below {found.threshold:.4f}; {share} that"


def describe_drift(gallery: Gallery, where: str) -> str:
    """A warning if the scores of a gallery differ from those of its calibration, else ""."""
    drift = gallery.drift()
    return drift_warning(gallery.calibration, drift, where) if gallery.calibration and drift is not None else ""


def decision_as_dict(found: SearchResult, false_alarms: float) -> dict[str, Any]:
    """The decision and the hits, for JSON."""
    threshold = found.threshold if found.threshold is None or math.isfinite(found.threshold) else None
    decided = {"known": found.is_known, "false_alarms": false_alarms, "threshold": threshold}
    return decided | {"hits": hits_as_dicts(found)}


def hits_as_dicts(hits: Iterable[SearchHit]) -> list[dict[str, Any]]:
    """Each hit, for JSON.

    With ``neighbour_distance`` if ranked by neighbours, ``pictures`` for a track, ``gallery`` if several were searched.
    """
    names = ("image", "rank", "first_stage_rank", "probability", "distance", "individual", "conditional", "camera")
    return [
        {name: getattr(hit, name) for name in names}
        | ({} if hit.neighbour_distance is None else {"neighbour_distance": hit.neighbour_distance})
        | ({"pictures": list(hit.pictures)} if hit.pictures else {})
        | ({"gallery": str(hit.gallery)} if hit.gallery else {})
        | {"time": hit.time and hit.time.isoformat()}
        | {"metadata": {name: _as_json(value) for name, value in hit.metadata.items()}}
        for hit in hits
    ]


def _as_json(value: Value) -> str | int | float | bool | None:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if hasattr(value, "isoformat") else value


def hits_figure(galleries: Sequence[Gallery], query: Picture, found: SearchResult) -> Figure:
    """The query and its first ten hits, before and after the second stage; none is marked as right or wrong.

    Args:
        galleries: those that were searched.
        query: the picture.
        found: for it.

    Raises:
        ValueError: there are no hits, or a hit is no longer in the gallery.
    """

    by_path = {gallery.path: gallery for gallery in galleries}

    def ranked(hit: SearchHit, distance: float, note: str = "") -> RankedImage:
        camera = f"camera {hit.camera}" if hit.camera else ""
        place = f"in {hit.gallery.name}" if hit.gallery else ""
        gallery = galleries[0] if hit.gallery is None else by_path[hit.gallery]
        shown = gallery.thumbnail(hit.image)
        if shown is None:
            raise ValueError(f"{hit.image} is not in the gallery {gallery.path} any more; search again")
        return RankedImage(
            read_picture(shown), None, distance, "\n".join(line for line in (note, camera, place) if line)
        )

    second = "neighbours" if any(hit.neighbour_distance is not None for hit in found) else "two stages"
    rows = {
        "individual": [ranked(hit, hit.individual) for hit in found.first_stage],
        second: [ranked(hit, _ranked_by(hit), f"was {hit.first_stage_rank}") for hit in found.hits],
    }
    return ranked_lists(read_picture(query), rows)


def _ranked_by(hit: SearchHit) -> float:
    return hit.distance if hit.neighbour_distance is None else hit.neighbour_distance


def _calibrated(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "none, the model has no calibration; python -m cace_pyg.calibrate makes one"
    smallest = summary["smallest_false_alarms"]
    answered = (
        f"false alarms from {shortly_above(smallest)} upwards, in this gallery"
        if smallest < 0.995
        else ("no rate of false alarms can be answered: too few people for so large a gallery")
    )
    return (
        f"learned from {summary['pairs']:,} pairs of {summary['people']} people, expected calibration error "
        f"{summary['error']:.3f}; {answered}"
    )


def _kept(neighbours: Mapping[str, int] | None) -> list[str]:
    if neighbours is None:
        return []
    size = f"{neighbours['candidates']} each, {neighbours['bytes_on_disk'] / 2**20:.1f} MiB on disk"
    return [f"neighbours kept: of {neighbours['pictures']} pictures, {size}"]


def _fewer(clues: int | None) -> str:
    return "" if clues is None else f", {clues} clues"


def describe_stats(path: Path, stats: Mapping[str, Any]) -> str:
    """The result of :meth:`Gallery.stats` as text."""
    columns = {"image": "word", "camera": "word", "time": "time", "added": "time"}
    columns |= {name: _TYPES.get(kind, "time") for name, kind in stats["metadata"].items()}
    cameras = ", ".join(f"{camera} {count}" for camera, count in stats["cameras"].items()) or "none"
    return "\n".join(
        [
            f"{path}: {stats['images']} pictures, {stats['bytes'] / 2**20:.1f} MiB "
            f"({stats['bytes_per_image'] / 1024:.1f} KiB each; {stats['clue_bytes_per_image']:,} bytes for the second "
            f"stage, {stats['precision']}{_fewer(stats['gallery_clues'])})",
            f"on disk, with index and earlier versions: {stats['bytes_on_disk'] / 2**20:.1f} MiB",
            *_kept(stats["neighbours"]),
            *([] if stats["tracks"] is None else [f"tracks: {stats['tracks']}, each one entry (docs/tracks.md)"]),
            f"model: {stats['model']}",
            f"probabilities: {_calibrated(stats['calibration'])}",
            f"cameras: {cameras}",
            f"taken: {' to '.join(stats['times']) if stats['times'] else 'unknown'}",
            f"columns for --where: {', '.join(f'{name} ({kind})' for name, kind in columns.items())}",
            f"not in the search index: {stats['not_indexed']} (up to 50,000 are searched one by one)",
        ]
    )
