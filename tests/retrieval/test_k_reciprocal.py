"""k-reciprocal re-ranking against the authors' algorithm, step by step in float64."""

import tracemalloc

import numpy as np
import pytest
import torch

from cace_pyg.retrieval import euclidean_distance, evaluate, k_reciprocal_distance


def literal(query, gallery, k1, k2, weight, original=None):
    """With the whole distance matrix and loops over images, as in the authors' code."""
    images = np.concatenate([query, gallery])
    return literal_of_squared(((images[:, None] - images[None]) ** 2).sum(-1), len(query), k1, k2, weight, original)


def literal_of_squared(squared, queries, k1, k2, weight, original=None):
    squared = squared / squared.max(axis=1, keepdims=True)
    order = np.argsort(squared, axis=1, kind="stable")
    half = round(k1 / 2)
    vectors = np.zeros_like(squared)

    def reciprocal(i, k):
        forward = order[i, : k + 1]
        return forward[[i in order[j, : k + 1] for j in forward]]

    for i in range(len(squared)):
        near = reciprocal(i, k1)
        wide = set(near)
        for candidate in near:
            theirs = reciprocal(candidate, half)
            if len(np.intersect1d(theirs, near)) > 2 / 3 * len(theirs):
                wide |= set(theirs)
        wide = sorted(wide)
        vectors[i, wide] = np.exp(-squared[i, wide])
        vectors[i] /= vectors[i].sum()
    if k2 != 1:
        vectors = np.stack([vectors[order[i, :k2]].mean(axis=0) for i in range(len(squared))])
    least = np.minimum(vectors[:queries, None], vectors[None, queries:]).sum(-1)
    original = squared[:queries, queries:] if original is None else original
    return (1 - weight) * (1 - least / (2 - least)) + weight * original


def people(queries, images, channels=6, spread=0.6):
    """Clustered, so that neighbours are reciprocal often but not always."""
    generator = np.random.default_rng(queries)
    centres = generator.normal(size=(8, channels))
    both = [
        centres[generator.integers(8, size=n)] + spread * generator.normal(size=(n, channels))
        for n in (queries, images)
    ]
    return both[0], both[1]


@pytest.mark.parametrize(
    ("queries", "images", "k1", "k2", "weight"),
    [
        (7, 40, 20, 6, 0.3),
        (12, 60, 10, 3, 0.5),
        (1, 30, 5, 1, 0.0),
        (9, 20, 28, 6, 1.0),
        (3, 4, 1, 1, 0.3),
        (6, 50, 7, 7, 0.1),
    ],
)
def test_equals_the_authors_algorithm(queries, images, k1, k2, weight):
    query, gallery = people(queries, images)
    found = k_reciprocal_distance(query, gallery, k1, k2, weight)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, literal(query, gallery, k1, k2, weight), rtol=1e-7, atol=1e-9)


def test_mixes_with_other_distances(monkeypatch):
    query, gallery = people(7, 40)
    original = np.random.default_rng(0).random((7, 40)) * 3
    monkeypatch.setattr("cace_pyg.retrieval.neighbour_ranking._BLOCK", 100)  # two rows at a time
    found = k_reciprocal_distance(query, gallery, 10, 3, 0.3, original)
    expected = literal(query, gallery, 10, 3, 0.3, original / original.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_it_finds_more_of_a_noisy_cluster():
    """On unambiguous clusters in noise its mAP is higher than that of the distances it starts from."""
    generator = np.random.default_rng(0)
    pids = generator.integers(1, 9, size=230)
    images = generator.normal(size=(9, 6))[pids] + 0.9 * generator.normal(size=(230, 6))
    query, gallery = (torch.tensor(part, dtype=torch.float32) for part in (images[:30], images[30:]))
    labels = pids[:30], pids[30:], np.zeros(30), np.ones(200)
    before = evaluate(euclidean_distance(query, gallery), *labels).mAP
    after = k_reciprocal_distance(query, gallery)
    assert after.dtype == torch.float32
    assert evaluate(after, *labels).mAP > before + 0.02


def test_memory_stays_far_below_the_whole_matrix(monkeypatch):
    monkeypatch.setattr("cace_pyg.retrieval.neighbour_graph._BLOCK", 2**16)
    query, gallery = people(50, 6_000, spread=0.9)
    tracemalloc.start()
    k_reciprocal_distance(query, gallery)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_050**2 * 8 / 5  # the sparse vectors and numpy's own; torch's blocks are 0.5 MB by construction


def test_bad_input_is_named():
    query, gallery = people(3, 10)
    with pytest.raises(ValueError, match=r"1 <= k2 <= k1 < number of images, 13 \(got k1 13, k2 6\)"):
        k_reciprocal_distance(query, gallery, 13)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\] \(got 1.5\)"):
        k_reciprocal_distance(query, gallery, 5, 2, 1.5)
    with pytest.raises(ValueError, match=r"original as \(3, 10\) \(got \(10, 3\)\)"):
        k_reciprocal_distance(query, gallery, 5, 2, original=np.zeros((10, 3)))
    with pytest.raises(ValueError, match=r"got \(3, 6\) and \(10, 5\)"):
        k_reciprocal_distance(query, gallery[:, :5])
    query[1, 0] = np.nan
    with pytest.raises(ValueError, match="infinity in row 1 of query"):
        k_reciprocal_distance(query, gallery, 5, 2)
