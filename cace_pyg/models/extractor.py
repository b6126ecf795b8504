"""The interface of networks that turn images into clues, for the pair stage."""

from typing import NamedTuple, Protocol

from torch import Tensor

from cace_pyg.graph import Clues


class Individual(NamedTuple):
    """The result for single images: embedding ``(image, embedding)`` and clues ``(image, n, channel)``."""

    embedding: Tensor
    clues: Clues


class Extractor(Protocol):
    """Any module that turns images into clues; nothing has to be inherited or registered.

    It may return

    - a feature map ``(image, channels, H, W)``, whose pixels are the clues,
    - :class:`~cace_pyg.graph.Clues` of tokens: ``Clues(tokens, (H, W))`` with the tokens of patches row by row,
      ``(image, H·W, channels)``, without class and register tokens,
    - an :class:`Individual`, if the network also has its own embedding.

    Attributes:
        channels: of a clue.
    """

    channels: int

    def __call__(self, images: Tensor) -> Tensor | Clues | Individual:
        """Takes ``(image, 3, height, width)``, RGB, normalised with ImageNet's mean and standard deviation."""


_FEWEST = 8  # channels; with fewer in second place, the channels are probably last


def split_extracted(extracted: object, channels: int, images: int) -> tuple[Tensor | None, Clues]:
    """The embedding, if there is one, and the clues from an extractor's result.

    Args:
        extracted: see :class:`Extractor`.
        channels: the extractor's ``channels``.
        images: number of images it was given.

    Raises:
        ValueError: it is none of the three, or has another size; the message says what to change.
    """
    embedding = None
    if isinstance(extracted, tuple) and len(extracted) == 2:
        embedding, extracted = extracted
        if not isinstance(embedding, Tensor) or embedding.dim() != 2 or embedding.size(0) != images:
            raise ValueError(f"Expected the extractor's own embedding as (image, embedding) (got {_shape(embedding)})")
    if isinstance(extracted, Clues):
        clues = extracted
    elif isinstance(extracted, Tensor) and extracted.dim() == 4:
        _check_map(extracted, channels)
        clues = Clues.from_map(extracted)
    else:
        tokens = isinstance(extracted, Tensor) and extracted.dim() == 3
        remedy = (
            "tokens need their grid: return cace_pyg.graph.Clues(tokens, (H, W)) without class and register tokens"
            if tokens
            else "return the map before pooling, with channels second, or Clues(tokens, (H, W))"
        )
        raise ValueError(
            f"Expected the extractor to return a map (image, {channels}, H, W) (got {_shape(extracted)}); {remedy}"
        )
    # not len(): an exported model would take only one size
    if clues.features.size(2) != channels or clues.features.size(0) != images:
        raise ValueError(
            f"Expected clues of {images} images with {channels} channels (got {tuple(clues.features.shape)}); set the "
            "extractor's `channels` to those of its clues"
        )
    return embedding, clues


def _check_map(feature_map: Tensor, channels: int) -> None:
    shape = tuple(feature_map.shape)
    if shape[1] == channels and channels >= _FEWEST:
        return
    remedy = (
        "its channels come last: return map.permute(0, 3, 1, 2)"
        if shape[3] == channels or channels < _FEWEST
        else "set its `channels` to the number of channels of the map, the second dimension"
    )
    raise ValueError(f"Expected the extractor to return a map (image, {channels}, H, W) (got {shape}); {remedy}")


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
