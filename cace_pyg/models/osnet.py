"""OSNet: the small network that most trackers use for re-identification."""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["batch", "instance"]
Placing = Literal["none", "inside", "after"]

_WIDTHS = {  # channels after each stage
    "x1_0": (64, 256, 384, 512),
    "x0_75": (48, 192, 288, 384),
    "x0_5": (32, 128, 192, 256),
    "x0_25": (16, 64, 96, 128),
}
_PLACINGS: dict[str, tuple[Placing, ...]] = {  # position of instance normalisation in the six blocks
    "osnet_": ("none", "none", "none", "none", "none", "none"),
    "osnet_ibn_": ("after", "after", "none", "none", "none", "none"),
    "osnet_ain_": ("inside", "inside", "none", "inside", "inside", "none"),  # found by architecture search
}
OSNETS = tuple(f"{kind}{width}" for kind in _PLACINGS for width in _WIDTHS)


def osnet_layers(name: str) -> torch.nn.Sequential:
    """The convolutional layers of an OSNet, named as in torchreid's files, with random weights.

    OSNet (Zhou et al., ICCV 2019) has residual blocks of four streams with one to four light 3×3 convolutions, so each
    stream sees another scale, and one gate that weights their channels. The ``ibn`` and ``ain`` forms (Zhou et al.,
    TPAMI 2021) normalise some blocks over each image instead of the batch, for cameras that were not seen in training.

    Args:
        name: ``osnet_x1_0``, ``osnet_x0_75``, ``osnet_x0_5``, ``osnet_x0_25``; the same with ``osnet_ibn_`` or
            ``osnet_ain_``.

    Shapes: ``(image, 3, height, width)`` to ``(image, channels, height / 16, width / 16)`` with 512 channels times the
    width of the network.
    """
    kind, _, width = name.rpartition("_x")
    channels, placings = _WIDTHS[f"x{width}"], _PLACINGS[f"{kind}_"]
    searched = kind == "osnet_ain"  # torchreid names its layers differently
    norm: Norm = "batch" if kind == "osnet" else "instance"
    layers = OrderedDict[str, torch.nn.Module]()
    layers["conv1"] = _convolution(3, channels[0], 7, stride=2, norm=norm)
    layers["maxpool"] = torch.nn.MaxPool2d(3, stride=2, padding=1)
    for stage in (1, 2, 3):
        before, after = channels[stage - 1], channels[stage]
        first = _Block(before, after, placings[2 * stage - 2], searched)
        second = _Block(after, after, placings[2 * stage - 1], searched)
        layers[f"conv{stage + 1}"] = blocks = torch.nn.Sequential(first, second)
        if stage < 3:
            pool = torch.nn.Sequential(_convolution(after, after), torch.nn.AvgPool2d(2, stride=2))
            if searched:
                layers[f"pool{stage + 1}"] = pool
            else:
                blocks.append(pool)
    layers["conv5"] = _convolution(channels[3], channels[3])
    network = torch.nn.Sequential(layers)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    return network


class _Block(torch.nn.Module):
    """Omni-scale residual block: four streams of 1 to 4 light convolutions, summed through one gate."""

    def __init__(self, channels_in: int, channels_out: int, placing: Placing, searched: bool):
        super().__init__()
        middle = channels_out // 4
        self.conv1 = _convolution(channels_in, middle)
        streams = [torch.nn.Sequential(*(_LightConvolution(middle) for _ in range(depth))) for depth in (1, 2, 3, 4)]
        if searched:
            self.conv2 = torch.nn.ModuleList(torch.nn.Sequential(OrderedDict(layers=stream)) for stream in streams)
            self.streams = [f"conv2.{number}" for number in range(4)]
        else:
            self.streams = ["conv2a", "conv2b", "conv2c", "conv2d"]
            for stream_name, stream in zip(self.streams, [streams[0][0], *streams[1:]], strict=True):
                self.add_module(stream_name, stream)
        self.gate = _Gate(middle)
        self.conv3 = _convolution(middle, channels_out, norm=None if placing == "inside" else "batch", relu=False)
        self.downsample = None
        if channels_in != channels_out:
            self.downsample = _convolution(channels_in, channels_out, relu=False)
        self.placing = placing
        if placing != "none":
            self.IN = torch.nn.InstanceNorm2d(channels_out, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.conv1(x)
        scales = [self.gate(self.get_submodule(stream)(middle)) for stream in self.streams]
        branch = self.conv3(scales[0] + scales[1] + scales[2] + scales[3])
        if self.placing == "inside":
            branch = self.IN(branch)
        total = branch + (x if self.downsample is None else self.downsample(x))
        return (self.IN(total) if self.placing == "after" else total).relu()


class _LightConvolution(torch.nn.Module):
    """A 3×3 convolution in two: over channels, then over pixels of each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False, groups=channels)
        self.bn = torch.nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv2(self.conv1(x))).relu()


class _Gate(torch.nn.Module):
    """A weight for each channel of each image, 0 to 1, the same function for all four streams."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = torch.nn.Conv2d(channels, channels // 16, 1)
        self.fc2 = torch.nn.Conv2d(channels // 16, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


def _convolution(
    channels_in: int, channels_out: int, size: int = 1, stride: int = 1, norm: Norm | None = "batch", relu: bool = True
) -> torch.nn.Sequential:
    layers = OrderedDict[str, torch.nn.Module]()
    layers["conv"] = torch.nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    if norm == "batch":
        layers["bn"] = torch.nn.BatchNorm2d(channels_out)
    elif norm == "instance":
        layers["bn"] = torch.nn.InstanceNorm2d(channels_out, affine=True)
    if relu:
        layers["relu"] = torch.nn.ReLU(inplace=True)
    return torch.nn.Sequential(layers)
