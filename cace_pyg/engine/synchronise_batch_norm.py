"""BatchNorm over the pictures of all ranks."""

import torch

from cace_pyg.models import CaceNet


def synchronise_batch_norm(model: CaceNet, device: torch.device) -> CaceNet:
    """The model with torch's ``SyncBatchNorm`` in place of every BatchNorm; its weights keep their names.

    Raises:
        ValueError: ``device`` is a CPU, for which torch has none.
    """
    if device.type == "cpu":
        raise ValueError(
            "Expected GPUs for train.sync_batchnorm, which torch has not for CPUs (got device cpu); leave it out"
        )
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
