"""The embedding of one network, and the clues of another."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cace_pyg.models.extractor import Extractor, Individual, split_extracted


class TwoNetworks(torch.nn.Module):
    """An :class:`~cace_pyg.models.extractor.Extractor` with one network's embedding and another's clues.

    A network hardly confuses people it was trained on, so a pair stage learns little from its clues of them. A network
    that never saw them, such as a small published one, gives clues to learn from (docs/on_your_network.md, with
    figures). Its pictures may be larger than those of the first.

    Args:
        embedding: an extractor with an embedding of its own, such as a trained model of this library.
        clues: any extractor; an embedding of its own is ignored.
        size: (height, width) of pictures for ``embedding``, to which those for ``clues`` are reduced; None: the same.

    Attributes:
        channels: of a clue.

    Raises:
        ValueError: the first extractor has no embedding, or see
            :func:`~cace_pyg.models.extractor.split_extracted`.
    """

    needs_parts = False

    def __init__(self, embedding: Extractor, clues: Extractor, size: tuple[int, int] | None = None):
        super().__init__()
        self.embedding = embedding
        self.clues = clues
        self.channels = clues.channels
        self.size = size

    def forward(self, images: Tensor) -> Individual:
        """Embeddings and clues of ``(image, 3, height, width)``, RGB, normalised as for ImageNet."""
        smaller = images
        if self.size is not None:
            smaller = interpolate(images, self.size, mode="bilinear", antialias=True)
        embedding, _ = split_extracted(self.embedding(smaller), self.embedding.channels, len(images))
        if embedding is None:
            raise ValueError(
                "Expected an extractor with an embedding of its own in first place (got "
                f"{type(self.embedding).__name__}, which has none): give a model, a PublishedEmbedding, or a module "
                "that returns Individual"
            )
        _, clues = split_extracted(self.clues(images), self.channels, len(images))
        return Individual(embedding, clues)
