"""Which device a name means, and which precision ``auto`` is."""

import logging

import pytest
import torch
from lightning_fabric import Fabric

from cace_pyg import Config, DataSettings
from cace_pyg.engine import launch_fabric as module
from cace_pyg.engine.launch_fabric import find_device, launch_fabric


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
        ({"avx512_bf16": False, "avx512_f": True}, "32-true"),
        ({"cpu_name": "bf16"}, "32-true"),
    ],
)
def test_auto_is_bfloat16_where_the_processor_multiplies_it(capabilities, precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    fabric = launch_fabric(Config(DataSettings("crops"), device="cpu", precision="auto"))
    assert fabric.strategy.precision.precision == precision


@pytest.mark.parametrize("name", ["word", "cuda:", "cuda:one", "cuda:-1", "cpu:1", "CUDA"])
def test_names_of_no_device_are_refused(name):
    with pytest.raises(ValueError, match="Expected device as auto, cpu, cuda, cuda:1"):
        find_device(name)


@pytest.mark.parametrize(
    ("name", "accelerator", "devices"), [("cuda:1", "cuda", [1]), ("cuda", "cuda", 1), ("cpu", "cpu", 1)]
)
def test_a_number_picks_the_gpu(name, accelerator, devices, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "Fabric", lambda **options: asked.append(options) or Fabric(accelerator="cpu"))
    find_device(name)
    assert asked == [{"accelerator": accelerator, "devices": devices}]


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(RuntimeError, match="there is no device cuda:97 on this machine.*give --device auto or cpu"):
        find_device("cuda:97")


def test_ranks_have_no_number(monkeypatch):
    monkeypatch.setattr(module, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"without a number under torchrun.*\(got cuda:1\)"):
        launch_fabric(Config(DataSettings("crops"), device="cuda:1"))


def test_fabrics_advice_is_not_shown(monkeypatch):
    said, logger = [], logging.getLogger("lightning_fabric.utilities.rank_zero")
    monkeypatch.setattr(logger, "callHandlers", said.append)
    monkeypatch.setattr(logger, "level", logging.INFO)
    launch_fabric(Config(DataSettings("crops"), device="cpu", precision="bf16-mixed"))
    assert not said
    logger.info("Starting with 2 processes")
    assert len(said) == 1
