"""Statistics of each camera, and features with those of all cameras together."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

Cameras = Sequence[Hashable] | np.ndarray | Tensor
FEWEST = 5  # pictures in all; some more would be better
_OF_A_CAMERA = 500  # pictures, for its statistics
_OVERALL = 10  # pictures with the statistics of all cameras that are added to those of each
_FLOOR = 0.1  # of the mean deviation, added to each, because some channels hardly vary


class CameraStatistics:
    """Mean and standard deviation of each channel, of embeddings and of clues, for each camera.

    A network that never saw a camera gives all its pictures something in common, such as light and background. So
    pictures of one camera are near each other, and those of one person in two cameras are not. Standardised pictures
    have the same statistics in every camera. Labels of people are not needed. This is what camera-based batch
    normalisation (Zhuang et al., 2020) does in every layer of a network; here it is done to the result, so that the
    network stays as it is.

    Of x, a channel of a picture of camera c, standardising makes (x − m_c) · (s + ε) / (s_c + ε) + m. m and s are mean
    and deviation of all pictures, and ε is a tenth of the mean of s over the channels. m is not added to embeddings,
    which are compared by their angle.

    The statistics of a camera of n pictures count n times, those of all pictures ten times, so that a camera of few
    pictures keeps what makes them differ. A camera without any has those of all.

    Args:
        batches: embeddings ``(image, embedding)`` and clues ``(image, n, channel)`` of the pictures of a gallery.
        cameras: the camera of each picture; any labels.

    Raises:
        ValueError: there are fewer than 5 pictures, or not a camera for each.
    """

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]], cameras: Cameras):
        labels = _as_labels(cameras)
        self._numbers = {name: number for number, name in enumerate(dict.fromkeys(labels))}
        camera = torch.tensor([self._numbers[label] for label in labels], dtype=torch.long)
        sums: list[_Sums] = []
        done = 0
        for batch in batches:
            own = camera[done : done + len(batch[0])]
            done += len(batch[0])
            if len(own) < len(batch[0]):
                break
            sums = sums or [_Sums(values.size(-1), len(self._numbers)) for values in batch]
            for kind, values in zip(sums, batch, strict=True):
                kind.add(values, own)
        if done != len(labels):
            more = "more than " if done > len(labels) else ""
            raise ValueError(
                f"Expected a camera for each picture (got {len(labels)} cameras for {more}{done} pictures)"
            )
        if len(labels) < FEWEST:
            raise ValueError(
                f"Expected at least {FEWEST} pictures, for the statistics of their cameras (got {len(labels)}); give a "
                "whole gallery"
            )
        count = camera.bincount(minlength=len(self._numbers))
        self._embedding, self._clues = (_Moments.of(kind, count) for kind in sums)

    @property
    def cameras(self) -> list[Hashable]:
        """The labels of the cameras that it knows."""
        return list(self._numbers)

    def known(self, cameras: Cameras) -> list[Hashable]:
        """The labels, with None for a camera that it does not know."""
        return [label if label in self._numbers else None for label in _as_labels(cameras)]

    def as_dict(self) -> dict[str, Any]:
        """Labels and tensors, for ``torch.save``; :meth:`from_dict` makes the same object of them."""
        return {"cameras": self.cameras, "embedding": vars(self._embedding), "clues": vars(self._clues)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CameraStatistics":
        """What :meth:`as_dict` returned.

        Raises:
            KeyError, TypeError: it is something else.
        """
        made = cls.__new__(cls)
        made._numbers = {name: number for number, name in enumerate(values["cameras"])}
        made._embedding, made._clues = (_Moments(**values[kind]) for kind in ("embedding", "clues"))
        return made

    def embeddings(self, embedding: Tensor, cameras: Cameras) -> Tensor:
        """Standardised embeddings ``(image, embedding)``, scaled to length one.

        A camera that the statistics do not know, or None, counts as an average one.

        Raises:
            ValueError: there is not a camera for each picture, or none is known; or the channels are others.
        """
        moved = self._embedding.moved(embedding, self._camera(embedding, cameras), add_mean=False)
        return normalize(moved, dim=1)

    def clues(self, clues: Tensor, cameras: Cameras) -> Tensor:
        """Standardised clues ``(image, n, channel)``, in their own precision.

        Raises:
            ValueError: see :meth:`embeddings`.
        """
        return self._clues.moved(clues, self._camera(clues, cameras), add_mean=True)

    def _camera(self, images: Tensor, cameras: Cameras) -> Tensor:
        labels = _as_labels(cameras)
        if len(labels) != len(images):
            raise ValueError(f"Expected a camera for each of {len(images)} pictures (got {len(labels)})")
        told = [label for label in labels if label is not None]
        if told and not any(label in self._numbers for label in told):
            raise ValueError(
                f"Expected cameras that the statistics know, such as {next(iter(self._numbers))!r} (got {told[0]!r} "
                "and none that they know); give labels of one kind, or None for an unknown camera"
            )
        return torch.tensor([self._numbers.get(label, -1) for label in labels])


def evenly(cameras: Cameras) -> list[list[int]]:
    """Positions of at most 500 pictures of each camera, evenly spread: enough for its statistics."""
    of_camera: dict[Hashable, list[int]] = {}
    for position, label in enumerate(_as_labels(cameras)):
        of_camera.setdefault(label, []).append(position)
    return [own[:: -(-len(own) // _OF_A_CAMERA)] for own in of_camera.values()]


class _Sums:
    """Sums over the pictures of each camera, of the mean and the mean square of a picture's values."""

    def __init__(self, channels: int, cameras: int):
        self.first, self.second = torch.zeros(2, cameras, channels, dtype=torch.float64)

    def add(self, values: Tensor, camera: Tensor) -> None:
        """Add pictures, ``(image, channel)`` or ``(image, n, channel)``."""
        values = values.float()
        positions = tuple(range(1, values.dim() - 1))
        for sums, power in ((self.first, values), (self.second, values.square())):
            sums.index_add_(0, camera, (power.mean(positions) if positions else power).double().cpu())


