"""The built-in data set: rendered pedestrians in the folders and with the file names of Market-1501.

Many identities wear the same colours and differ only in small details, which a picture shows or hides depending on
view, box and occluder. Each picture has a label map of body parts, and `details.json` lists what is visible in it.
The pictures show no real people.
"""

import json
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from cace_pyg.data.rendering.pedestrian import (
    DETAIL_NAMES,
    PART_NAMES,
    Person,
    attributes,
    draw_family,
)
from cace_pyg.data.rendering.render import Rendering, render
from cace_pyg.data.synthetic_plan import (
    GALLERY,
    QUERY,
    TRAIN,
    PlannedPicture,
    SyntheticSettings,
    camera_of,
    person_of,
    picture_stream,
    plan_pictures,
)
from cace_pyg.progress import progress_bar

__all__ = ["DETAIL_NAMES", "PART_NAMES", "SyntheticSettings", "make_synthetic"]

_DRAWING = 1  # version; increase it whenever the same settings give other pictures
_JPEG_QUALITY = 95
_WORTH_A_POOL = 1000  # pictures; fewer are drawn before the other processes have started
_CHUNK = 50  # pictures per task
_PASSER_BY = 0.3  # part of the occluders that are people
_PART_COLOURS = (0, 0, 0, 240, 190, 60, 200, 60, 60, 70, 160, 230, 60, 120, 70, 150, 90, 190, 240, 240, 240)


def make_synthetic(
    root: str | Path,
    settings: SyntheticSettings = SyntheticSettings(),  # noqa: B008 (frozen)
    workers: int = 0,
    progress: bool = True,
) -> Path:
    """Render the data set into the folder `root`, unless it is already there.

    The same settings give the same bytes, whatever the number of workers. Everything is written to a folder next to
    `root` and renamed at the end, so `root` is never incomplete. A folder `.<name>.<id>.partial`, left by a killed run,
    can be deleted at any time.

    Args:
        root: will contain `bounding_box_train/`, `query/`, `bounding_box_test/` (JPEG), `parts/<folder>/`
            (8-bit PNG label maps of the same size and stem, indices of `PART_NAMES`), `details.json` and
            `settings.json`.
        workers: additional processes that draw; with 0, and for small data sets, this process draws. As always with
            new processes, a script that uses them must have its main code under `if __name__ == "__main__":`.
        progress: show a bar.

    Returns:
        `root` as a Path.

    Raises:
        ValueError: `root` contains a data set with other settings, or something else; then nothing is changed.
    """
    root = Path(root)
    if workers < 0:
        raise ValueError(f"workers: expected 0 (draw in this process) or more (got {workers})")
    if _is_made(root, settings):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    partial = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        _write(partial, settings, workers, progress)
        _move(partial, root, settings)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return root


def _recorded(settings: SyntheticSettings) -> dict[str, Any]:
    return {"drawing": _DRAWING, **asdict(settings)}


def _is_made(root: Path, settings: SyntheticSettings) -> bool:
    """Whether `root` contains exactly this data set; False if nothing is there yet."""
    if root.is_file():
        raise ValueError(f"root: expected a folder for the data set (got the file {root}); name another")
    if not root.exists() or not any(root.iterdir()):
        return False
    record = root / "settings.json"
    if not record.is_file() or not (root / "details.json").is_file():
        raise ValueError(
            f"root: expected a new or empty folder, or a synthetic data set with its settings.json "
            f"(got {root}, which contains something else); name another folder"
        )
    there, wanted = json.loads(record.read_text()), _recorded(settings)
    different = [name for name in {**wanted, **there} if there.get(name) != wanted.get(name)]
    if different:
        shown = ", ".join(f"{name} = {there.get(name)} instead of {wanted.get(name)}" for name in different)
        raise ValueError(
            f"root: expected a data set with these settings (got {root}, made with {shown}); "
            "name another folder, give the settings that it was made with, or delete it yourself"
        )
    return True


def _move(partial: Path, root: Path, settings: SyntheticSettings) -> None:
    try:
        os.rename(partial, root)  # replaces an empty folder
    except OSError:
        if not _is_made(root, settings):  # another process may have made the same set meanwhile
            raise


def _write(root: Path, settings: SyntheticSettings, workers: int, progress: bool) -> None:
    for folder in (TRAIN, QUERY, GALLERY):
        (root / folder).mkdir(parents=True)
        (root / "parts" / folder).mkdir(parents=True)
    pictures = plan_pictures(settings)
    images: dict[str, dict[str, Any]] = {}
    with (
        progress_bar(total=len(pictures), desc="rendering", unit="picture", disable=not progress) as bar,
        closing(_draw_all(root, settings, pictures, workers)) as chunks,
    ):
        for chunk in chunks:
            images.update(chunk)
            bar.update(len(chunk))
    details = {
        "part_names": PART_NAMES,
        "detail_names": DETAIL_NAMES,
        "identities": _identities(settings, pictures),
        "images": dict(sorted(images.items())),
    }
    (root / "details.json").write_text(json.dumps(details, indent=1))
    (root / "settings.json").write_text(json.dumps(_recorded(settings), indent=1))


def _identities(settings: SyntheticSettings, pictures: list[PlannedPicture]) -> dict[str, dict[str, Any]]:
    """Attributes of all identities by pid. Distractors and junk have none: they share a pid."""
    known = {picture.pid: picture for picture in pictures if picture.pid > 0}
    return {
        str(pid): attributes(person_of(settings, picture.group, picture.index))
        for pid, picture in sorted(known.items())
    }


def _draw_all(
    root: Path, settings: SyntheticSettings, pictures: list[PlannedPicture], workers: int
) -> Generator[dict[str, dict[str, Any]]]:
    chunks = [pictures[start : start + _CHUNK] for start in range(0, len(pictures), _CHUNK)]
    if workers == 0 or len(pictures) < _WORTH_A_POOL:
        for chunk in chunks:
            yield _draw_chunk(root, settings, chunk)
        return
    # Forking would copy the caller's threads and CUDA state in a broken form; spawned processes start clean.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(_draw_chunk, root, settings, chunk) for chunk in chunks]
        try:
            for task in tasks:
                yield task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _draw_chunk(root: Path, settings: SyntheticSettings, pictures: list[PlannedPicture]) -> dict[str, dict[str, Any]]:
    """Draw and save some pictures; returns their entries of `details.json`, by path relative to `root`."""
    entries = {}
    for picture in pictures:
        rendering = _draw(settings, picture)
        name = f"{picture.folder}/{picture.stem}.jpg"
        rendering.picture.save(root / name, quality=_JPEG_QUALITY, subsampling=0)
        label_map = Image.fromarray(rendering.parts).convert("P")
        label_map.putpalette(_PART_COLOURS)
        label_map.save(root / "parts" / picture.folder / f"{picture.stem}.png")
        entries[name] = {
            "pid": picture.pid,
            "camera": picture.camid,
            "view": picture.view,
            "occluded": rendering.occluded,
            "details": rendering.details,
        }
    return entries


def _draw(settings: SyntheticSettings, picture: PlannedPicture) -> Rendering:
    rng = picture_stream(settings, picture)
    occluder: Person | bool = bool(rng.random() < settings.occluded)
    if occluder and rng.random() < _PASSER_BY:
        occluder = draw_family(rng, "passer-by", 1)[0]
    return render(
        person=person_of(settings, picture.group, picture.index),
        camera=camera_of(settings, picture.camid),
        view=picture.view,
        box=picture.box,
        occluder=occluder,
        size=(settings.height, settings.width),
        rng=rng,
    )
