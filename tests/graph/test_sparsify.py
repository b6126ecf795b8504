"""Cutting weak edges, and the gradients of what is left."""

import pytest
import torch

from cace_pyg.graph.sparsify import sparsify, strongest
from cace_pyg.nn import DenseDiscrepancyConv

WEIGHTS = torch.tensor([[[0.0, 0.5, 0.2], [0.5, 0.1, 0.9], [0.2, 0.9, 0.0]]], dtype=torch.float64)


def test_threshold_and_strongest_edges():
    expected = torch.tensor([[[0, 0.5, 0], [0.5, 0, 0.9], [0, 0.9, 0]]], dtype=torch.float64)
    torch.testing.assert_close(sparsify(WEIGHTS, threshold=0.2), expected)
    torch.testing.assert_close(sparsify(WEIGHTS, top_edges=1), expected)
    assert sparsify(WEIGHTS) is WEIGHTS
    assert torch.equal(sparsify(WEIGHTS, top_edges=3), WEIGHTS)


def test_strongest_of_row_or_column():
    scores = torch.tensor([[9.0, 8.0, 1.0], [2.0, 7.0, 3.0]])
    assert strongest(scores, 1).tolist() == [[True, True, False], [False, True, True]]
    assert torch.equal(strongest(scores, 1).mT, strongest(scores.mT, 1))
    assert strongest(scores, 5).all()


@pytest.mark.parametrize("cut", [{}, {"threshold": 0.15}, {"top_edges": 1}, {"threshold": 0.3, "top_edges": 2}])
def test_gradients_through_the_surviving_edges(cut):
    weights = WEIGHTS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: sparsify(scores, **cut), (weights,))
    kept = sparsify(weights, **cut)
    (gradient,) = torch.autograd.grad(kept.sum(), weights)
    assert torch.equal(gradient, (kept != 0).double() if cut else torch.ones_like(kept))


@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
@pytest.mark.parametrize("cut", [{"threshold": 0.15}, {"top_edges": 1}, {"threshold": 10.0}])
def test_no_nan_through_the_convolution_where_edges_and_nodes_were_cut_off(mode, cut):
    """The last cut isolates every node; gradients are compared with finite differences."""
    convolution = DenseDiscrepancyConv(4, 2, mode).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)

    def symmetric(upper):
        return sparsify((upper + upper.mT).relu(), **cut)

    upper = (WEIGHTS / 2).clone()
    upper[upper == 0] = -1.0  # entries that the ReLU cuts, so that finite differences see no kink
    upper.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, upper: convolution(x, symmetric(upper)), (x, upper))
