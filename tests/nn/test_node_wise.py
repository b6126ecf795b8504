import pytest
import torch

from cace_pyg.nn.node_wise import apply_node_wise


def test_each_form():
    x = torch.tensor([-2.0, 0.0, 3.0])
    assert apply_node_wise(x, "identity").tolist() == [-2, 0, 3]
    assert apply_node_wise(x, "relu").tolist() == [0, 0, 3]
    assert apply_node_wise(x, "magnitude").tolist() == [2, 0, 3]
    assert apply_node_wise(x, "square").tolist() == [4, 0, 9]
    with pytest.raises(ValueError, match="got 'cube'"):
        apply_node_wise(x, "cube")
