"""All products of a batch against one pair at a time."""

import pytest
import torch

from cace_pyg.graph.gram import upper_gram


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("images", [1, 2, 4])
def test_values_and_gradients_are_those_of_single_products(images, weighted):
    x = torch.randn(images, 3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64, requires_grad=True)
    diagonal = weight.diag() if weighted else torch.eye(5, dtype=torch.float64)
    inputs = [x, weight] if weighted else [x]
    expected = torch.stack([x[a] @ diagonal @ x[b].T for a in range(images) for b in range(a, images)])
    probe = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * probe).sum(), inputs)
    got = upper_gram(*inputs)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad((got * probe).sum(), inputs), wanted)


def test_gradients_agree_with_finite_differences():
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(upper_gram, (x,))
    assert torch.autograd.gradcheck(upper_gram, (x, weight))


def test_clues_in_any_memory_layout():
    x = torch.randn(3, 4, 2).mT  # as the feature maps of a network come
    torch.testing.assert_close(upper_gram(x), upper_gram(x.contiguous()))
