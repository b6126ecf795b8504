"""From a decoded picture to the network's input."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from cace_pyg.torchvision_operators import import_torchvision

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, what published weights expect


@dataclass
class AugmentationSettings:
    """What is done at random to training pictures (§4.2 of the paper)."""

    flip: float = 0.5
    """Probability of mirroring left and right (the paper gives none; 0.5 is usual)."""
    crop_padding: int = 10
    """Pixels of black border on each side, from which a picture-sized window is cut at random; 0: no crop."""
    erasing: float = 0.5
    """Probability of filling a random rectangle with ImageNet's mean colour (the paper: 0.5)."""
    colour_jitter: float = 0.0
    """Largest relative change of brightness, contrast and saturation; 0: none (the paper)."""

    def __post_init__(self) -> None:
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Expected augmentation.{name} as a probability in [0, 1] (got {getattr(self, name)})")
        for name in ("crop_padding", "colour_jitter"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected augmentation.{name} of at least 0 (got {getattr(self, name)})")


def training_transform(settings: AugmentationSettings) -> Callable[[Tensor], Tensor]:
    """uint8 ``(3, height, width)`` to normalised float of the same shape, augmented with torch's random numbers."""
    v2 = import_torchvision("transforms.v2")
    steps = [v2.RandomHorizontalFlip(settings.flip), _RandomWindow(settings.crop_padding)]
    if settings.colour_jitter > 0:
        steps.append(v2.ColorJitter(*[settings.colour_jitter] * 3))
    steps += [evaluation_transform(), v2.RandomErasing(settings.erasing)]
    return v2.Compose(steps)


def evaluation_transform() -> Callable[[Tensor], Tensor]:
    """uint8 ``(3, height, width)`` to float of the same shape, normalised with ImageNet's mean and deviation."""
    v2 = import_torchvision("transforms.v2")
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)])


class _RandomWindow(torch.nn.Module):
    """Pad, then cut a window of the first size (torchvision's RandomCrop, whose size is the picture's own)."""

    def __init__(self, padding: int):
        super().__init__()
        self.padding = padding

    def forward(self, image: Tensor) -> Tensor:
        if self.padding == 0:
            return image
        return import_torchvision("transforms.v2").RandomCrop(image.shape[-2:], self.padding)(image)
