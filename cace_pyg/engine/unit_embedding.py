"""The embeddings that are compared: of unit length, optionally averaged with those of mirrored images."""

import torch
from torch import Tensor

from cace_pyg.models import CaceNet
from cace_pyg.models.extractor import Individual


def unit_embedding(model: CaceNet, images: Tensor, part_maps: Tensor | None = None, flip: bool = False) -> Individual:
    """Individual embeddings of unit length and clues, for evaluation and galleries alike.

    Args:
        model: in evaluation mode.
        images: normalised, ``(image, 3, height, width)``.
        part_maps: label maps, if the graph needs them.
        flip: average the embeddings of a picture and of its mirror image before normalisation, as fast-reid does with
            ``TEST.FLIP``. Clues are not averaged.
    """
    embedding, clues = model(images, part_maps)
    if flip:
        embedding = (embedding + model(images.flip(3)).embedding) / 2
    return Individual(torch.nn.functional.normalize(embedding, dim=-1), clues)
