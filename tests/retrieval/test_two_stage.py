"""What re-ranking may and may not change."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import (
    choose_fusion_weight,
    euclidean_distance,
    evaluate,
    rank,
    rerank,
    rerank_pairs,
    top_k,
)


@st.composite
def stages(draw):
    queries, gallery = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    k = draw(st.integers(1, gallery))

    def values(rows, columns):  # few of them, so that ties are common
        row = st.lists(st.integers(0, 5), min_size=columns, max_size=columns)
        return torch.tensor(draw(st.lists(row, min_size=rows, max_size=rows))).float() / 5

    distance = values(queries, gallery)
    return distance, top_k(distance, k), values(queries, k), k


@settings(max_examples=200, deadline=None)
@given(stages())
def test_weight_zero_changes_nothing(stage):
    distance, index, conditional, _ = stage
    assert rank(rerank(distance, index, conditional, 0.0)).equal(rank(distance))


@settings(max_examples=200, deadline=None)
@given(stages(), st.sampled_from([0.3, 0.5, 1.0]))
def test_only_the_order_of_the_top_k_changes(stage, weight):
    distance, index, conditional, k = stage
    before, after = rank(distance), rank(rerank(distance, index, conditional, weight))
    assert after[:, :k].sort(1).values.equal(before[:, :k].sort(1).values)  # so Rank-k cannot change
    assert after[:, k:].equal(before[:, k:])
    for query, (positions, values) in enumerate(zip(index, conditional, strict=True)):
        own = distance[query].double()[positions]
        fused = {
            int(g): float((1 - weight) * i + weight * c.double())
            for g, i, c in zip(positions, own, values, strict=True)
        }
        assert after[query, :k].tolist() == sorted(fused, key=lambda g: (fused[g], g))


def test_by_hand():
    distance, conditional = torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([[0.8, 0.3]])
    index = top_k(distance, 2)
    assert index.tolist() == [[0, 1]]
    assert rank(rerank(distance, index, conditional, 1.0)).tolist() == [[1, 0, 2]]
    assert rank(rerank(distance, index, conditional, 0.1)).tolist() == [[0, 1, 2]]


def test_bad_input_is_named():
    distance = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\] \(got 1.5\)"):
        rerank(distance, top_k(distance, 2), torch.zeros(2, 2), 1.5)
    with pytest.raises(ValueError, match=r"got \(2, 2\) and \(2, 3\)"):
        rerank(distance, top_k(distance, 2), torch.zeros(2, 3), 0.5)
    with pytest.raises(ValueError, match="top_k of at least 1"):
        top_k(distance, 0)
    assert top_k(distance, 9).shape == (2, 3)


def test_the_best_weight_is_found_and_ties_go_to_the_smaller():
    """The individual distance is wrong, the conditional right: from 0.6 on the match comes first."""
    distance, conditional = torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 0.4]])
    labels = ([1], [1, 2], [1], [2, 2])
    choice = choose_fusion_weight(distance, torch.tensor([[1, 0]]), conditional.flip(1), *labels)
    curve = {
        weight: evaluate(rerank(distance, torch.tensor([[0, 1]]), conditional, weight), *labels).mAP
        for weight in np.arange(11) / 10
    }
    assert choice.weight == min(w for w, mAP in curve.items() if mAP == max(curve.values())) == 0.6
    assert [mAP for _, mAP, _ in choice.curve] == pytest.approx(list(curve.values()))


def test_euclidean_distance_and_its_gradient():
    a, b = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(euclidean_distance(a, b), torch.cdist(a, b))
    euclidean_distance(a, a).sum().backward()
    assert torch.isfinite(a.grad).all()
    with pytest.raises(ValueError, match=r"got \(4, 3\) and \(5, 2\)"):
        euclidean_distance(a, torch.zeros(5, 2))


def test_anybodys_pair_model_ranks_the_nearest_again():
    query, gallery = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    asked = []

    def score(position, near):
        asked.append((position, near.tolist()))
        return torch.tensor([5.0, 1.0])

    found = rerank_pairs(query, gallery, score, k=2, weight=0.5)
    assert asked == [(0, [0, 1])]
    assert found[0, :2].tolist() == [0.5 * 1 + 0.5 * 5, 0.5 * 2 + 0.5 * 1] and rank(found).tolist() == [[1, 0, 2]]
    torch.testing.assert_close(
        rerank_pairs(query, gallery, score, k=2, weight=0.0)[0], torch.tensor([1.0, 2, 3]).double()
    )
    with pytest.raises(ValueError, match=r"for each of 2 pairs, \(2,\) \(got \(3,\) for query 0\)"):
        rerank_pairs(query, gallery, lambda position, near: torch.zeros(3), k=2)
