"""The individual branch in the two forms that trackers expect of a re-identification model."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.read_picture import read_picture
from cace_pyg.trackers.track_collector import crop_boxes


class ReidModel:
    """A trained model with the interfaces of BoxMOT and ultralytics; pictures are prepared as in training.

    - BoxMOT: ``BotSort(reid_model=ReidModel(checkpoint))``, which calls :meth:`get_features`.
    - ultralytics: ``tracker.encoder = ReidModel(checkpoint)``, which is called with a frame and boxes.

    Neither is imported. Both are licensed under the AGPL; check what it requires of your program. Frames are OpenCV's:
    uint8 ``(height, width, 3)``, BGR.

    Args:
        checkpoint: ``best.ckpt`` of a run, or ``model.ckpt`` of a gallery; or an :class:`Embedder`.
        device: auto, cpu, cuda, cuda:1, mps; an ``Embedder`` stays where it is.

    Raises:
        FileNotFoundError, ValueError: see :class:`Embedder`.
    """

    def __init__(self, checkpoint: str | Path | Embedder, device: str = "auto"):
        self.embedder = checkpoint if isinstance(checkpoint, Embedder) else Embedder(Path(checkpoint), device)
        self.embedder.expect_unstandardised("a tracker")

    def get_features(self, boxes: ArrayLike, image: np.ndarray) -> np.ndarray:
        """BoxMOT's call: unit-length embeddings, float32 ``(box, embedding)``.

        A box outside the frame gets the embedding of a grey picture, because BoxMOT needs an embedding for every box.

        Args:
            boxes: x0, y0, x1, y1 in pixels, ``(box, 4)``.
            image: the frame.

        Raises:
            ValueError: see :func:`crop_boxes`.
        """
        crops = crop_boxes(image, boxes)
        grey = np.full((2, 1, 3), 128, np.uint8)
        return self._embed([grey if crop is None else crop for crop in crops])

    def __call__(self, image: np.ndarray, boxes: ArrayLike) -> list[np.ndarray | None]:
        """ultralytics' call: an embedding for each box; None for a box outside the frame.

        Args:
            image: the frame.
            boxes: centre x, centre y, width, height in pixels in the first four columns, ``(box, any)``.

        Raises:
            ValueError: see :func:`crop_boxes`.
        """
        given = np.asarray(boxes, dtype=float)
        given = given if given.size else given.reshape(0, 4)
        centre, half = given[:, :2], given[:, 2:4] / 2
        crops = crop_boxes(image, np.concatenate([centre - half, centre + half], 1))
        found = iter(self._embed([crop for crop in crops if crop is not None]))
        return [None if crop is None else next(found) for crop in crops]

    def _embed(self, crops: list[np.ndarray]) -> np.ndarray:
        if not crops:
            return np.empty((0, self.embedder.embedding_channels), np.float32)
        resized = [self.embedder.resize(read_picture(crop)) for crop in crops]
        step = self.embedder.config.evaluation.batch_size
        batches = [self.embedder.embeddings(resized[at : at + step]) for at in range(0, len(resized), step)]
        return torch.cat(batches).numpy()
