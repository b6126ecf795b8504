"""Distances some rows at a time: the same results, and never the whole matrix."""

import numpy as np
import pytest
import torch

from cace_pyg.retrieval import (
    distance_blocks,
    euclidean_distance,
    evaluate,
    evaluate_blocks,
)

CHANNELS = 6


@pytest.fixture
def drawn_set():
    """Embeddings and labels with ties, junk, distractors, and queries that do not count."""
    query, gallery = torch.randn(23, CHANNELS), torch.randn(91, CHANNELS)
    gallery[40:44] = gallery[3]  # ties
    query_pids, gallery_pids = torch.randint(1, 8, (23,)), torch.randint(-1, 8, (91,))
    query_pids[5] = 99  # nowhere in the gallery
    return query, gallery, (query_pids, gallery_pids, torch.randint(0, 3, (23,)), torch.randint(0, 3, (91,)))


@pytest.mark.parametrize("most", [1, 91, 4 * 91 + 7, 40 * CHANNELS, 10**6])
def test_blocks_are_the_rows_of_the_matrix(drawn_set, most):
    query, gallery, _ = drawn_set
    chosen, blocks = zip(*distance_blocks(query, gallery, most), strict=True)
    assert all(block.numel() <= max(most, 91) for block in blocks)
    assert [i for part in chosen for i in range(23)[part]] == list(range(23))
    torch.testing.assert_close(torch.cat(blocks), euclidean_distance(query, gallery))


@pytest.mark.parametrize("rows", [1, 5, 23])
@pytest.mark.parametrize("policy", [{}, {"same_camera": "keep", "average_precision": "trapezoid", "max_rank": 12}])
def test_metrics_of_blocks_are_those_of_the_matrix(drawn_set, rows, policy):
    query, gallery, labels = drawn_set
    distance = euclidean_distance(query, gallery)
    whole, parts = evaluate(distance, *labels, **policy), evaluate_blocks(distance.split(rows), *labels, **policy)
    for name, expected in vars(whole).items():
        assert np.array_equal(getattr(parts, name), expected), name
    assert whole.left_out_absent == 1


def test_blocks_that_do_not_fit(drawn_set):
    query, gallery, labels = drawn_set
    distance = euclidean_distance(query, gallery)
    for blocks in ([distance[:5]], [distance, distance[:1]], [distance[:, :5]], [distance[0]], []):
        with pytest.raises(ValueError, match="Expected distance as"):
            evaluate_blocks(blocks, *labels)
    spoilt = distance.clone()
    spoilt[17, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN for query 17"):
        evaluate_blocks(spoilt.split(4), *labels)
