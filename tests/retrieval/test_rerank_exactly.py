"""Re-ranking where floating point would lose the order."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import choose_fusion_weight, evaluate, rank, rerank, top_k

ANY = st.floats(0, 4) | st.sampled_from([0.0, 5e-324, 1e-300, 1e-12, 1e-9, 0.5, np.nextafter(0.5, 1)])


@st.composite
def stages(draw):
    gallery = draw(st.integers(1, 8))
    row = st.lists(ANY, min_size=gallery, max_size=gallery)
    distance = torch.tensor(draw(st.lists(row, min_size=1, max_size=3)), dtype=torch.float64)
    distance = distance.to(draw(st.sampled_from([torch.float32, torch.float64])))
    index = top_k(distance, draw(st.integers(1, gallery)))
    values = draw(st.lists(ANY, min_size=index.numel(), max_size=index.numel()))
    return distance, index, torch.tensor(values, dtype=torch.float64).view(index.shape)


@settings(max_examples=300, deadline=None)
@given(stages(), st.floats(0, 1))
def test_the_tail_keeps_its_order_whatever_the_numbers(stage, weight):
    distance, index, conditional = stage
    k = index.size(1)
    before, after = rank(distance), rank(rerank(distance, index, conditional, weight))
    assert after[:, k:].equal(before[:, k:])
    assert after[:, :k].sort(1).values.equal(before[:, :k].sort(1).values)
    assert rank(rerank(distance, index, conditional, 0.0)).equal(before)
    assert rank(rerank(distance, index[:, :1], conditional[:, :1], weight)).equal(before)  # nothing to sort


@settings(max_examples=100, deadline=None)
@given(stages())
def test_rank_k_does_not_change_under_evaluation(stage):
    distance, index, conditional = stage
    gallery_pids = np.arange(distance.size(1)) % 2 + 1
    labels = [1] * len(distance), gallery_pids, [1] * len(distance), [2] * distance.size(1)
    before, after = (evaluate(ranking, *labels) for ranking in (distance, rerank(distance, index, conditional, 1.0)))
    assert np.array_equal(before.cmc[index.size(1) - 1 :], after.cmc[index.size(1) - 1 :])


def test_others_that_are_behind_already_keep_their_distances():
    distance = torch.tensor([[0.25, 0.5, 2.0]])
    assert rerank(distance, [[0, 1]], [[1.5, 0.25]], 1.0).tolist() == [[1.5, 0.25, 2.0]]
    assert rerank(distance, [[0, 1]], [[2.0, 0.25]], 1.0).tolist() == [[2.0, 0.25, 3.0]]  # a tie is not behind
    assert distance.tolist() == [[0.25, 0.5, 2.0]]


def test_ties_of_fused_distances_stand_in_gallery_order():
    distance = torch.tensor([[0.3, 0.2, 0.1, 0.9]])
    index = top_k(distance, 3)
    assert index.tolist() == [[2, 1, 0]]
    assert rank(rerank(distance, index, torch.full((1, 3), 0.5), 1.0)).tolist() == [[0, 1, 2, 3]]


def test_in_blocks(monkeypatch):
    distance, conditional = torch.rand(7, 10), torch.rand(7, 4) * 2
    index = top_k(distance, 4)
    at_once = rerank(distance, index, conditional, 0.5)
    monkeypatch.setattr("cace_pyg.retrieval.two_stage._BLOCK", 25)
    assert rerank(distance, index, conditional, 0.5).equal(at_once)


@pytest.mark.parametrize("index", [[[0, 0]], [[0, 3]], [[-1, 0]]])
def test_an_impossible_index_is_refused(index):
    with pytest.raises(ValueError, match="different images of the gallery's 3"):
        rerank(torch.zeros(1, 3), index, torch.zeros(1, 2), 0.5)


def test_distances_that_are_no_numbers_are_refused():
    distance, index = torch.zeros(2, 3), [[0, 1], [0, 1]]
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="conditional to hold finite distances.*at query 1"):
            rerank(distance, index, torch.tensor([[0.0, 0.0], [0.0, bad]]), 0.5)
        with pytest.raises(ValueError, match="distance to hold finite distances.*at query 0"):
            rerank(torch.full((2, 3), bad), index, torch.zeros(2, 2), 0.5)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\] \(got nan\)"):
        rerank(distance, index, torch.zeros(2, 2), float("nan"))


def test_fusion_without_cameras_and_without_weights():
    arguments = torch.zeros(1, 2), [[0, 1]], torch.tensor([[1.0, 0.0]]), [1], [2, 1], [1], [1, 1]
    choice = choose_fusion_weight(*arguments, weights=(1.0, 0.5, 0.0), same_camera="keep")
    assert choice == (0.5, ((0.0, 0.5, 0.0), (0.5, 1.0, 1.0), (1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="at least one fusion weight"):
        choose_fusion_weight(*arguments, weights=())
