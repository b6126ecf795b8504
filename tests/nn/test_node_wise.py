from typing import get_args

import pytest
import torch

from cace_pyg.nn.node_wise import NodeWise, NodeWiseForm


def test_each_form():
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert NodeWise("identity")(x).tolist() == [-2, 0, 3]
    assert NodeWise("relu")(x).tolist() == [0, 0, 3]
    assert NodeWise("magnitude")(x).tolist() == [2, 0, 3]
    assert NodeWise("square")(x).tolist() == [4, 0, 9]
    with pytest.raises(ValueError, match="'mlp' .got 'cube'"):
        NodeWise("cube")


def test_the_mlp_sees_magnitude_and_sign_of_all_channels():
    mlp = NodeWise("mlp", 3).double()
    first, _, last = mlp.layers
    for name, values in {"weight": torch.eye(3, 6), "bias": torch.zeros(3)}.items():
        getattr(first, name).data = values.double()
    first.weight.data[2] = torch.tensor([0, 0, 0, 1, 0, 0])  # x₀ itself
    last.weight.data, last.bias.data = torch.ones(3, 3).double(), torch.zeros(3).double()
    out = mlp(torch.tensor([[-2.0, 5.0, 7.0], [2.0, -5.0, 7.0]], dtype=torch.float64))
    assert out.tolist() == [[7.0] * 3, [9.0] * 3]


@pytest.mark.parametrize("form", get_args(NodeWiseForm))
def test_the_mean_is_that_of_all_nodes(form):
    node_wise, x = NodeWise(form, 3).double(), torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    found, expected = node_wise.mean(x), node_wise(x).mean(-2)
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(node_wise.mean(x), expected)
    gradients = [
        torch.autograd.grad(result.square().sum(), [x, *node_wise.parameters()]) for result in (found, expected)
    ]
    torch.testing.assert_close(*gradients)
