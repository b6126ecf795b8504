"""Pair graphs as PyG data and back, and as networkx graphs."""

from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import dense_to_sparse

from cace_pyg.graph.clues import PairBlocks
from cace_pyg.nn.degree import DegreeFloor, normalise_degree


class Pairs(NamedTuple):
    """Pair graphs as matrices: adjacency blocks, node features ``(pair, n, channel)`` of a and b, grid (H, W)."""

    blocks: PairBlocks
    nodes_a: Tensor
    nodes_b: Tensor
    grid: tuple[int, int]


def block_edges(blocks: PairBlocks) -> tuple[Tensor, Tensor]:
    """The edges of all pairs as one graph, pair after pair, without making ``Data``.

    Returns:
        ``edge_index`` (2, edge) of the non-zero entries, sorted by their first node, and ``edge_weight`` (edge),
        through which gradients flow. Node 2n·p + i is clue i of image a of pair p, and node 2n·p + n + i is clue i of
        image b.
    """
    adjacency = blocks.adjacency()
    # only the positions come from dense_to_sparse: on a batch it changes its saved index and backward fails (PyG 2.8)
    edge_index, _ = dense_to_sparse(adjacency.detach())
    nodes = adjacency.size(1)
    source, target = edge_index
    return edge_index, adjacency.flatten(0, 1)[source, target % nodes]


def pair_to_data(blocks: PairBlocks, nodes_a: Tensor, nodes_b: Tensor, grid: tuple[int, int], pair: int = 0) -> Data:
    """One pair of images as one graph of 2n clues.

    Args:
        blocks: the adjacency of some pairs.
        nodes_a: node features of the images a, ``(pair, n, channel)``, or of one image for all pairs.
        nodes_b: node features of the images b, ``(pair, n, channel)``.
        grid: (H, W) of both feature maps, n = H·W.
        pair: which of the pairs.

    Returns:
        ``Data`` with ``x`` (2n, channel), ``edge_index`` (2, edge) and ``edge_weight`` (edge) of the non-zero entries,
        sorted by their first node, ``image`` (2n) with 0 for nodes of a and 1 for nodes of b, ``pos`` (2n, 2), the row
        and column of each clue in its feature map, and ``grid`` (1, 2). Gradients flow through ``x`` and
        ``edge_weight``.
    """
    # one matrix at a time: on a batch, dense_to_sparse changes its own saved index and backward fails (PyG 2.8)
    pair_a = 0 if nodes_a.size(0) == 1 else pair
    intra_a = blocks.intra_a[0 if blocks.intra_a.size(0) == 1 else pair]
    alone = PairBlocks(intra_a[None], blocks.inter[pair, None], blocks.intra_b[pair, None])
    edge_index, edge_weight = dense_to_sparse(alone.adjacency()[0])
    device = nodes_a.device
    rows, columns = torch.meshgrid(*(torch.arange(length, device=device) for length in grid), indexing="ij")
    return Data(
        x=torch.cat([nodes_a[pair_a], nodes_b[pair]]),
        edge_index=edge_index,
        edge_weight=edge_weight,
        image=torch.arange(2, device=device).repeat_interleave(grid[0] * grid[1]),
        pos=torch.stack([rows.flatten(), columns.flatten()], dim=-1).repeat(2, 1),
        grid=torch.tensor([grid], device=device),
    )


def pairs_to_batch(blocks: PairBlocks, nodes_a: Tensor, nodes_b: Tensor, grid: tuple[int, int]) -> Batch:
    """All pairs as one PyG ``Batch``, one graph per pair (see :func:`pair_to_data`)."""
    pairs = range(blocks.inter.size(0))
    return Batch.from_data_list([pair_to_data(blocks, nodes_a, nodes_b, grid, pair) for pair in pairs])


