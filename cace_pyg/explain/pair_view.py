"""One pair as the pair stage sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from cace_pyg.data.sample import Sample
from cace_pyg.graph import PairBlocks, pair_to_data
from cace_pyg.models import CaceNet, ConditionalSettings, PairOperand
from cace_pyg.nn.degree import node_degree, normalise_degree


@dataclass(frozen=True)
class PairView:
    """One pair as the model sees it.

    Attributes:
        graph: the pair graph; ``x`` is the input of the convolution.
        matches: strongest inter edges, rows (clue of a, clue of b, normalised weight), strongest first.
        effects: ``(match,)``, by how much the pair stage's distance grows without that edge: above 0 it speaks for one
            person, below 0 against.
        discrepancy_a: how much each clue differs from those it is connected with, ``(H, W)``.
        discrepancy_b: the same for the other image.
        discrepancy_label: describes these numbers.
    """

    graph: Data
    matches: np.ndarray
    effects: np.ndarray
    discrepancy_a: np.ndarray
    discrepancy_b: np.ndarray
    discrepancy_label: str
    grid: tuple[int, int]

    @property
    def verdict(self) -> str:
        """How many of the strongest correspondences speak for one person, and how many speak against it."""
        if not len(self.effects):
            return "there are no correspondences between the pictures"
        speak = (self.effects > 0).sum(), (self.effects < 0).sum()
        return (
            f"of the {len(self.effects)} strongest correspondences {speak[0]} speak for one person, {speak[1]} against"
        )


@torch.no_grad()
def view_pair(model: CaceNet, a: PairOperand, b: PairOperand, strongest: int = 20) -> PairView:
    """Analyse the pair of one image a and one image b; the model is on the CPU.

    Inter edges are ranked by their share in the propagation, see :func:`inter_shares`.
    """
    a, b = a.expanded(), b.expanded()
    blocks = model.pair_stage.blocks(a, b)
    grid = a.compared.grid
    n = grid[0] * grid[1]
    share = inter_shares(blocks, model.pair_stage.settings)[0]
    weight, flat = share.flatten().topk(min(strongest, n * n))
    matches = torch.stack([flat // n, flat % n], dim=-1).double()
    matches = torch.cat([matches, weight.double()[:, None]], dim=-1)[weight > 0]
    magnitude = model.pair_stage.discrepancy(a, b)[0].reshape(2, *grid).numpy()
    graph = pair_to_data(blocks, a.projected, b.projected, grid)
    label = model.pair_stage.discrepancy_label
    effects = _effects(model, a, b, blocks, matches[:, :2].long())
    return PairView(graph, matches.numpy(), effects, magnitude[0], magnitude[1], label, grid)


def _effects(model: CaceNet, a: PairOperand, b: PairOperand, blocks: PairBlocks, edges: Tensor) -> np.ndarray:
    """The distance without each edge minus the distance with all edges."""
    if not len(edges):
        return np.empty(0)
    several = torch.zeros(len(edges) + 1, dtype=torch.long)
    inter = blocks.inter[several].clone()
    number = torch.arange(len(edges))
    inter[number, edges[:, 0], edges[:, 1]] = 0
    cut = PairBlocks(blocks.intra_a, inter, blocks.intra_b[several])
    distance = model.pair_stage.distance_of(cut, a, b.select(several))
    return (distance[:-1] - distance[-1]).double().numpy()


def inter_shares(blocks: PairBlocks, settings: ConditionalSettings) -> Tensor:
    """a_ij / √(d_i d_j) of each edge between the images, with the model's degree floor: its factor in the propagation.

    Args:
        blocks: adjacency of each pair.
        settings: of the model.

    Returns:
        ``(pair, n, n)``, rows: clues of a.
    """
    adjacency = blocks.adjacency()
    scale = normalise_degree(node_degree(adjacency), settings.mode, settings.degree_floor).scale
    n = blocks.inter.size(-1)
    return scale[:, :n, None] * blocks.inter * scale[:, None, n:]


def picture_samples(pictures: Sequence[Path]) -> tuple[Sample, ...]:
    """The files as samples of one person, each from its own camera, so that the protocol can rank them.

    Raises:
        FileNotFoundError: there is no such picture.
    """
    for picture in pictures:
        if not picture.is_file():
            raise FileNotFoundError(f"no picture at {picture}; expected picture files, such as A.jpg B.jpg")
    return tuple(Sample(picture, pid=1, camid=camera) for camera, picture in enumerate(pictures))
