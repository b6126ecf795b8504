"""The statistics of a gallery's cameras, for a model with ``evaluation.standardise_cameras``."""

import pickle
import zipfile
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch

from cace_pyg.engine.files import atomic_file
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.progress import write_line
from cace_pyg.read_picture import Picture
from cace_pyg.retrieval.camera_statistics import CameraStatistics

_FILE = "cameras.pt"


def read_cameras(folder: Path, embedder: Embedder, filled: bool) -> None:
    """Give the embedder the statistics that the gallery in ``folder`` has.

    Args:
        folder: of the gallery.
        embedder: nothing happens if it does not need any.
        filled: the gallery has pictures, so it must have statistics.

    Raises:
        RuntimeError: the file cannot be read.
    """
    path = folder / _FILE
    if not embedder.standardises or not (filled or path.exists()):
        return
    try:
        with zipfile.ZipFile(path) as file:
            if file.testzip() is not None:  # torch does not look at the check sums
                raise ValueError
        embedder.statistics = CameraStatistics.from_dict(torch.load(path, weights_only=True))
    except (
        OSError,
        RuntimeError,
        KeyError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        what = "is not there" if not path.exists() else "cannot be read"
        raise RuntimeError(
            f"the gallery {folder} is damaged: {path.name}, with the statistics of its cameras, {what}; restore it, or "
            "index the pictures into another --gallery"
        ) from error


def learn_cameras(
    folder: Path, embedder: Embedder, pictures: Sequence[Picture], cameras: Sequence[str | None], progress: bool
) -> None:
    """Learn the statistics from the first pictures of a gallery; later nothing happens.

    They stay as they are, because the pictures in the gallery were standardised by them.

    Args:
        folder: of the gallery.
        embedder: of the gallery.
        pictures: that will be added.
        cameras: of each.
        progress: show a bar.

    Raises:
        ValueError: there are fewer than 5 pictures.
    """
    if not embedder.standardises or not pictures:
        return
    if embedder.statistics is None:
        read_cameras(folder, embedder, filled=False)  # another process may have learned them meanwhile
    if embedder.statistics is None:
        learned = embedder.learn_cameras(pictures, cameras, progress)
        if learned is None:
            return
        if learned.cameras == [None]:
            write_line(
                "warning: no camera is told, so all pictures are standardised as those of one camera: index them with "
                "--pattern or --metadata that gives a column camera (docs/cameras.md)"
            )
        with atomic_file(folder / _FILE) as file:
            torch.save(learned.as_dict(), file)
        read_cameras(folder, embedder, filled=True)


def warn_of_new_cameras(embedder: Embedder, cameras: Sequence[str | None]) -> None:
    """Say which cameras of added pictures the statistics do not know."""
    known = [] if embedder.statistics is None else embedder.statistics.cameras
    others = {camera for camera in cameras if camera not in known}
    if embedder.standardises and None in others:
        write_line(
            "warning: the camera of some pictures is not told, so they are standardised as those of an average camera; "
            "give --camera, or a column camera (docs/cameras.md)"
        )
    if embedder.standardises and (new := sorted(camera for camera in others if camera is not None)):
        write_line(
            f"warning: the gallery has no statistics of some cameras ({', '.join(new)}), because it had no pictures of "
            "them when they were made; they are standardised as those of an average camera. For statistics of their "
            "own, index all pictures into another --gallery (docs/cameras.md)"
        )


def query_cameras(folder: Path, embedder: Embedder) -> list[Hashable]:
    """The cameras that a query of the gallery in ``folder`` may name: those with statistics.

    There are none if the model does not standardise, or the gallery has no pictures.
    """
    if embedder.statistics is None:
        read_cameras(folder, embedder, filled=False)  # another process may have added pictures meanwhile
    return [] if embedder.statistics is None else [name for name in embedder.statistics.cameras if name is not None]


def check_camera(folder: Path, embedder: Embedder, camera: str | None) -> None:
    """Refuse a query's camera that the gallery in ``folder`` cannot use.

    Raises:
        ValueError: the model does not standardise, or there are no statistics of this camera, or of any.
    """
    if not embedder.standardises:
        if camera is None:
            return
        raise ValueError(
            f"Expected no camera of the query (got {camera!r}): only a model with evaluation.standardise_cameras uses "
            "it (docs/cameras.md); leave it out"
        )
    known = query_cameras(folder, embedder)
    embedder.known_statistics()
    if camera not in (None, *known):
        raise ValueError(
            f"Expected a camera that the gallery has statistics of: {', '.join(map(str, known)) or 'it has none'} (got "
            f"{camera!r}); leave it out for an average camera"
        )
