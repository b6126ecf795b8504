"""Caches the embeddings and clues of a frozen network in a folder, for other runs."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample
from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet

_EMBEDDING, _CLUES, _PICTURES = "embedding.npy", "clues.npy", "pictures.json"


class FeatureCache:
    """Embeddings and clues of a published network, by picture.

    Each network has its own folder. Each batch of new pictures gets a folder in it, which appears complete and never
    changes. So several processes may use one cache at a time, and a killed process leaves nothing that others would
    read. A picture counts as new if its path, its size in bytes or its modification time is new.

    Args:
        folder: of the cache; made if it does not exist.
        model: the weights of its extractor are part of the key.
        config: the picture size, ``backbone`` and ``evaluation.flip`` are part of the key, too.
    """

    def __init__(self, folder: Path, model: CaceNet, config: Config):
        self.folder = folder / f"{config.backbone.name.replace('/', '_')}-{_network_key(model, config)}"
        self.lots = sorted(path for path in self.folder.glob("*") if (path / _PICTURES).exists())
        self.places = {
            picture: (lot, row)
            for lot in self.lots
            for row, picture in enumerate(json.loads((lot / _PICTURES).read_text())["pictures"])
        }

    def new(self, samples: Sequence[Sample]) -> list[Sample]:
        """Those of ``samples`` that are not in the cache."""
        return [sample for sample in samples if _picture_key(sample) not in self.places]

    def add(self, samples: Sequence[Sample], batches: Iterable[tuple[Tensor, Clues]]) -> None:
        """Store the embeddings and clues of new pictures; clues in half precision.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            grid = _write(partial, len(samples), batches)
            pictures = [_picture_key(sample) for sample in samples]
            (partial / _PICTURES).write_text(json.dumps({"grid": grid, "pictures": pictures}))
            lot = partial.with_name(partial.name.lstrip("."))
            os.replace(partial, lot)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        self.lots.append(lot)
        self.places |= {picture: (lot, row) for row, picture in enumerate(pictures)}

    def batches(self, samples: Sequence[Sample], batch_size: int) -> Iterator[tuple[Tensor, Clues]]:
        """Embeddings and clues of ``samples``, which must all be in the cache; read from disk when they are needed."""
        files = {
            lot: tuple(np.load(lot / name, mmap_mode="r") for name in (_EMBEDDING, _CLUES))
            for lot in {self.places[_picture_key(sample)][0] for sample in samples}
        }
        grids = {lot: json.loads((lot / _PICTURES).read_text())["grid"] for lot in files}
        for first in range(0, len(samples), batch_size):
            places = [self.places[_picture_key(sample)] for sample in samples[first : first + batch_size]]
            embedding = np.stack([files[lot][0][row] for lot, row in places])
            clues = np.stack([files[lot][1][row] for lot, row in places])
            height, width = grids[places[0][0]]
            yield torch.from_numpy(embedding), Clues(torch.from_numpy(clues), (height, width))


def _write(folder: Path, count: int, batches: Iterable[tuple[Tensor, Clues]]) -> tuple[int, int]:
    """Write the arrays, batch by batch; returns the grid."""
    grid, filled = (0, 0), 0
    with (folder / _EMBEDDING).open("wb") as embeddings, (folder / _CLUES).open("wb") as clues_file:
        for embedding, clues in batches:
            grid = clues.grid
            arrays = embedding.cpu().numpy(), clues.features.half().cpu().numpy()
            for file, array in zip((embeddings, clues_file), arrays, strict=True):
                if filled == 0:
                    form = {"descr": array.dtype.str, "fortran_order": False, "shape": (count, *array.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, form)
                file.write(array.tobytes())  # a full disk is an error here; with mapped memory it would kill us
            filled += len(embedding)
    assert filled == count
    return grid


def _network_key(model: CaceNet, config: Config) -> str:
    """12 hexadecimal digits of the SHA-256 over everything that determines the output for a picture."""
    settings = asdict(config.backbone) | {"weights": getattr(model.extractor, "sha256", None)}
    settings |= {"size": [config.data.height, config.data.width], "flip": config.evaluation.flip}
    settings["class"] = type(model.extractor).__name__
    network = getattr(model.extractor, "backbone", model.extractor)
    settings["layers"] = [str(layer) for layer in getattr(network, "earlier", ())]  # from Python without a setting
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    extractor = model.get_submodule("extractor")
    for name, values in sorted(extractor.state_dict().items()):
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _picture_key(sample: Sample) -> str:
    found = sample.path.stat()
    return f"{sample.path.absolute()} {found.st_size} {found.st_mtime_ns}"
