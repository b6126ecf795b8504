"""What a model computes once for each image, from pixels to tensors with names."""

from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from cace_pyg.engine.exported_clues import ExportedClues
from cace_pyg.graph.part_vote import PartVote
from cace_pyg.models import CaceNet


class IndividualBranch(torch.nn.Module):
    """The first stage, and of the second all that depends on one image alone; the normalisation is inside.

    Args:
        model: in evaluation mode.
        clues: which parts of the prepared clues to return.
        size: (height, width) of the pictures.

    Shapes: uint8 ``(image, 3, height, width)``, and where the graph looks at body parts label maps, uint8
    ``(image, height, width)``, to ``embedding`` ``(image, embedding)``, of length one, and the clues by their names.
    """

    def __init__(self, model: CaceNet, clues: ExportedClues, size: tuple[int, int]):
        super().__init__()
        self.model = model
        self.clues = clues
        self.vote = PartVote(size, clues.grid) if model.needs_parts else None
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> dict[str, Tensor]:
        """Return the embedding and the clues."""
        embedding, clues = self.model((images.float() / 255 - self.mean) / self.deviation)
        if self.vote is not None:
            clues = replace(clues, parts=self.vote(part_maps))
        unit = torch.nn.functional.normalize(embedding, dim=-1)
        return {"embedding": unit} | self.clues.tensors(self.model.prepare(clues))
