"""What the pair stage saw in one pair."""

from dataclasses import dataclass

import numpy as np
import torch
from torch_geometric.data import Data

from cace_pyg.engine.inter_shares import inter_shares
from cace_pyg.graph import pair_to_data
from cace_pyg.models import CaceNet, PreparedClues


@dataclass(frozen=True)
class PairView:
    """One pair as the model sees it.

    Attributes:
        graph: the pair graph; ``x`` holds what the convolution takes.
        matches: strongest inter edges, rows (clue of a, clue of b, normalised weight), strongest first.
        discrepancy_a: how far each clue differs from those it is connected with, ``(H, W)``.
        discrepancy_b: the same of the other image.
        discrepancy_label: what those numbers are.
    """

    graph: Data
    matches: np.ndarray
    discrepancy_a: np.ndarray
    discrepancy_b: np.ndarray
    discrepancy_label: str
    grid: tuple[int, int]


@torch.no_grad()
def view_pair(model: CaceNet, a: PreparedClues, b: PreparedClues, strongest: int = 20) -> PairView:
    """Look into the pair of one image a and one image b; the model is on the CPU.

    An inter edge counts by its share in the propagation, see :func:`inter_shares`.
    """
    blocks = model.conditional.blocks(a, b)
    grid = a.keys.grid
    n = grid[0] * grid[1]
    share = inter_shares(blocks, model.conditional.settings)[0]
    weight, flat = share.flatten().topk(min(strongest, n * n))
    matches = torch.stack([flat // n, flat % n], dim=-1).double()
    matches = torch.cat([matches, weight.double()[:, None]], dim=-1)[weight > 0]
    magnitude = model.conditional.discrepancy(a, b)[0].reshape(2, *grid).numpy()
    graph = pair_to_data(blocks, a.nodes, b.nodes, grid)
    label = model.conditional.discrepancy_label
    return PairView(graph, matches.numpy(), magnitude[0], magnitude[1], label, grid)