def data_to_pairs(data: Data) -> Pairs:
    """The exact inverse of :func:`pair_to_data` and :func:`pairs_to_batch`; also for batches of a PyG loader.

    Args:
        data: one pair graph or a ``Batch`` of them, all of one grid. Gradients flow through ``x`` and ``edge_weight``.

    Raises:
        ValueError: ``data`` is not a pair graph, or its graphs have several grids.
    """
    missing = [name for name in ("x", "edge_index", "edge_weight", "grid") if name not in data]
    if missing:
        raise ValueError(f"Expected a pair graph as pair_to_data makes it (got one without {', '.join(missing)})")
    grids = data.grid.unique(dim=0)
    if len(grids) > 1:
        raise ValueError(f"Expected pair graphs of one grid (got {grids.tolist()}); convert them one by one")
    grid = tuple(grids[0].tolist())
    n, pairs = grid[0] * grid[1], data.grid.size(0)
    source, target = data.edge_index
    adjacency = data.edge_weight.new_zeros(pairs, 2 * n, 2 * n)
    adjacency = adjacency.index_put((source // (2 * n), source % (2 * n), target % (2 * n)), data.edge_weight)
    blocks = PairBlocks(adjacency[:, :n, :n], adjacency[:, :n, n:], adjacency[:, n:, n:])
    nodes = data.x.view(pairs, 2, n, -1)
    return Pairs(blocks, nodes[:, 0], nodes[:, 1], grid)


def pair_to_networkx(data: Data, degree_floor: DegreeFloor = "textbook") -> "nx.Graph[int]":
    r"""One pair graph as an undirected networkx graph, for matchings, communities, and programs such as Gephi.

    Args:
        data: one pair graph of 2n clues, as :func:`~cace_pyg.graph.pair_to_data` makes it, with symmetric weights.
        degree_floor: the model's own, see :func:`~cace_pyg.nn.degree.normalise_degree`.

    Returns:
        Nodes 0 … 2n − 1 with ``image`` (0: a, 1: b), ``row``, ``column``, ``clue`` (the index within its image) and
        ``degree`` (:math:`d_i`, the row sum of the adjacency, with a self-loop counted once). Every edge, including
        self-loops, has ``weight`` (:math:`a_{ij}`) and ``share`` (:math:`a_{ij} / \sqrt{d_i d_j}`, its factor in the
        propagation). All are plain Python numbers without units.

    Raises:
        ValueError: ``data`` is not a pair graph, or a batch of several.
    """
    _check(data)
    n = len(data.image) // 2
    source, target = data.edge_index
    weight = data.edge_weight.detach().double()
    degree = weight.new_zeros(2 * n).index_add(0, source, weight)
    # the mode only changes the node's own weight, never the scale
    scale = normalise_degree(degree, "discrepancy", degree_floor).scale
    share = scale[source] * weight * scale[target]
    once = source <= target

    graph: nx.Graph[int] = nx.Graph()
    for node, (image, (row, column), d) in enumerate(
        zip(data.image.tolist(), data.pos.tolist(), degree.tolist(), strict=True)
    ):
        graph.add_node(node, image=image, row=row, column=column, clue=node % n, degree=d)
    columns = (values[once].tolist() for values in (source, target, weight, share))
    graph.add_edges_from((i, j, {"weight": a, "share": s}) for i, j, a, s in zip(*columns, strict=True))
    return graph


def _check(data: Data) -> None:
    missing = [name for name in ("edge_index", "edge_weight", "image", "pos") if name not in data]
    if missing:
        raise ValueError(f"Expected a pair graph as pair_to_data makes it (got one without {', '.join(missing)})")
    expected = torch.arange(2, device=data.image.device).repeat_interleave(len(data.image) // 2)
    if not torch.equal(data.image, expected):
        changes = int((data.image.diff() != 0).sum())
        raise ValueError(
            "Expected one pair graph: the n clues of image a, then the n of b "
            f"(got {len(data.image)} nodes whose image changes {changes} times); take one graph of a batch, batch[i]"
        )
