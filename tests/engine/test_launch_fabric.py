"""Which precision ``auto`` is."""

import pytest
import torch

from cace_pyg import Config, DataSettings
from cace_pyg.engine.launch_fabric import launch_fabric


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
