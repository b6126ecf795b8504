"""The distance from aligned clues against a loop."""

import pytest
import torch

from cace_pyg.nn import aligned_distance


def unit(pairs, n):
    return torch.nn.functional.normalize(torch.randn(pairs, n, 5, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("pairs", [1, 3])
def test_is_the_root_mean_square_distance_of_aligned_clues(pairs):
    a, b = unit(pairs, 4), unit(pairs, 4)
    inter = torch.rand(pairs, 4, 4, dtype=torch.float64) * (torch.rand(pairs, 4, 4) < 0.6)
    inter[:, 0, 0] = 0.5
    for pair in range(pairs):
        weighed = sum(inter[pair, i, j] * (a[pair, i] - b[pair, j]).square().sum() for i in range(4) for j in range(4))
        expected = (weighed / inter[pair].sum()).sqrt()
        torch.testing.assert_close(aligned_distance(a, b, inter)[pair], expected)


def test_one_image_a_stands_for_all_pairs():
    a, b, inter = unit(1, 4), unit(3, 4), torch.rand(3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(aligned_distance(a, b, inter), aligned_distance(a.expand(3, -1, -1), b, inter))


def test_no_edge_means_unrelated_and_gradients_stay_finite():
    a, b = unit(2, 4), unit(2, 4)
    nothing = torch.zeros(2, 4, 4, dtype=torch.float64, requires_grad=True)
    distance = aligned_distance(a, b, nothing)
    torch.testing.assert_close(distance, torch.full_like(distance, 2**0.5))
    same = torch.eye(4, dtype=torch.float64).expand(2, -1, -1).clone().requires_grad_()
    itself = aligned_distance(a.requires_grad_(), a, same)
    torch.testing.assert_close(itself, torch.zeros_like(itself))
    for gradient in torch.autograd.grad(distance.sum() + itself.sum(), [nothing, same, a]):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("where", [0, 1, 2])
def test_nan_gives_a_distance_of_nan_and_not_of_zero(where):
    given = [unit(2, 4), unit(2, 4), torch.rand(2, 4, 4, dtype=torch.float64)]
    given[where][1, 2, 3] = torch.nan
    assert aligned_distance(*given).isnan().tolist() == [False, True]
