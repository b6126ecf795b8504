"""Add pictures to one gallery from many machines at once, through Ray Data."""

import json
import logging
import os
import socket
import tempfile
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.new_picture import Added, image_name
from cace_pyg.gallery.picture_facts import PictureFacts
from cace_pyg.progress import progress_bar

_COMMIT = 64  # images, see Gallery.add
_MOST = 8 * _COMMIT  # images that a worker takes at once, so at most this many are repeated if it is killed
_TOLD = ("path", "camera", "taken", "metadata")  # of each picture
_TIME = "$time"  # no column can have this name
_OBJECT_STORE = 128 * 1024**2  # bytes; pictures go from the disk to the worker, not through Ray


def add_on_ray(
    gallery: Gallery,
    pictures: Sequence[Path],
    facts: PictureFacts,
    workers: int | None = None,
    address: str | None = None,
    device: str = "auto",
) -> Added:
    """:meth:`Gallery.add` on the workers of a Ray cluster, each with its own copy of the model.

    Every worker writes its own commits into the gallery's table. If a worker dies, Ray starts another one and gives it
    the same pictures. Those already committed are left alone, so nothing is added twice. The counts come from comparing
    the gallery before and after, so a repeated task is not counted twice either. Another process that writes the same
    pictures meanwhile would be counted too.

    Args:
        gallery: every machine must find it, and the pictures, under the same path.
        pictures: files.
        facts: of each picture.
        workers: processes, each with one core, or one GPU if the cluster has any. None: as many as the cluster allows.
        address: of a running cluster; ``auto`` for the one on this machine. None: start one here, and stop it at the
            end.
        device: see :class:`Gallery`; ``auto`` and ``cuda`` use GPUs.

    Raises:
        RuntimeError: Ray is not installed, there is no cluster at ``address`` or it refuses us, or a worker
            cannot continue because it does not find the gallery or because no column takes some metadata.
        ValueError: a column name is not allowed, or there is less than one worker.
    """
    expect_cluster(workers, address)
    ray = _ray()
    gallery.prepare_for_writers(pictures, facts.camera, facts.metadata)
    before = gallery.stamps()
    was_running = ray.is_initialized()
    try:
        if not was_running:
            _start(ray, address, workers)
        unreadable = _run(ray, gallery.path.absolute(), pictures, facts, workers, device)
    except ray.exceptions.RayError as error:
        raise RuntimeError(
            f"Ray gave up: {error}; the same command continues with what is not in the gallery"
        ) from error
    finally:
        if not was_running:
            ray.shutdown()
    return _became(pictures, before, gallery.stamps(), unreadable)


def expect_cluster(workers: int | None = None, address: str | None = None) -> None:
    """Check that :func:`add_on_ray` can run, before a gallery is made.

    Raises:
        RuntimeError: Ray is not installed, or there is no cluster at ``address``.
        ValueError: there is less than one worker.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"Expected at least one worker (got {workers})")
    _ray()
    named = _remembered() if address == "auto" else address
    if not named:
        return
    try:  # Ray itself would keep trying for minutes if nothing answers
        host, _, port = named.removeprefix("ray://").rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise _no_cluster(address, named, error) from error


def _no_cluster(address: str | None, named: str | None, error: Exception) -> RuntimeError:
    where = address if named in (None, address) else f"{named}, which {address} is"
    return RuntimeError(f"there is no Ray cluster at {where} ({error}); give auto or HOST:PORT of one that runs")


class _Writer:
    """What runs on a worker: an open gallery with its model."""

    def __init__(self, path: Path, device: str):
        self.gallery = Gallery.open(path, device=device)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        rows = [json.loads(row, object_hook=_told_time) for row in batch["picture"]]
        paths, camera, taken, metadata = ([row[name] for row in rows] for name in _TOLD)
        try:
            unreadable = self.gallery.add(paths, camera, taken, metadata).unreadable
        except (ValueError, OSError, RuntimeError) as error:  # reported in full; Ray would show its own stack frames
            return {"done": [0], "unreadable": ["[]"], "error": [str(error)]}
        return {"done": [len(rows)], "unreadable": [json.dumps(unreadable)], "error": [""]}


def _ray() -> ModuleType:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RuntimeError(f"--ray needs Ray ({error}): pip install 'cace-pyg[cluster]'") from error
    return ray


def _start(ray: ModuleType, address: str | None, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        here = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
        with warnings.catch_warnings():  # Ray's own processes are forked, then become other programs
            warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
            ray.init("local", **here, **quiet)
        return
    try:
        ray.init(address, **quiet)
    except (OSError, ValueError) as error:
        raise _no_cluster(address, _remembered() if address == "auto" else address, error) from error


def _remembered() -> str | None:
    """The cluster that ``auto`` means to Ray: that of the environment variable, or the last one started here."""
    told = os.environ.get("RAY_ADDRESS", "auto")
    if told not in ("", "auto"):
        return told
    last = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    return last.read_text().strip() if last.exists() else None


def _run(
    ray: ModuleType, path: Path, pictures: Sequence[Path], facts: PictureFacts, workers: int | None, device: str
) -> list[tuple[str, str]]:
    """Add all pictures; returns the names of those that cannot be read, with the reason."""
    on_gpu = device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0
    workers = workers or max(1, int(ray.cluster_resources()["GPU" if on_gpu else "CPU"]))
    tasks = min(_ceil(len(pictures), _COMMIT), max(4 * workers, _ceil(len(pictures), _MOST)))
    busy = min(workers, tasks)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    told = ray.data.from_items(_told(pictures, facts), override_num_blocks=tasks)
    done = told.map_batches(
        _Writer,
        batch_size=None,  # everything in a task
        fn_constructor_args=(path, "cuda" if on_gpu else "cpu" if device == "auto" else device),
        compute=ray.data.ActorPoolStrategy(size=busy),
        **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
    )
    unreadable: list[tuple[str, str]] = []
    few = f" of {workers}, {_COMMIT} pictures each at least" if busy < workers else ""
    title = f"index, {busy} worker{'s' if busy > 1 else ''}{few}"
    with progress_bar(total=len(pictures), desc=title, unit="image") as bar:
        for row in done.iter_rows():
            if row["error"]:
                raise RuntimeError(f"a worker cannot continue: {row['error']}")
            unreadable += [tuple(pair) for pair in json.loads(row["unreadable"])]
            bar.update(row["done"])
    return unreadable


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _told(pictures: Sequence[Path], facts: PictureFacts) -> list[dict[str, str]]:
    """Each picture and its facts, as text: columns of a table would lose the type of a value."""
    rows = zip(pictures, facts.camera, facts.taken, facts.metadata, strict=True)
    told = (
        dict(zip(_TOLD, (image_name(path), camera, taken, metadata), strict=True))
        for path, camera, taken, metadata in rows
    )
    return [{"picture": json.dumps(entry, default=lambda time: {_TIME: time.isoformat()})} for entry in told]


def _told_time(told: dict[str, Any]) -> dict[str, Any] | datetime:
    return datetime.fromisoformat(told[_TIME]) if _TIME in told else told


def _became(
    pictures: Sequence[Path],
    before: dict[str, datetime],
    after: dict[str, datetime],
    unreadable: list[tuple[str, str]],
) -> Added:
    names = {image_name(path) for path in pictures}
    added = sum(name in after and name not in before for name in names)
    replaced = sum(name in before and name in after and before[name] != after[name] for name in names)
    told = tuple(sorted(unreadable))
    return Added(added, replaced, len(pictures) - added - replaced - len(told), told)
