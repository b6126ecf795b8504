"""Recognising people who come back, with one stage and with two: IDF1 and identity switches in rendered scenes.

A tracker by overlap follows people within each camera (``iou_tracker.py``). It loses them behind a pillar, behind each
other, and when they leave. Each finished track is then given to ``cace_pyg.trackers.PersonMemory``, which says who it
is. Identities are shared by all cameras. Nothing is learned or chosen on the measured scenes: the calibration of tracks
comes from a scene of 72 other people, and the rate of false alarms, separately for one stage and for two, is the best
of five on three scenes of yet other people. Needs motmetrics (extra ``test``).
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import motmetrics
import numpy as np
import torch

from benchmarks.gallery_search import random_checkpoint
from benchmarks.iou_tracker import IouTracker, overlaps
from benchmarks.rendered_scene import Frame, SceneSettings, walk_through
from benchmarks.results_file import save_results
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.progress import progress_bar
from cace_pyg.retrieval import Calibration
from cace_pyg.trackers import PersonMemory, Track, TrackCollector

RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
_CALIBRATION, _CHOICE = 1000, 100  # first seeds; measured scenes start at 0
_SAME = 0.5  # minimum overlap of a box with a person's
_DRAWS = 10_000
_ALONE, _ONE, _TWO, _TRUTH = "tracker alone", "one stage", "two stages", "truth of each track"
_PICTURES = "two stages, calibrated on pictures"  # by the checkpoint's own calibration


@dataclass(frozen=True)
class Replay:
    """A scene with the tracker's results.

    Attributes:
        tracks: finished tracks, in the order of their ends.
        pids: the person in most boxes of each track.
        frames: without their pictures.
        numbers: the tracker's number for each detection of a frame.
    """

    tracks: list[Track]
    pids: list[int]
    frames: list[Frame]
    numbers: list[np.ndarray]


def replay(settings: SceneSettings) -> Replay:
    """Track everybody through a scene."""
    cameras = range(settings.cameras)
    trackers = [IouTracker() for _ in cameras]
    collectors = [TrackCollector(str(camera), patience=3, channel_order="rgb") for camera in cameras]
    votes: dict[tuple[str, int], Counter[int]] = {}
    tracks, frames, numbers = [], [], []
    for frame in walk_through(settings):
        given = trackers[frame.camera].update(frame.detections)
        detections = SimpleNamespace(xyxy=frame.detections, tracker_id=given)
        tracks += collectors[frame.camera].update(frame.picture, detections, frame.time)
        if len(frame.people) and len(given):
            overlap = overlaps(frame.detections, frame.truth)
            for number, row in zip(given.tolist(), overlap, strict=True):
                votes.setdefault((str(frame.camera), number), Counter())[int(frame.people[row.argmax()])] += 1
        frames.append(replace(frame, picture=np.empty(0)))
        numbers.append(given)
    tracks += [track for collector in collectors for track in collector.finish()]
    tracks.sort(key=lambda track: track.end)
    pids = [votes[track.camera, track.tracker_id].most_common(1)[0][0] for track in tracks]
    return Replay(tracks, pids, frames, numbers)


def measure(scene: Replay, persons: Sequence[int]) -> dict[str, float]:
    """IDF1 and identity switches, with the given person of each track.

    Tracks that are too short to be kept are different people. Boxes and people match if they overlap by at least half.
    """
    of_track = {(track.camera, track.tracker_id): person for track, person in zip(scene.tracks, persons, strict=True)}
    found = motmetrics.MOTAccumulator()
    for moment, (frame, numbers) in enumerate(zip(scene.frames, scene.numbers, strict=True)):
        keys = [(str(frame.camera), number) for number in numbers.tolist()]
        people = [of_track.setdefault(key, -1 - len(of_track)) for key in keys]
        overlap = overlaps(frame.truth.reshape(-1, 4), frame.detections)
        found.update(frame.people.tolist(), people, np.where(overlap >= _SAME, 1 - overlap, np.nan), frameid=moment)
    summary = motmetrics.metrics.create().compute(found, metrics=["idf1", "num_switches"])
    return {"IDF1": 100 * float(summary["idf1"].iloc[0]), "switches": float(summary["num_switches"].iloc[0])}


class CachingMemory(PersonMemory):
    """A memory that caches measurements, because scenes are replayed at several rates."""

    def _keep(self, track: Track, person: int) -> Any:
        known = self.__dict__.setdefault("cache", {})
        if id(track) not in known:
            known[id(track)] = track, super()._keep(track, person)
        return replace(known[id(track)][1], person=person)

    def _distances(self, entry: Any, others: Sequence[Any]) -> torch.Tensor:
        known = self.__dict__.setdefault("pairs", {})
        keys = [(id(entry.views), id(other.views)) for other in others]
        missing = [at for at, key in enumerate(keys) if key not in known]
        if missing:
            found = super()._distances(entry, [others[at] for at in missing])
            known.update(zip([keys[at] for at in missing], found, strict=True))
        return torch.stack([known[key] for key in keys])


def join(scene: Replay, memory: PersonMemory, false_alarms: float) -> list[int]:
    """The person of each track, by an initially empty memory."""
    memory.forget(before=np.inf)
    memory.false_alarms = false_alarms
    return [memory.see(track).person for track in scene.tracks]


def compare(embedder: Embedder, settings: SceneSettings, calibration: SceneSettings, scenes: int, choice: int,
            rates: Sequence[float]) -> Iterator[dict[str, object]]:  # fmt: skip
    """One row for each method of joining tracks and each scene."""
    ways: dict[str, tuple[PersonMemory, Calibration]] = {}
    with progress_bar(total=1 + choice + scenes, desc="scenes", unit="scene") as bar:
        known = replay(calibration)
        for name, weight in ((_ONE, 0.0), (_TWO, None)):
            memory = CachingMemory(embedder, apart=True, fusion_weight=weight)
            ways[name] = memory, memory.calibrate(known.tracks, known.pids)
        if embedder.calibration is not None:
            ways[_PICTURES] = memory, embedder.calibration
        bar.update()
        for number in range(-choice, scenes):
            seed = number if number >= 0 else _CHOICE - 1 - number
            scene = replay(replace(settings, seed=seed))
            told = {"part": "measured" if number >= 0 else "choice", "seed": seed, "tracks": len(scene.tracks)}
            for name, persons in ((_ALONE, range(len(scene.tracks))), (_TRUTH, scene.pids)):
                yield told | {"joined_by": name, "false_alarms": None, **measure(scene, persons)}
            for name, (memory, learned) in ways.items():
                memory.calibration = learned
                for rate in rates:
                    joined = measure(scene, join(scene, memory, rate))
                    yield told | {"joined_by": name, "false_alarms": rate, **joined}
            bar.update()


def chosen_rates(rows: list[dict], rates: Sequence[float]) -> dict[str, float]:
    """For each method, the rate with the best mean IDF1 on the scenes for the choice."""

    def mean(name: str, rate: float) -> float:
        found = [r["IDF1"] for r in rows if (r["part"], r["joined_by"], r["false_alarms"]) == ("choice", name, rate)]
        return float(np.mean(found))

    names = [name for name in (_ONE, _TWO, _PICTURES) if any(row["joined_by"] == name for row in rows)]
    return {name: max(rates, key=lambda rate: mean(name, rate)) for name in names}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean, by bootstrap over scenes."""
    drawn = np.random.default_rng(0).choice(differences, (_DRAWS, len(differences))).mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def report(rows: list[dict], rates: dict[str, float]) -> list[str]:
    """Means over the measured scenes, and the gain of two stages."""

    def of(name: str, column: str) -> np.ndarray:
        wanted = ("measured", name, rates.get(name))
        return np.array([r[column] for r in rows if (r["part"], r["joined_by"], r["false_alarms"]) == wanted])

    lines = []
    for name in (_ALONE, *rates, _TRUTH):
        means = ", ".join(f"{column} {of(name, column).mean():.1f}" for column in ("IDF1", "switches"))
        lines.append(f"{name} (false alarms {rates.get(name, '-')}): {means}")
    for column, sign in (("IDF1", 1), ("switches", -1)):
        gained = of(_TWO, column) - of(_ONE, column)
        low, high = interval(gained)
        lines.append(
            f"two stages, {column}: {gained.mean():+.1f} [{low:+.1f}, {high:+.1f}], "
            f"better in {int((sign * gained > 0).sum())} of {len(gained)} scenes"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.reassociation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, help="of the built-in data, such as runs/synthetic of make demo")
    parser.add_argument("--scenes", type=int, default=10, help="number of measured scenes")
    parser.add_argument(
        "--first_camera", type=int, default=1, help="of the built-in data, where 1 to 6 are for training"
    )
    parser.add_argument("--quick", action="store_true", help="random weights, few people; written to *_quick")
    options = parser.parse_args()
    settings = SceneSettings(first_camera=options.first_camera)
    calibration, rates, choice = replace(settings, people=72, visits=2, length=480, seed=_CALIBRATION), RATES, 3
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            settings = replace(settings, people=6, cameras=2, visits=2, visit=8, length=24)
            calibration, rates, choice, options.scenes = (
                replace(settings, people=14, length=40, seed=_CALIBRATION),
                (0.2, 0.4),
                1,
                2,
            )
        if options.quick or options.checkpoint is None:
            options.checkpoint = random_checkpoint(Path(folder) / "r.ckpt", ["--config", "configs/synthetic.yaml"])
        torch.set_num_threads(1)
        rows = [*compare(Embedder(options.checkpoint), settings, calibration, options.scenes, choice, rates)]
    name = "reassociation" if options.first_camera == 1 else f"reassociation_cameras_{options.first_camera}"
    save_results(name, rows, None, options.quick)
    print(*report(rows, chosen_rates(rows, rates)), sep="\n")
    for rate in rates:
        print(f"both at {rate}:", *report(rows, dict.fromkeys((_ONE, _TWO), rate))[-2:], sep="\n  ")


if __name__ == "__main__":
    main()
