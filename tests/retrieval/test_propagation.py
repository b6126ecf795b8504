"""Messages between pictures against the authors' algorithm, written out with whole matrices in float64."""

import numpy as np
import pytest
import torch
from torch_geometric.nn import MessagePassing

from cace_pyg.retrieval import euclidean_distance, evaluate, nearest_neighbours, propagation_distance
from cace_pyg.retrieval.propagation import propagation_encoding


def literal(query, gallery, k1, k2, exponent):
    """Whole matrices and loops over images, as in the authors' code."""
    images = np.concatenate([query, gallery])
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    cosine = images @ images.T
    order = np.argsort(-cosine, axis=1, kind="stable")
    encoding = np.zeros_like(cosine)
    for i in range(len(images)):
        encoding[i, order[i, :k1]] = 1
    if k2 != 1:
        for _ in range(2):
            both = encoding + encoding.T
            for i in range(len(images)):
                heard = [cosine[i, j] ** exponent * both[j] for j in order[i, :k2]]
                encoding[i] = np.sum(heard, axis=0)
            encoding /= np.linalg.norm(encoding, axis=1, keepdims=True)
    unit = encoding / np.linalg.norm(encoding, axis=1, keepdims=True)
    return 1 - unit[: len(query)] @ unit[len(query) :].T


def people(queries, images, channels=6, spread=0.6):
    generator = np.random.default_rng(queries)
    centres = 3 + generator.normal(size=(8, channels))  # so that neighbours have positive cosines
    return [
        centres[generator.integers(8, size=n)] + spread * generator.normal(size=(n, channels))
        for n in (queries, images)
    ]


@pytest.mark.parametrize(
    ("queries", "images", "k1", "k2", "exponent"),
    [(7, 40, 26, 7, 2.0), (12, 60, 10, 3, 1.0), (1, 30, 5, 1, 2.0), (3, 4, 7, 7, 0.5), (6, 50, 1, 1, 2.0)],
)
def test_equals_the_authors_algorithm(queries, images, k1, k2, exponent):
    query, gallery = people(queries, images)
    found = propagation_distance(query, gallery, k1, k2, exponent)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, literal(query, gallery, k1, k2, exponent), rtol=1e-9, atol=1e-9)


class Hear(MessagePassing):
    """A neighbour's vector times the weight of the edge, summed."""

    def __init__(self):
        super().__init__(aggr="sum")

    def forward(self, x, edge_index, weight):
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j, weight):
        return weight[:, None] * x_j


def test_a_step_is_pygs_message_passing_on_the_graph_of_pictures():
    query, gallery = people(7, 40)
    images = torch.nn.functional.normalize(torch.from_numpy(np.concatenate([query, gallery])), dim=1)
    graph = nearest_neighbours(images, 12)
    described, heard = graph.to_data(12), graph.to_data(4)
    start = torch.zeros(47, 47, dtype=torch.float64)
    start[described.edge_index[1], described.edge_index[0]] = 1
    expected = Hear()(start + start.T, heard.edge_index, heard.edge_weight**2)
    found = torch.from_numpy(propagation_encoding(graph, 12, 4, 2.0, steps=1).toarray())
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=1))


def test_the_original_distance_takes_its_share_and_breaks_ties():
    query, gallery = people(5, 60)
    alone, mixed = (propagation_distance(query, gallery, 4, 2, weight=weight) for weight in (0.0, 0.25))
    images = np.concatenate([query, gallery])
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    squared = ((images[:5, None] - images[None]) ** 2).sum(-1)
    expected = 0.75 * alone.numpy() + 0.25 * squared[:, 5:] / squared.max(1, keepdims=True)
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)
    assert alone.unique().numel() < mixed.unique().numel()


def test_it_finds_more_of_a_noisy_cluster():
    generator = np.random.default_rng(0)
    pids = generator.integers(1, 9, size=230)
    images = 2 + generator.normal(size=(9, 6))[pids] + 0.9 * generator.normal(size=(230, 6))
    images = torch.nn.functional.normalize(torch.tensor(images, dtype=torch.float32), dim=1)
    query, gallery = images[:30], images[30:]
    labels = pids[:30], pids[30:], np.zeros(30), np.ones(200)
    after = propagation_distance(query, gallery)
    assert after.dtype == torch.float32
    assert evaluate(after, *labels).mAP > evaluate(euclidean_distance(query, gallery), *labels).mAP + 0.02


def test_a_query_that_stands_in_the_gallery_is_one_picture():
    query, gallery = people(4, 30)
    everyone = np.concatenate([gallery, query])
    own = np.arange(30, 34)
    found = propagation_distance(query, everyone, 8, 3, own_position=own)
    for row in range(4):
        others = np.delete(np.arange(34), 30 + row)
        expected = propagation_distance(query[row : row + 1], everyone[others], 8, 3)
        torch.testing.assert_close(found[row, others], expected[0])


def test_bad_input_is_named():
    query, gallery = people(3, 10)
    with pytest.raises(ValueError, match=r"1 <= k2 <= k1 <= number of images, 13 \(got k1 14, k2 7\)"):
        propagation_distance(query, gallery, 14)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\] \(got -0.1\)"):
        propagation_distance(query, gallery, 5, 2, weight=-0.1)
    with pytest.raises(ValueError, match=r"exponent of at least 0 \(got -1\)"):
        propagation_distance(query, gallery, 5, 2, -1)
    query[2, 0] = np.inf
    with pytest.raises(ValueError, match="infinity in row 2 of query"):
        propagation_distance(query, gallery, 5, 2)
