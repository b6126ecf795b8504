"""IBN-a: ResNets in which half of the early channels are normalised over each image instead of the batch."""

import torch
from torch import Tensor

IBN_RESNETS = tuple(f"resnet{depth}_ibn_a" for depth in (18, 34, 50, 101, 152))
_STAGES = ("layer1", "layer2", "layer3")  # not the last, which has the features that distinguish people


class InstanceBatchNorm(torch.nn.Module):
    """Instance normalisation of the first half of the channels, batch normalisation of the others (Pan et al., 2018).

    Normalising each image removes its colour cast and lighting, which differ between cameras. Parameters are named as
    in the files of IBN-Net and fast-reid.

    Args:
        channels: of the map.

    Shapes: ``(image, channels, H, W)`` to the same.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first = channels // 2
        self.IN = torch.nn.InstanceNorm2d(self.first, affine=True)
        self.BN = torch.nn.BatchNorm2d(channels - self.first)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.IN(x[:, : self.first]), self.BN(x[:, self.first :])], dim=1)


def make_ibn_a(resnet: torch.nn.Module) -> None:
    """Change a torchvision ResNet in place: the first normalisation of each block in layers 1 to 3."""
    for stage in _STAGES:
        for block in resnet.get_submodule(stage).children():
            block.bn1 = InstanceBatchNorm(block.get_submodule("bn1").num_features)  # type: ignore[arg-type]
