"""Turns decoded pictures into the network's input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cace_pyg.torchvision_operators import import_torchvision

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as published weights expect


@dataclass
class AugmentationSettings:
    """Random augmentation of training pictures (§4.2 of the paper)."""

    flip: float = 0.5
    """Probability of mirroring left and right (the paper gives none; 0.5 is usual)."""
    crop_padding: int = 10
    """Pixels of black border on each side, before a random crop to the picture's size; 0: no crop."""
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


class Transform(Protocol):
    """Maps uint8 ``(3, height, width)`` to the network's input; with a label map ``(height, width)``, returns both."""

    @overload
    def __call__(self, image: Tensor, /) -> Tensor: ...

    @overload
    def __call__(self, image: Tensor, part_map: Tensor, /) -> tuple[Tensor, Tensor]: ...


def to_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A decoded RGB picture, resized bilinearly to (height, width), as uint8 ``(3, height, width)``."""
    resized = picture.resize(size[::-1], Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).contiguous()


def training_transform(settings: AugmentationSettings) -> Transform:
    """uint8 ``(3, height, width)`` to normalised float of the same shape, augmented with torch's random numbers.

    With a label map ``(height, width)`` it returns both; the map is flipped and cropped like the picture, with
    background for the border, and is not changed by colour jitter and erasing.
    """
    v2 = import_torchvision("transforms.v2")
    places = [v2.RandomHorizontalFlip(settings.flip), _RandomWindow(settings.crop_padding)]
    colours = [v2.ColorJitter(*[settings.colour_jitter] * 3)] if settings.colour_jitter > 0 else []
    return _Transform(places if settings.crop_padding else places[:1], colours, [v2.RandomErasing(settings.erasing)])


def evaluation_transform() -> Transform:
    """uint8 ``(3, height, width)`` to float of the same shape, normalised with ImageNet's mean and deviation.

    Given a label map too, it returns both.
    """
    return _Transform()


def _normalised(image: Tensor) -> Tensor:
    """With torchvision's functions: calling its modules takes longer than computing the numbers."""
    functional = import_torchvision("transforms.v2.functional")
    return functional.normalize(functional.to_dtype(image, torch.float32, scale=True), IMAGENET_MEAN, IMAGENET_STD)


class _Transform(torch.nn.Module):
    """Geometric transforms of picture and label map; then, of the picture only, colours, normalisation and erasing."""

    def __init__(
        self,
        places: Sequence[torch.nn.Module] = (),
        colours: Sequence[torch.nn.Module] = (),
        erasing: Sequence[torch.nn.Module] = (),
    ):
        super().__init__()
        self.places, self.colours, self.erasing = tuple(places), tuple(colours), tuple(erasing)

    def forward(self, image: Tensor, part_map: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        if part_map is None:
            return self._values(_in_turn(self.places, image))
        image, mask = _in_turn(self.places, (image, import_torchvision("tv_tensors").Mask(part_map)))
        return self._values(image), mask.as_subclass(Tensor)

    def _values(self, image: Tensor) -> Tensor:
        return _in_turn(self.erasing, _normalised(_in_turn(self.colours, image)))


def _in_turn(transforms: Sequence[torch.nn.Module], given: Any) -> Any:
    for transform in transforms:
        given = transform(given)
    return given


class _RandomWindow(torch.nn.Module):
    """Pad, then crop to the original size (torchvision's RandomCrop with the picture's own size)."""

    def __init__(self, padding: int):
        super().__init__()
        self.padding = padding
        self._crops: dict[torch.Size, torch.nn.Module] = {}  # making one takes longer than cropping

    def forward(self, given: Any) -> Any:
        """A picture, or a picture and its label map."""
        size = (given[0] if isinstance(given, tuple) else given).shape[-2:]
        if size not in self._crops:
            self._crops[size] = import_torchvision("transforms.v2").RandomCrop(size, self.padding)
        return self._crops[size](given)
