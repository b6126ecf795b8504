"""The pair stage on clues that a gallery stores."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.gallery.embedder import Embedded, Embedder
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.unfinished_lists import Measure
from cace_pyg.retrieval import rerank


class StoredPairStage:
    """Measures pictures whose clues are in a gallery's table.

    Args:
        embedder: of the gallery's model.
        codec: of the stored clues.
    """

    def __init__(self, embedder: Embedder, codec: ClueCodec):
        self.embedder = embedder
        self._codec = codec

    @torch.no_grad()
    def distances(
        self, table: GalleryTable, query: Embedded, asked: Tensor, rows: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        """The pair stage's distances from the ``asked`` pictures of a query to rows, ``(asked, row)``.

        ``(asked, 0)`` if the model's fusion weight is 0.
        """
        if not rows or self.embedder.fusion_weight == 0:
            return torch.empty(len(asked), 0)
        device, model = self.embedder.device, self.embedder.model
        clues, prepared = self._codec.decode(table.clues(rows), model).to(device), query.prepared.to(device)
        each = [
            model.pair_stage.distance(prepared.select(slice(position, position + 1)), clues).cpu()
            for position in asked.tolist()
        ]
        return torch.stack(each)

    def between(self, table: GalleryTable, rows: Sequence[Mapping[str, Any]]) -> Measure:
        """How it measures pairs of a snapshot's pictures, which are given by their positions in ``rows``."""
        device, model = self.embedder.device, self.embedder.model

        def some(positions: Sequence[int]) -> Callable[[int, np.ndarray], Tensor]:
            blobs = dict(zip(positions, table.clues([rows[position] for position in positions]), strict=True))

            @torch.no_grad()
            def distances(position: int, others: np.ndarray) -> Tensor:
                a = self._codec.decode([blobs[position]], model).to(device)
                b = self._codec.decode([blobs[other] for other in others.tolist()], model).to(device)
                return model.pair_stage.distance(a, b).float().cpu()

            return distances

        return some

    def fused(self, individual: Tensor, conditional: Tensor) -> Tensor:
        """The distances by both stages, ``(1, row)``: the first rows were measured, the others keep their place.

        Args:
            individual: ``(1, row)``, ascending.
            conditional: of the first rows, ``(1, measured)``; none: the individual distances alone count.
        """
        if not conditional.size(1):
            return individual
        index = torch.arange(conditional.size(1))[None]
        return rerank(individual, index, conditional, self.embedder.fusion_weight)
