"""Pair graphs for networkx."""

import networkx as nx
import torch
from torch_geometric.data import Data

from cace_pyg.nn.degree import DegreeFloor, normalise_degree


def pair_to_networkx(data: Data, degree_floor: DegreeFloor = "textbook") -> nx.Graph:
    r"""One pair graph as an undirected networkx graph, for matchings, communities, and programs such as Gephi.

    Args:
        data: one pair graph of 2n clues, as :func:`~cace_pyg.graph.pair_to_data` makes it, with symmetric weights.
        degree_floor: the model's own, see :func:`~cace_pyg.nn.degree.normalise_degree`.

    Returns:
        Nodes 0 … 2n − 1 with ``image`` (0: a, 1: b), ``row``, ``column``, ``clue`` (the index within its image) and
        ``degree`` (:math:`d_i`, the row sum of the adjacency, where a self-loop counts once). Every edge, a self-loop
        once, has ``weight`` (:math:`a_{ij}`) and ``share`` (:math:`a_{ij} / \sqrt{d_i d_j}`, what reaches the
        embedding). All are plain Python numbers without unit.

    Raises:
        ValueError: ``data`` is no pair graph, or a batch of several.
    """
    _check(data)
    n = len(data.image) // 2
    source, target = data.edge_index
    weight = data.edge_weight.detach().double()
    degree = weight.new_zeros(2 * n).index_add(0, source, weight)
    # the mode changes what a node keeps of itself, never the scale
    scale = normalise_degree(degree, "discrepancy", degree_floor).scale
    share = scale[source] * weight * scale[target]
    once = source <= target

    graph = nx.Graph()
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
