"""Whether a gallery's pictures are like those that its model was calibrated on."""

import torch

from cace_pyg.engine.distances import random_scores
from cace_pyg.engine.extraction import Extraction
from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.gallery_table import GalleryTable

_FEWEST = 100  # images needed to see a drift: the scores of ten people differ from any others by chance
_SAMPLE, _PAIRS = 128, 500  # images, and pairs of them, whose scores are compared with the calibration's


def drift_of(table: GalleryTable, embedder: Embedder, codec: ClueCodec) -> float | None:
    """How far the scores of random pairs are from those of the calibration; see :meth:`Gallery.drift`.

    Raises:
        RuntimeError: the gallery is damaged.
    """
    if embedder.calibration is None or len(table) < _FEWEST:
        return None
    some = [row for row in table.some(_SAMPLE) if row["clues"]]  # a track has clues of its views at least
    if not some:
        return None
    with embedder.on_cpu() as model:
        embedding = torch.stack([row["embedding"] for row in some])
        images = Extraction((), embedding, codec.decode([row["clues"] for row in some], model))
        scores = random_scores(model, images, images, embedder.fusion_weight, 64, "cpu", pairs=_PAIRS)
    return embedder.calibration.drift(scores)
