"""Pair graphs in figures."""

import math

import pytest
import torch

from cace_pyg.graph import PairBlocks, degree_statistics, pair_to_data, pair_to_networkx


def statistics(blocks: PairBlocks):
    nodes = torch.zeros(1, 2, 1)
    return degree_statistics(pair_to_networkx(pair_to_data(blocks, nodes, nodes, (2, 1))))


def test_a_graph_counted_by_hand():
    # clue 0 of a has a self-loop of 1, an edge of 2 to clue 1 of a and one of 3 to clue 0 of b; clue 1 of b has none
    found = statistics(PairBlocks(*torch.tensor([[[1.0, 2], [2, 0]], [[3, 0], [0, 0]], [[0, 0], [0, 0]]])[:, None]))
    assert (found.nodes, found.edges) == (4, 3)
    assert (found.density_intra_a, found.density_inter, found.density_intra_b) == (3 / 4, 1 / 4, 0)
    assert (found.isolated_a, found.isolated_b) == (0, 1)
    assert found.degree_a == (2, 4, 6, 4)  # minimum, median, maximum, mean of 6 and 2
    assert found.degree_b == (0, 1.5, 3, 1.5)
    assert found.crossing_weight == pytest.approx(3 / 6)
    share = {"loop": 1 / 6, "within": 2 / 12**0.5, "between": 3 / 18**0.5}
    assert found.crossing_share == pytest.approx(share["between"] / sum(share.values()))


def test_densities_are_those_of_the_blocks(make_adjacency):
    adjacency = make_adjacency(1, 4)
    blocks = PairBlocks(adjacency[:, :2, :2], adjacency[:, :2, 2:], adjacency[:, 2:, 2:])
    found = statistics(blocks)
    within, between = blocks.density()
    assert (found.density_intra_a + found.density_intra_b) / 2 == within and found.density_inter == between


def test_the_table_names_everything():
    table = statistics(PairBlocks(*torch.ones(3, 1, 2, 2))).table()
    assert table.splitlines()[0] == "4 clues, 10 edges"
    for words in ("density, %", "intra a", "inter", "degree in b", "isolated", "between the images: 40.0 % of the"):
        assert words in table


def test_a_graph_without_edges():
    found = statistics(PairBlocks(*torch.zeros(3, 1, 2, 2)))
    assert found.edges == 0 and (found.isolated_a, found.isolated_b) == (2, 2) and math.isnan(found.crossing_share)
    assert "between the images: – of the attention" in found.table()
