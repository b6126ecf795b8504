"""Sets up the devices, precision and ranks of a training with Lightning Fabric."""

import logging
import os
import re
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.distributed import is_torchelastic_launched

from cace_pyg.config import Config
from cace_pyg.models import CaceNet

_PATIENCE = timedelta(hours=3)  # other ranks wait while the first validates; torchrun notices a dead rank at once


def launch_fabric(config: Config) -> Fabric:
    """One device, or under ``torchrun`` as many ranks as it started, with DDP between them.

    Gradients are averaged with gloo on CPUs and NCCL on GPUs. Parameters that a phase does not train have none.

    Raises:
        ValueError: the device is unknown, or has a number under ``torchrun``; or float16 on a CPU, where Fabric would
            use bfloat16 instead.
        RuntimeError: this machine has no such device.
    """
    logging.getLogger("lightning_fabric.utilities.rank_zero").addFilter(_is_no_advice)
    fabric = _fabric(config)
    if config.precision == "16-mixed" and fabric.device.type == "cpu":
        raise ValueError("Expected a GPU for --precision 16-mixed (got device cpu); give bf16-mixed or 32-true")
    fabric.launch()
    return fabric


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Hide Fabric's advice about TF32 and precision, which does not help users of our commands."""
    return not record.getMessage().startswith(("Using bfloat16", "Using 16-bit", "You are using a CUDA device"))


def find_device(name: str | torch.device) -> torch.device:
    """The device named ``auto``, ``cpu``, ``cuda``, ``cuda:1`` (the second GPU) or ``mps``.

    Raises:
        ValueError: it is another name.
        RuntimeError: this machine has no such device.
    """
    return _one_device(str(name)).device


def _fabric(config: Config) -> Fabric:
    ranks, precision = int(os.environ["WORLD_SIZE"]) if is_torchelastic_launched() else 1, config.precision
    if precision == "auto":
        precision = "bf16-mixed" if _multiplies_bfloat16(find_device(config.device)) else "32-true"
    if ranks == 1:
        return _one_device(config.device, precision=precision)
    if ":" in config.device:
        raise ValueError(
            f"Expected a device without a number under torchrun, which gives each rank its own (got {config.device}); "
            "give cuda"
        )
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    return Fabric(
        accelerator=config.device,
        devices=here,
        num_nodes=ranks // here,
        precision=precision,
        strategy=DDPStrategy(timeout=_PATIENCE, find_unused_parameters=True),
    )


def _one_device(name: str, **options: Any) -> Fabric:
    found = re.fullmatch(r"(auto|cpu|cuda|gpu|mps|tpu)|cuda:(\d+)", name)
    if found is None:
        raise ValueError(f"Expected device as auto, cpu, cuda, cuda:1 (the second GPU) or mps (got {name!r})")
    number = found[2]
    try:
        return Fabric(accelerator=found[1] or "cuda", devices=1 if number is None else [int(number)], **options)
    except (RuntimeError, ImportError, ValueError, MisconfigurationException) as error:  # there is no such device
        count = torch.cuda.device_count()
        raise RuntimeError(
            f"there is no device {name} on this machine, which has {count} GPUs that torch {torch.__version__} can "
            "use; give --device auto or cpu"
        ) from error


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware: emulated, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        return any(there is True for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)
    return False


def synchronise_batch_norm(model: CaceNet, device: torch.device) -> CaceNet:
    """The model with torch's ``SyncBatchNorm`` in place of every BatchNorm; its weights keep their names.

    Raises:
        ValueError: ``device`` is a CPU, for which torch has no ``SyncBatchNorm``.
    """
    if device.type == "cpu":
        raise ValueError(
            "Expected GPUs for sync_batchnorm, which torch does not have for CPUs (got device cpu); leave it out"
        )
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
