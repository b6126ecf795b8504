"""Collects the numbered boxes of a tracker into finished tracks with pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from cace_pyg.trackers.track import Track

ChannelOrder = Literal["bgr", "rgb"]


def crop_boxes(frame: np.ndarray, boxes: ArrayLike, channel_order: ChannelOrder = "bgr") -> list[np.ndarray | None]:
    """The content of each box as an RGB picture; None for a box outside the frame.

    Corners are rounded to pixels, and boxes are clipped to the frame.

    Args:
        frame: uint8 ``(height, width, 3)``.
        boxes: x0, y0, x1, y1 in pixels, ``(box, 4)``; of a supervision ``Detections``, its ``xyxy``.
        channel_order: of the frame; OpenCV and most trackers use ``bgr``.

    Raises:
        ValueError: the frame or boxes have another shape or type, or a corner is not finite.
    """
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise ValueError(f"Expected a frame as a uint8 array (height, width, 3) (got {got})")
    if channel_order not in ("bgr", "rgb"):
        raise ValueError(f"Expected the channel order 'bgr' or 'rgb' (got {channel_order!r})")
    corners = np.asarray(boxes, dtype=float)
    corners = corners.reshape(-1, 4) if not corners.size else corners
    if corners.ndim != 2 or corners.shape[1] != 4 or not np.isfinite(corners).all():
        raise ValueError(
            f"Expected boxes x0, y0, x1, y1 of finite numbers, (box, 4) (got shape {corners.shape}, or NaN); for "
            "rotated boxes, give their bounding boxes"
        )
    height, width = frame.shape[:2]
    edges = np.clip(corners.round(), 0, (width, height, width, height)).astype(int)
    upright = frame if channel_order == "rgb" else frame[..., ::-1]
    crops = [upright[y0:y1, x0:x1] for x0, y0, x1, y1 in edges]
    return [np.ascontiguousarray(crop) if crop.size else None for crop in crops]


@dataclass
class _Open:
    """An unfinished track: the clearest view of every ``stride`` frames."""

    start: float
    end: float = 0.0
    last_update: int = 0
    frames: int = 0
    stride: int = 1
    views: list[tuple[float, np.ndarray]] = field(default_factory=list)

    def add(self, clear: float, crop: np.ndarray, most: int) -> None:
        if self.frames % self.stride == 0:
            self.views.append((clear, crop))
        elif clear > self.views[-1][0]:
            self.views[-1] = clear, crop
        self.frames += 1
        if len(self.views) > most:  # keep the clearer of every two neighbours
            pairs = [self.views[at : at + 2] for at in range(0, len(self.views), 2)]
            self.views = [max(pair, key=lambda view: view[0]) for pair in pairs]
            self.stride *= 2


class TrackCollector:
    """Gathers one camera's numbered boxes into finished tracks for :class:`PersonMemory`.

    Some views of each track are kept, spread over its time; from each period, the one that other boxes cover least. So
    a track takes the same memory however long it is.

    Args:
        camera: any word.
        patience: number of frames without a box after which a track is finished; use the number of frames that the
            tracker keeps lost tracks.
        shortest: minimum number of frames of a track; shorter ones are dropped, because most are false detections.
        views: maximum number of each track.
        channel_order: of the frames; OpenCV uses ``bgr``.
    """

    def __init__(
        self,
        camera: str = "",
        patience: int = 30,
        shortest: int = 3,
        views: int = 12,
        channel_order: ChannelOrder = "bgr",
    ):
        if min(patience, shortest) < 1 or views < 2:
            raise ValueError(
                f"Expected patience and shortest of at least 1, and views of at least 2 (got {patience}, {shortest} "
                f"and {views})"
            )
        self.camera = camera
        self.patience = patience
        self.shortest = shortest
        self.views = views
        self.channel_order = channel_order
        self._open: dict[int, _Open] = {}
        self._updates = 0
        self._time = -math.inf

    def update(self, frame: np.ndarray, detections: Any, time: float) -> list[Track]:
        """Add one frame; returns the tracks that are now finished.

        Args:
            frame: uint8 ``(height, width, 3)``.
            detections: anything with ``xyxy``, ``(box, 4)``, and ``tracker_id``, ``(box,)``, such as the ``Detections``
                of supervision after its tracker; numbers below 0 are unconfirmed and are left out.
            time: of the frame, in the unit of :class:`Track`, by one clock for all cameras.

        Raises:
            ValueError: boxes have no numbers, or the time is before that of the last frame; see also
                :func:`crop_boxes`.
        """
        if not time >= self._time:
            raise ValueError(f"Expected frames in time order (got {time} after {self._time})")
        boxes = np.asarray(detections.xyxy, dtype=float)
        numbers = detections.tracker_id
        if numbers is None and len(boxes):
            raise ValueError(
                "Expected detections with a tracker_id (got none): let a tracker number them first, or call "
                "crop_boxes(frame, detections.xyxy) to get only their pictures"
            )
        crops = crop_boxes(frame, boxes, self.channel_order)
        self._time = time
        for number, crop, clear in zip([] if numbers is None else numbers, crops, _clear(boxes), strict=True):
            if crop is not None and number >= 0:
                track = self._open.setdefault(int(number), _Open(start=time))
                track.add(clear, crop, self.views)
                track.end, track.last_update = time, self._updates
        self._updates += 1
        return self._close([n for n, track in self._open.items() if self._updates - track.last_update > self.patience])

    def finish(self) -> list[Track]:
        """All tracks that are still open, at the end of a video."""
        return self._close(list(self._open))

    def _close(self, numbers: Sequence[int]) -> list[Track]:
        closed = [(number, self._open.pop(number)) for number in numbers]
        return [
            Track([crop for _, crop in track.views], self.camera, track.start, track.end, number)
            for number, track in closed
            if track.frames >= self.shortest
        ]


def _clear(boxes: np.ndarray) -> list[float]:
    """Visible share of each box: what is left uncovered by the other box that covers most of it."""
    if len(boxes) < 2:
        return [1.0] * len(boxes)
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(2)
    np.fill_diagonal(common, 0)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 1e-9, None).prod(1)
    return (1 - common.max(1) / area).tolist()
