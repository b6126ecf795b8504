"""What is compared: embeddings of unit length, of one picture or averaged with its mirror image."""

import torch
from torch import Tensor

from cace_pyg.models import CaceNet
from cace_pyg.models.extractor import Individual


def unit_embedding(model: CaceNet, images: Tensor, part_maps: Tensor | None = None, flip: bool = False) -> Individual:
    """Individual embeddings of unit length and clues, for evaluation and galleries alike.

    Args:
        model: in evaluation mode.
        images: normalised, ``(image, 3, height, width)``.
        part_maps: label maps, where the graph needs them.
        flip: take the mean of the embeddings of a picture and of its mirror image, left for right, before its length
            becomes one, as fast-reid does with ``TEST.FLIP``. Clues are those of the picture itself.
    """
    embedding, clues = model(images, part_maps)
    if flip:
        embedding = (embedding + model(images.flip(3)).embedding) / 2
    return Individual(torch.nn.functional.normalize(embedding, dim=-1), clues)
