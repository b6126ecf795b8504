"""What a result says of where it comes from."""

import torch

from cace_pyg.engine import environment


def test_torch_says_for_which_hardware_it_was_built(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    monkeypatch.setattr(environment, "version", lambda name: "2.11.0")  # as the metadata of PyPI's wheel
    found = environment.describe_environment(0, "")
    assert (found["torch"], found["torchvision"]) == ("2.11.0+cu130", "2.11.0")
