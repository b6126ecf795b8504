"""A small residual CNN that trains from scratch on a CPU."""

import torch
from torch import Tensor


class SmallCnn(torch.nn.Module):
    """Five stages, 64 to 256 channels, output stride 8: 96×48 pixels give a 12×6 map of 256 channels.

    Shapes: ``(image, 3, height, width)`` to ``(image, 256, height / 8, width / 8)``.
    """

    def __init__(self):
        super().__init__()
        self.stem = _convolution(3, 32, stride=2)
        self.stages = torch.nn.Sequential(
            _convolution(32, 64, stride=2), _Residual(64), _convolution(64, 128, stride=2), _Residual(128),
            _convolution(128, 256), _Residual(256),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(self.stem(images))


class _Residual(torch.nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.branch = torch.nn.Sequential(
            torch.nn.Conv2d(channels, channels // 2, 1, bias=False), torch.nn.BatchNorm2d(channels // 2),
            torch.nn.ReLU(inplace=True),
            torch.nn.Conv2d(channels // 2, channels, 3, padding=1, bias=False), torch.nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.branch(x)).relu()


def _convolution(channels_in: int, channels_out: int, stride: int = 1) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        torch.nn.BatchNorm2d(channels_out),
        torch.nn.ReLU(inplace=True),
    )
