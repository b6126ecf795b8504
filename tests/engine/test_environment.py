"""What a result says of where it comes from."""

from pathlib import Path

import pytest
import torch

import cace_pyg
from cace_pyg.engine import environment

PACKAGE = Path(cace_pyg.__file__).parent


def test_torch_says_for_which_hardware_it_was_built(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.11.0+cu130")
    monkeypatch.setattr(environment, "version", lambda name: "2.11.0")  # as the metadata of PyPI's wheel
    found = environment.describe_environment(0, "")
    assert (found["torch"], found["torchvision"]) == ("2.11.0+cu130", "2.11.0")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([f"{PACKAGE}/train.py", "--skip", "semantic alignment"], "-m cace_pyg.train --skip 'semantic alignment'"),
        ([f"{PACKAGE}/data/__main__.py", "synthetic"], "-m cace_pyg.data synthetic"),
        ([f"{PACKAGE}/__main__.py", "train"], "-m cace_pyg train"),
        (["/usr/bin/cace-pyg", "train"], "-m cace_pyg train"),
        (["mine.py", "--fast"], "mine.py --fast"),
    ],
)
def test_the_command_can_be_typed_again(monkeypatch, arguments, command):
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr("sys.executable", "/usr/bin/python")
    assert environment.describe_environment(0, "")["command"] == f"python {command}"
