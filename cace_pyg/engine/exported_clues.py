"""Prepared clues as named tensors, and back: what passes from one exported model to the other."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet, PreparedClues


class ExportedClues(torch.nn.Module):
    """Which parts of :class:`~cace_pyg.models.PreparedClues` differ from image to image and are looked at in a pair.

    ``keys`` without channels, ``intra`` where only inter edges stay, and ``own`` of aligned clues say nothing and are
    left out; what all images share is kept here.

    Args:
        model: whose second stage it is.
        example: prepared clues of any image.

    Attributes:
        names: those that are left of ``keys``, ``intra``, ``nodes``, ``own`` and ``parts``.
        grid: (H, W) of the feature map.
    """

    def __init__(self, model: CaceNet, example: PreparedClues):
        super().__init__()
        edges, aligned = model.conditional.settings.edges, model.conditional.settings.compare == "aligned_clues"
        wanted = {
            "keys": example.keys.features.size(-1) > 0 and edges != "intra",
            "intra": edges != "inter" and not aligned,
            "nodes": True,
            "own": example.own.size(-1) > 0,
            "parts": example.keys.parts is not None and edges != "intra",
        }
        self.names = tuple(name for name, is_wanted in wanted.items() if is_wanted)
        self.grid = example.keys.grid
        # a copy: in the literal form it is the encoder's own parameter
        tail = None if example.tail is None else example.tail.detach().clone()
        self.register_buffer("tail", tail, persistent=False)

    def tensors(self, prepared: PreparedClues) -> dict[str, Tensor]:
        """The parts by their names, each ``(image, …)``."""
        every = {
            "keys": prepared.keys.features,
            "intra": prepared.intra,
            "nodes": prepared.nodes,
            "own": prepared.own,
            "parts": prepared.keys.parts,
        }
        return {name: every[name] for name in self.names}

    def prepared(self, tensors: dict[str, Tensor]) -> PreparedClues:
        """The prepared clues of which :meth:`tensors` gave the parts, as far as a pair looks at them."""
        nodes = tensors["nodes"]
        images, n = nodes.shape[:2]
        keys = Clues(tensors.get("keys", nodes[..., :0]), self.grid, tensors.get("parts"))
        intra = tensors["intra"] if "intra" in self.names else nodes.new_zeros(images, n, n)
        own = tensors["own"] if "own" in self.names else nodes.new_zeros(images, 0)
        return PreparedClues(keys, intra, nodes, own, self.tail)
