"""What is lent to another device comes home."""

import pytest
import torch

from cace_pyg.engine.moved_to import moved_to


class Recorded(torch.nn.Linear):
    """It stays where it is, and remembers where it should have gone."""

    def __init__(self, home):
        super().__init__(2, 3, device=home)
        self.moves = []

    def to(self, device):
        self.moves.append(torch.device(device).type)


@pytest.mark.parametrize("home", ["cpu", "meta"])
def test_a_module_comes_back_to_the_device_that_it_was_on(home):
    module = Recorded(home)
    with moved_to(module, torch.device("cuda")):
        assert module.moves == ["cuda"]
    assert module.moves == ["cuda", home]


def test_it_comes_back_where_the_block_fails():
    module = Recorded("meta")
    with pytest.raises(KeyError), moved_to(module, "cpu"):
        raise KeyError
    assert module.moves == ["cpu", "meta"]


def test_a_module_without_parameters_is_at_home_on_the_cpu():
    with moved_to(torch.nn.ReLU(), "cpu"):
        pass
