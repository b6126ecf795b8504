"""The embedding of one network, and the clues of another."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from cace_pyg.graph import Clues
from cace_pyg.models.extractor import Extractor, Individual, split_extracted


class TwoNetworks(torch.nn.Module):
    """An :class:`~cace_pyg.models.extractor.Extractor` with one network's embedding and another's clues.

    A network hardly confuses people it was trained on, so a pair stage learns little from its clues of them. A network
    that never saw them, such as a small published one, gives clues to learn from (docs/on_your_network.md, with
    figures). Its pictures may be larger than those of the first.

    Args:
        embedding: a module that returns embeddings ``(image, embedding)``, or an extractor with an embedding of its
            own, such as a trained model of this library.
        clues: any extractor; an embedding of its own is ignored.
        size: (height, width) of the pictures that ``embedding`` was trained with, to which those for ``clues`` are
            reduced; None: the same. A wrong size raises no error if its proportions fit; it only lowers the figures.

    Attributes:
        channels: of a clue.

    Raises:
        ValueError: a network is none, the first one returns no embedding, or ``size`` is no size, is larger than the
            pictures, or has other proportions; or see :func:`~cace_pyg.models.extractor.split_extracted`.
    """

    needs_parts = False

    def __init__(
        self,
        embedding: Extractor | Callable[[Tensor], Tensor],
        clues: Extractor,
        size: tuple[int, int] | None = None,
    ):
        super().__init__()
        for name, network in (("embedding", embedding), ("clues", clues)):
            if not callable(network):
                raise ValueError(
                    f"Expected a network as {name} (got {type(network).__name__}); load a checkpoint with "
                    "cace_pyg.from_pretrained(PATH).model"
                )
        if not isinstance(getattr(clues, "channels", None), int):
            raise ValueError(
                f"Expected an extractor with `channels` as clues (got {type(clues).__name__} without); set it to the "
                "number of channels of the map that it returns"
            )
        self.embedding = embedding
        self.clues = clues
        self.channels = clues.channels
        self.size = None if size is None else _checked(size)

    def forward(self, images: Tensor) -> Individual:
        """Embeddings and clues of ``(image, 3, height, width)``, RGB, normalised as for ImageNet."""
        embedding = self._embed(self._reduced(images), len(images))
        _, clues = split_extracted(self.clues(images), self.channels, len(images))
        return Individual(embedding, clues)

    def __str__(self) -> str:
        taken = "" if self.size is None else f" of pictures of {self.size[0]}×{self.size[1]}"
        names = [type(network).__name__ for network in (self.embedding, self.clues)]
        return f"embedding of {names[0]}{taken}, clues of {names[1]} ({self.channels} channels)"

    def _reduced(self, images: Tensor) -> Tensor:
        if self.size is None:
            return images
        (height, width), (own_height, own_width) = self.size, images.shape[2:]
        if height > own_height or width > own_width or not 0.5 < height * own_width / (width * own_height) < 2:
            raise ValueError(
                f"Expected pictures that reduce to {height}×{width} for the first network (got "
                f"{own_height}×{own_width}); give larger ones, or TwoNetworks "
                "another size=(height, width)"
            )
        return interpolate(images, self.size, mode="bilinear", antialias=True)

    def _embed(self, images: Tensor, count: int) -> Tensor:
        found = self.embedding(images)
        own = found[0] if isinstance(found, tuple) and len(found) == 2 else found
        if isinstance(own, Clues) or not isinstance(own, Tensor) or own.dim() != 2 or own.size(0) != count:
            told = tuple(own.shape) if isinstance(own, Tensor) else type(own).__name__
            raise ValueError(
                "Expected the first network of TwoNetworks to return embeddings (image, embedding), or Individual with "
                f"them (got {told} of {type(self.embedding).__name__}); a network without an embedding comes second"
            )
        return own


def _checked(size: tuple[int, int]) -> tuple[int, int]:
    fits = isinstance(size, tuple | list) and len(size) == 2
    if not fits or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"Expected size as (height, width) in pixels, such as (128, 64) (got {size!r})")
    return size[0], size[1]
