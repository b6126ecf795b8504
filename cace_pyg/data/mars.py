"""MARS, and data sets in its format: folders of tracks."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.sorted_pictures import pictures_below

_TRAIN, _TEST, _INFO = "bbox_train", "bbox_test", "info"
_NAMES, _TRACKS, _QUERIES = "test_name.txt", "tracks_test_info.mat", "query_IDX.mat"
_NAME = re.compile(r"(?P<pid>00-1|\d{4,})C(?P<camid>\d+)T(?P<track>\d+)F\d+(?:\.(?i:jpe?g|png))+")
_JUNK, _DISTRACTOR = -1, 0
_TREE = """
  ROOT/
    bbox_train/  0001/0001C1T0001F001.jpg …   identity, camera, track, frame
    bbox_test/   0000/0000C1T0001F001.jpg …   0000: distractors; 00-1: junk
    info/        test_name.txt tracks_test_info.mat query_IDX.mat   (which tracks are queries)"""


def read_mars(root: str | Path) -> Splits:
    """The tracks of a folder in the format of MARS (Zheng et al., ECCV 2016); any number of them.

    All pictures in bbox_test with one identity, camera and track number are one entry. All entries except junk are in
    the gallery, including queries, as in the authors' own script: a person's queries from other cameras are matches.
    The same-camera rule removes each query from its own ranking. Queries are those of ``info/query_IDX.mat``; without
    that file, the first track of each person and camera, with a warning. Training pictures are read individually.

    Args:
        root: the folder with bbox_train and bbox_test; an evaluation only needs the latter.

    Raises:
        FileNotFoundError: there is no bbox_test, or pictures in the lists are missing.
        ValueError: a file name cannot be parsed, or the lists do not fit each other or the names.
        RuntimeError: a MATLAB list cannot be read.
    """
    root = Path(root)
    if not (root / _TEST).is_dir():
        raise FileNotFoundError(f"no folder {_TEST} in {root} (data.root); expected{_TREE}")
    train = _read(root / _TRAIN) if (root / _TRAIN).is_dir() else []
    if any(sample.pid == _DISTRACTOR for sample in train):
        raise ValueError(f"pid 0000 marks distractors, expected in {_TEST} only (got one in {_TRAIN})")
    test = _read(root / _TEST)
    info = root / _INFO
    if all((info / name).is_file() for name in (_NAMES, _TRACKS, _QUERIES)):
        test, query = _by_lists(info, {sample.path.name: sample for sample in test})
    else:
        query = _first_of_each_camera(test)
        warnings.warn(
            f"there is no {_QUERIES} with {_TRACKS} and {_NAMES} in {info}: queries are the first track of each person "
            "and camera, not those of MARS's authors",
            stacklevel=2,
        )
    if not query or not test:
        raise ValueError(f"Expected tracks of people in {root / _TEST} (got none); expected{_TREE}")
    return Splits(tuple(sample._replace(track="") for sample in train), tuple(query), tuple(test))


def _read(folder: Path) -> list[Sample]:
    """All pictures except junk, sorted by name."""
    pictures = sorted(pictures_below(folder), key=lambda path: (path.name, path))
    return [sample for sample in map(_parse, pictures) if sample.pid != _JUNK]


def _parse(path: Path) -> Sample:
    found = _NAME.fullmatch(path.name)
    if found is None:
        raise ValueError(
            f"cannot read identity, camera and track from the file name {path.name} (in {path.parent}); expected "
            "PPPPCcTtttFfff.jpg such as 0001C1T0001F001.jpg, or 00-1 as identity of junk"
        )
    pid = _JUNK if found["pid"] == "00-1" else int(found["pid"])
    return Sample(path, pid, int(found["camid"]), found["track"])


def _first_of_each_camera(test: Sequence[Sample]) -> list[Sample]:
    first: dict[tuple[int, int], str] = {}
    for sample in test:
        key = sample.pid, sample.camid
        first[key] = min(first.get(key, sample.track), sample.track, key=int)
    people = [sample for sample in test if sample.pid != _DISTRACTOR]
    return [sample for sample in people if first[sample.pid, sample.camid] == sample.track]


def _by_lists(info: Path, by_name: dict[str, Sample]) -> tuple[list[Sample], list[Sample]]:
    """The gallery and the queries by the authors' lists."""
    names = (info / _NAMES).read_text(encoding="utf-8").split()
    tracks = _matrix(info / _TRACKS, "track_test_info")
    chosen = _matrix(info / _QUERIES, "query_IDX").ravel()
    if tracks.ndim != 2 or tracks.shape[1] != 4 or not ((tracks[:, 0] >= 1) & (tracks[:, 1] <= len(names))).all():
        raise ValueError(
            f"Expected rows of first and last line of {_NAMES}, identity and camera in {info / _TRACKS} (got "
            f"{tracks.shape}, lines up to {tracks.max(initial=0)} of {len(names)})"
        )
    if not ((chosen >= 1) & (chosen <= len(tracks))).all():
        raise ValueError(f"Expected rows from 1 to {len(tracks)} in {info / _QUERIES} (got up to {chosen.max()})")
    queries, gallery, query = set(chosen.tolist()), [], []
    missing = [name for start, end, pid, _ in tracks.tolist() if pid != _JUNK for name in names[start - 1 : end]
               if name not in by_name]  # fmt: skip
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} pictures that {info / _TRACKS} names are not in {info.parent / _TEST}, such as "
            f"{missing[0]}; complete it"
        )
    for row, (start, end, pid, camid) in enumerate(tracks.tolist(), start=1):
        if pid == _JUNK:
            continue
        samples = [by_name[name]._replace(track=str(row)) for name in names[start - 1 : end]]
        strange = [sample.path.name for sample in samples if (sample.pid, sample.camid) != (pid, camid)]
        if strange:
            raise ValueError(
                f"Expected pictures of identity {pid} on camera {camid} in row {row} of {info / _TRACKS} (got "
                f"{strange[0]})"
            )
        gallery += samples
        query += samples if row in queries else []
    return gallery, query


def _matrix(path: Path, name: str) -> np.ndarray[Any, Any]:
    import scipy.io

    try:
        found = scipy.io.loadmat(path)
    except Exception as error:  # a damaged file may raise anything
        raise RuntimeError(f"cannot read {path} as a MATLAB file: {error}") from error
    if name not in found or found[name].dtype.kind not in "iuf":
        told = ", ".join(key for key in found if not key.startswith("__"))
        raise ValueError(f"Expected the numbers {name} in {path} (got {told or 'nothing'})")
    return np.asarray(found[name]).astype(np.int64)
