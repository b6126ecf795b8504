"""The graph of pictures: who stands in whose list, at which distance, and how it is ranked again."""

import numpy as np
import pytest
import torch

from cace_pyg.retrieval import nearest_neighbours
from cace_pyg.retrieval.neighbour_graph import in_order_of


@pytest.fixture
def images():
    return torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_lists_are_those_of_the_whole_matrix(images, block, monkeypatch):
    monkeypatch.setattr("cace_pyg.retrieval.neighbour_graph._BLOCK", block)
    graph = nearest_neighbours(images, 7)
    whole = torch.cdist(images, images)
    whole.fill_diagonal_(0)
    assert torch.equal(graph.index, whole.argsort(dim=1, stable=True)[:, :7])
    torch.testing.assert_close(graph.distance, whole.sort(1).values[:, :7])
    torch.testing.assert_close(graph.farthest, whole.amax(1))


def test_an_image_is_its_own_nearest_and_ties_stand_in_order():
    graph = nearest_neighbours(torch.tensor([[0.0], [0.0], [1.0], [-1.0], [0.0]]), 4)
    assert graph.index.tolist() == [[0, 1, 4, 2], [1, 0, 4, 2], [2, 0, 1, 4], [3, 0, 1, 4], [4, 0, 1, 2]]


def test_a_list_that_is_ranked_again_keeps_its_image_its_tail_and_its_distances(images):
    graph = nearest_neighbours(images, 7)
    fused = torch.rand(30, 4, dtype=torch.float64)
    again = graph.reranked(fused)
    assert torch.equal(again.distance, graph.distance)
    assert torch.equal(again.index[:, [0, 5, 6]], graph.index[:, [0, 5, 6]])
    for row in range(30):
        expected = sorted(range(4), key=lambda place, row=row: fused[row, place])
        assert again.index[row, 1:5].tolist() == [int(graph.index[row, 1 + place]) for place in expected]


def test_level_neighbours_stay_in_order_and_wrong_distances_are_refused(images):
    graph = nearest_neighbours(images, 5)
    fused = torch.full((30, 4), 0.7)
    assert torch.equal(graph.reranked(fused).index, graph.index)
    fused[:, 2] = 0.5
    assert torch.equal(graph.reranked(fused).index, graph.index[:, [0, 3, 1, 2, 4]])
    for wrong in (torch.zeros(30, 5), torch.zeros(29, 4), torch.full((30, 4), torch.nan)):
        with pytest.raises(ValueError, match="at most 4 neighbours of 30 images, none of them NaN"):
            graph.reranked(wrong)


def test_a_distance_is_that_of_the_place_in_the_list_else_euclidean(images):
    graph = nearest_neighbours(images, 7).reranked(torch.rand(30, 6))
    rows, columns = (torch.arange(30).repeat_interleave(30), torch.arange(30).repeat(30))
    found = graph.distances_to(rows, columns).view(30, 30)
    expected = torch.cdist(images, images)
    expected.fill_diagonal_(0).scatter_(1, graph.index, graph.distance)
    torch.testing.assert_close(found, expected)


def test_the_graph_of_pyg_and_the_sparse_rows_say_the_same(images):
    images = torch.nn.functional.normalize(images, dim=1)
    graph = nearest_neighbours(images, 7)
    data = graph.to_data(4)
    assert data.num_nodes == 30 and data.validate() and not data.is_undirected()
    dense = np.zeros((30, 30))
    dense[data.edge_index[1], data.edge_index[0]] = 1
    np.testing.assert_array_equal(graph.to_csr(4).toarray(), dense)
    cosine = (images[data.edge_index[0]] * images[data.edge_index[1]]).sum(1)
    torch.testing.assert_close(data.edge_weight, cosine)
    assert graph.to_data().num_edges == 30 * 7


def test_values_are_sorted_into_another_order():
    values, ranked_by = torch.rand(4, 6), torch.rand(4, 6)
    found = in_order_of(values, ranked_by)
    assert torch.equal(found.argsort(1), ranked_by.argsort(1))
    assert torch.equal(found.sort(1).values, values.sort(1).values)


def test_an_impossible_number_of_neighbours_is_refused(images):
    for k in (0, 31):
        with pytest.raises(ValueError, match=rf"k from 1 to the number of images, 30 \(got {k}\)"):
            nearest_neighbours(images, k)
    graph = nearest_neighbours(images, 4)
    for too_many in (lambda: graph.to_csr(5), lambda: graph.to_data(5)):
        with pytest.raises(ValueError, match=r"from 1 to 4 neighbours, as many as are listed \(got 5\)"):
            too_many()
