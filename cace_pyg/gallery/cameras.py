"""The statistics of a gallery's cameras, for a model with ``evaluation.standardise_cameras``."""

import pickle
from collections.abc import Sequence
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
        embedder.statistics = CameraStatistics.from_dict(torch.load(path, weights_only=True))
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(
            f"the gallery {folder} is damaged: {path.name}, with the statistics of its cameras, cannot be read "
            f"({' '.join(str(error).split())[:100]}); restore it, or index the pictures into another --gallery"
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
        ValueError: no picture can be read.
    """
    if not embedder.standardises or not pictures:
        return
    if embedder.statistics is None:
        read_cameras(folder, embedder, filled=False)  # another process may have learned them meanwhile
    if embedder.statistics is None:
        learned = embedder.learn_cameras(pictures, cameras, progress)
        with atomic_file(folder / _FILE) as file:
            torch.save(learned.as_dict(), file)
        read_cameras(folder, embedder, filled=True)


def warn_of_new_cameras(embedder: Embedder, cameras: Sequence[str | None]) -> None:
    """Say which cameras of added pictures the statistics do not know."""
    known = [] if embedder.statistics is None else embedder.statistics.cameras
    others = sorted({camera or "none told" for camera in cameras if camera not in known})
    if embedder.standardises and others:
        write_line(
            f"warning: the gallery has no statistics of some cameras ({', '.join(others)}), because it had no pictures "
            "of them when they were made; their pictures are standardised as those of an average camera. For "
            "statistics of their own, index all pictures into another --gallery (docs/cameras.md)"
        )
