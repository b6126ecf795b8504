"""How much each edge between two images counts."""

from torch import Tensor

from cace_pyg.graph import PairBlocks
from cace_pyg.models import ConditionalSettings
from cace_pyg.nn.degree import node_degree, normalise_degree


def inter_shares(blocks: PairBlocks, settings: ConditionalSettings) -> Tensor:
    """a_ij / √(d_i d_j) of each edge between both images, with the model's degree floor: what reaches the embedding.

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