@dataclass
class _Moments:
    """Mean and scale of each camera, ``(camera + 1, channel)``; the last row is for pictures of other cameras."""

    mean: Tensor  # of all pictures
    of_cameras: Tensor
    scale: Tensor

    @classmethod
    def of(cls, sums: _Sums, count: Tensor) -> "_Moments":
        every, pictures = count.sum(), count.unsqueeze(1)
        mean, square = sums.first.sum(0) / every, sums.second.sum(0) / every
        variance = square - mean.square()
        of_cameras = sums.first / pictures
        variances = sums.second / pictures - of_cameras.square()
        weight = pictures / (pictures + _OVERALL)
        of_cameras = torch.cat([weight * of_cameras + (1 - weight) * mean, mean[None]])
        variances = torch.cat([weight * variances + (1 - weight) * variance, variance[None]])
        deviation, deviations = variance.clamp(min=0).sqrt(), variances.clamp(min=0).sqrt()
        floor = _FLOOR * deviation.mean()
        scale = ((deviation + floor) / (deviations + floor)).nan_to_num(1)  # 0 / 0: no values differ
        return cls(mean.float(), of_cameras.float(), scale.float())

    def moved(self, values: Tensor, camera: Tensor, add_mean: bool) -> Tensor:
        """``(image, …, channel)`` with the statistics of all cameras."""
        if values.size(-1) != len(self.mean):
            raise ValueError(
                f"Expected {len(self.mean)} channels, as in the pictures of the statistics (got {values.size(-1)}); "
                "use features of one network"
            )
        between = (1,) * (values.dim() - 2)
        own, scale = (
            rows[camera].unflatten(0, (len(camera), *between)).to(values.device)
            for rows in (self.of_cameras, self.scale)
        )
        moved = (values.float() - own) * scale
        return (moved + self.mean.to(values.device) if add_mean else moved).to(values.dtype)


def _as_labels(cameras: Cameras) -> list[Hashable]:
    """The labels as a list, whose numbers are Python's.

    Raises:
        ValueError: it is not a list, or an array with one dimension.
    """
    if isinstance(cameras, np.ndarray | Tensor) and cameras.ndim == 1:
        return cameras.tolist()
    if isinstance(cameras, str) or not isinstance(cameras, Sequence):
        raise ValueError(f"Expected a list of cameras, or an array with one dimension (got {type(cameras).__name__})")
    return [label.item() if isinstance(label, np.generic | Tensor) else label for label in cameras]
