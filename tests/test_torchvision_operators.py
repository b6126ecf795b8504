"""torchvision imports on any build of torch, and nothing is declared where its operators load."""

import importlib
from types import ModuleType

import pytest

from cace_pyg import torchvision_operators
from cace_pyg.torchvision_operators import import_torchvision


def test_models_and_transforms_import():
    assert import_torchvision("models").resnet18
    assert import_torchvision("transforms.v2").RandomErasing


def test_nothing_is_declared_where_torchvision_imports(monkeypatch):
    monkeypatch.setattr(torchvision_operators, "_declared", [])
    monkeypatch.setattr(importlib, "import_module", ModuleType)
    assert import_torchvision().__name__ == "torchvision"
    assert torchvision_operators._declared == []


def test_other_errors_are_not_hidden(monkeypatch):
    def fails(_):
        raise RuntimeError("driver too old")

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(RuntimeError, match="driver too old"):
        import_torchvision()
