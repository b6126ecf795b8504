"""Devices, precision and ranks of a training, by Lightning Fabric."""

import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.distributed import is_torchelastic_launched

from cace_pyg.config import Config
from cace_pyg.models import CaceNet

_PATIENCE = timedelta(hours=3)  # the other ranks wait while the first validates; torchrun notices a dead rank at once


def launch_fabric(config: Config) -> Fabric:
    """One device, or under ``torchrun`` as many ranks as it started, with DDP between them.

    Gradients are averaged with gloo on CPUs and NCCL on GPUs. Parameters that a phase leaves alone have none.

    Raises:
        ValueError: float16 on a CPU, for which Fabric would take bfloat16 instead.
    """
    fabric = _fabric(config)
    if config.precision == "16-mixed" and fabric.device.type == "cpu":
        raise ValueError("Expected a GPU for --precision 16-mixed (got device cpu); give bf16-mixed or 32-true")
    fabric.launch()
    return fabric


def _fabric(config: Config) -> Fabric:
    ranks, precision = int(os.environ["WORLD_SIZE"]) if is_torchelastic_launched() else 1, config.precision
    if precision == "auto":
        device = Fabric(accelerator=config.device, devices=1).device
        precision = "bf16-mixed" if _multiplies_bfloat16(device) else "32-true"
    if ranks == 1:
        return Fabric(accelerator=config.device, devices=1, precision=precision)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return Fabric(
        accelerator=config.device,
        devices=here,
        num_nodes=ranks // here,
        precision=precision,
        strategy=DDPStrategy(timeout=_PATIENCE, find_unused_parameters=True),
    )


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether in hardware: emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        return any(there is True for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)
    return False


def synchronise_batch_norm(model: CaceNet, device: torch.device) -> CaceNet:
    """The model with torch's ``SyncBatchNorm`` in place of every BatchNorm; its weights keep their names.

    Raises:
        ValueError: ``device`` is a CPU, for which torch has none.
    """
    if device.type == "cpu":
        raise ValueError(
            "Expected GPUs for sync_batchnorm, which torch has not for CPUs (got device cpu); leave it out"
        )
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
