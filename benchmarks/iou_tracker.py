"""A tracker that only uses overlap, so that joining its tracks can be measured separately."""

from itertools import count

import numpy as np
from scipy.optimize import linear_sum_assignment


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes x0, y0, x1, y1: ``(a, 4)`` and ``(b, 4)`` to ``(a, b)``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    area_a, area_b = ((boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a, b))
    return common / np.maximum(area_a[:, None] + area_b[None] - common, 1e-9)


class IouTracker:
    """For each frame, the assignment with the largest sum of overlaps (Hungarian), each at least ``least``.

    Boxes are predicted with constant velocity.

    Args:
        patience: number of frames that a lost track is kept.
        least: minimum overlap.
    """

    def __init__(self, patience: int = 2, least: float = 0.15):
        self.patience = patience
        self.least = least
        self._tracks: dict[int, tuple[np.ndarray, np.ndarray, int]] = {}  # last box, its step, and frames since
        self._numbers = count()

    def update(self, boxes: np.ndarray) -> np.ndarray:
        """The number of each box of the next frame, ``(box,)``."""
        known = list(self._tracks)
        numbers = np.full(len(boxes), -1)
        if known and len(boxes):
            expected = np.stack([box + step * (age + 1) for box, step, age in self._tracks.values()])
            overlap = overlaps(expected, boxes)
            for row, column in zip(*linear_sum_assignment(-overlap), strict=True):
                if overlap[row, column] >= self.least:
                    numbers[column] = known[row]
        for column in np.flatnonzero(numbers < 0):
            numbers[column] = next(self._numbers)
        before = self._tracks
        self._tracks = {n: (box, step, age + 1) for n, (box, step, age) in before.items() if age < self.patience}
        for number, box in zip(numbers.tolist(), boxes, strict=True):
            self._tracks[number] = box, self._step(before.get(number), box), 0
        return numbers

    @staticmethod
    def _step(before: tuple[np.ndarray, np.ndarray, int] | None, box: np.ndarray) -> np.ndarray:
        """The smoothed step of a box's centre per frame."""
        if before is None:
            return np.zeros(4)
        last, step, age = before
        moved = np.tile((box - last).reshape(2, 2).mean(0) / (age + 1), 2)
        return moved if not step.any() else (step + moved) / 2
