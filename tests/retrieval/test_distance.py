"""Distances, rankings and the first stage's top k."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import conditional_distance, euclidean_distance, rank, top_k


def test_distance_by_hand_from_arrays_and_lists():
    expected = torch.tensor([[5.0, 1.0]])
    torch.testing.assert_close(euclidean_distance([[0.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]]), expected)
    double = euclidean_distance(np.zeros((1, 2)), torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    torch.testing.assert_close(double, expected.double())


def test_half_precision_and_autocast_do_not_blur_distances():
    a, b = torch.nn.functional.normalize(torch.randn(2, 6, 64), dim=-1)
    exact = torch.cdist(a.double(), b.double()).float()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(euclidean_distance(a, b), exact, atol=1e-5, rtol=0)
    assert euclidean_distance(a.half(), b.half()).dtype == torch.float32


def test_gradient_is_that_of_the_norm_and_zero_at_distance_zero():
    a, b = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.randn(2, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda embedding: euclidean_distance(embedding, b), a)
    same = torch.eye(3, requires_grad=True)
    euclidean_distance(same, same.detach()).diagonal().sum().backward()
    assert torch.equal(same.grad, torch.zeros(3, 3))


def test_rank_puts_ties_in_gallery_order():
    assert rank([[0.3, 0.1, 0.3]]).tolist() == [[1, 0, 2]]
    assert rank(np.zeros((1, 500))).tolist() == [list(range(500))]  # long enough for an unstable sort to show


def test_nan_and_shapes_are_named():
    distance = torch.zeros(5, 3)
    distance[3, 1] = torch.nan
    for ranking in (rank, lambda distance: top_k(distance, 2)):
        with pytest.raises(ValueError, match="NaN for query 3"):
            ranking(distance)
        with pytest.raises(ValueError, match=r"\(query, gallery\).*\(got \(3,\)\)"):
            ranking(torch.zeros(3))
    with pytest.raises(ValueError, match=r"with a gallery \(got \(2, 0\)\)"):
        top_k(torch.zeros(2, 0), 1)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 4), st.integers(1, 30), st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**31))
def test_top_k_is_the_head_of_the_ranking(queries, gallery, k, values, seed):
    generator = torch.Generator().manual_seed(seed)
    distance = torch.randint(values, (queries, gallery), generator=generator).float()
    assert top_k(distance, k).equal(rank(distance)[:, :k])


def test_top_k_in_blocks(monkeypatch):
    distance = torch.randint(4, (7, 10)).float()
    monkeypatch.setattr("cace_pyg.retrieval.two_stage._BLOCK", 25)  # two queries a block, one in the last
    assert top_k(distance, 3).equal(rank(distance)[:, :3])
    distance[5, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN for query 5"):
        top_k(distance, 3)


def test_conditional_distance_compares_directions_and_has_a_gradient_at_zero():
    a, b = torch.tensor([[3.0, 0.0], [0.0, 2.0]], requires_grad=True), torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    distance = conditional_distance(a, b)
    torch.testing.assert_close(distance, torch.tensor([2**0.5, 1e-6]))
    distance.sum().backward()
    assert torch.isfinite(a.grad).all()
