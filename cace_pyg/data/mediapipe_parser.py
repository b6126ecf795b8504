"""Body parts with MediaPipe's pose and segmentation models.

This file is also a program, for a Python that has MediaPipe 0.10.21 (numpy < 2, protobuf < 5) but not this library; it
only uses the library's file ``read_picture.py``. It reads one JSON object per line, ``{"picture": …, "map": …}``,
writes the label map, and answers with ``{"how": "pose" | "mask" | "box"}`` or ``{"error": …}``.
"""

import functools
import json
import os
import runpy
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

HEAD, TORSO, ARMS, LEGS, FEET = range(1, 6)
COLOURS = (0, 0, 0, 240, 190, 60, 200, 60, 60, 70, 160, 230, 60, 120, 70, 150, 90, 190, 240, 240, 240)

_CANVAS, _PERSON = 640, 512  # pixels: of the grey square that the models see, and of the picture's longer side in it
_GREY = 128
_STRIPES = ((0.16, HEAD), (0.5, TORSO), (0.92, LEGS), (1.0, FEET))  # lower ends, shares of the height
_EARS, _SHOULDERS, _ELBOWS, _WRISTS, _HIPS = (7, 8), (11, 12), (13, 14), (15, 16), (23, 24)
_KNEES, _ANKLES, _HEELS, _TOES = (25, 26), (27, 28), (29, 30), (31, 32)
_NOSE = 0
_SLEEVE = 0.3  # share of the upper arm, from the shoulder, that belongs to the torso
_REACH = 2  # pixels farther than this from the nearest limb, in units of its thickness, are background
_LEAST = 0.02  # share of the picture that a mask must cover; with less it counts as empty


class Seen(NamedTuple):
    """The models' results for a canvas.

    Attributes:
        landmarks: from the pose model, pixels ``(33, 2)``, column and row; None if it finds nobody.
        outline: bool, mask of the person with these landmarks, from the same model; sharper if the pose is right.
        mask: bool, mask of any person, from the segmentation model.
    """

    landmarks: np.ndarray | None
    outline: np.ndarray
    mask: np.ndarray


def body_parts(seen: Seen, box: tuple[int, int, int, int]) -> tuple[np.ndarray, str]:
    """The label map of the picture on a canvas, and how it was made.

    With landmarks, each pixel of the outline gets the part of the nearest limb. If there are no landmarks, or if they
    are upside down or less than half as tall as the picture (the pose model sometimes returns this for crops), the part
    depends on the height: horizontal stripes over the mask, or over the whole picture if the mask is empty.

    Args:
        seen: the models' results.
        box: of the picture on the canvas: left, upper, right, lower.

    Returns:
        uint8 ``(lower - upper, right - left)``, and ``"pose"``, ``"mask"`` or ``"box"``.
    """
    left, upper, right, lower = box
    outline, mask = (whole[upper:lower, left:right] for whole in (seen.outline, seen.mask))
    if seen.landmarks is not None and _is_plausible(seen.landmarks, lower - upper):
        labels = _nearest_part(seen.landmarks - (left, upper), mask.shape) * (outline if _is_there(outline) else mask)
        if _is_there(labels > 0):
            return labels, "pose"
    how, mask = ("mask", mask) if _is_there(mask) else ("box", np.ones_like(mask))
    rows = np.flatnonzero(mask.any(axis=1))
    share = (np.arange(len(mask)) - rows[0] + 0.5) / (rows[-1] + 1 - rows[0])
    stripe = np.array([next((part for end, part in _STRIPES if height <= end), FEET) for height in share])
    return np.where(mask, stripe[:, None], 0).astype(np.uint8), how


def parse_picture(picture: Image.Image, look: Callable[[np.ndarray], Seen]) -> tuple[Image.Image, str]:
    """The label map of a picture in its size, as an indexed image, and how it was made.

    If no pose is found, the mirrored picture is tried: in a third of such crops it has one.

    Args:
        picture: any size.
        look: applies the models to a canvas, uint8 RGB ``(640, 640, 3)``.
    """
    scale = _PERSON / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    left, upper = (_CANVAS - width) // 2, (_CANVAS - height) // 2
    canvas = Image.new("RGB", (_CANVAS, _CANVAS), (_GREY,) * 3)
    canvas.paste(picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC), (left, upper))
    pixels, right, lower = np.asarray(canvas), left + width, upper + height
    labels, how = body_parts(look(pixels), (left, upper, right, lower))
    if how != "pose":
        mirrored = look(np.ascontiguousarray(pixels[:, ::-1]))
        other, other_how = body_parts(mirrored, (_CANVAS - right, upper, _CANVAS - left, lower))
        if other_how == "pose":
            labels, how = np.ascontiguousarray(other[:, ::-1]), other_how
    found = Image.fromarray(labels).resize(picture.size, Image.Resampling.NEAREST)
    found.putpalette(COLOURS)
    return found, how


def _nearest_part(landmarks: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The part of each pixel: that of the nearest limb in reach, with distances in units of the limb's thickness."""
    rows, columns = np.indices(shape)
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=-1)
    best, part = np.full(shape, _REACH), np.zeros(shape, dtype=np.uint8)
    for begin, end, thickness, label in _limbs(landmarks):
        distance = _to_segment(pixels, begin, end) / thickness
        part[distance < best] = label
        best = np.minimum(best, distance)
    return part


def _is_there(mask: np.ndarray) -> bool:
    return mask.mean() >= _LEAST


def _is_plausible(points: np.ndarray, height: int) -> bool:
    """Whether nose, hips and ankles are below each other in this order, over at least half of the crop's height."""
    nose, hips, ankles = (points[list(where), 1].mean() for where in ((_NOSE,), _HIPS, _ANKLES))
    return nose < hips < ankles and ankles - nose >= height / 2


def _limbs(points: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float, int]]:
    """Begin, end, thickness and part of each limb."""
    neck, pelvis = points[list(_SHOULDERS)].mean(axis=0), points[list(_HIPS)].mean(axis=0)
    trunk = max(float(np.linalg.norm(neck - pelvis)), 1.0)
    ears = points[list(_EARS)].mean(axis=0)  # the nose is not the centre of a head in profile
    crown = ears + 0.3 * (neck - pelvis)
    broad = max(0.5 * float(np.linalg.norm(np.diff(points[list(_SHOULDERS)], axis=0))), 0.25 * trunk)
    limbs = [
        (ears + 0.35 * (neck - ears), crown, 0.22 * trunk, HEAD),
        (neck, pelvis + 0.15 * (neck - pelvis), broad, TORSO),
    ]
    for side in (0, 1):
        shoulder, elbow, wrist = (points[pair[side]] for pair in (_SHOULDERS, _ELBOWS, _WRISTS))
        hip, knee, ankle = (points[pair[side]] for pair in (_HIPS, _KNEES, _ANKLES))
        heel, toe = points[_HEELS[side]], points[_TOES[side]]
        limbs += [
            (shoulder + _SLEEVE * (elbow - shoulder), elbow, 0.13 * trunk, ARMS),
            (elbow, wrist + 0.3 * (wrist - elbow), 0.13 * trunk, ARMS),
            (hip, knee, 0.2 * trunk, LEGS),
            (knee, ankle, 0.17 * trunk, LEGS),
            (heel, toe, 0.14 * trunk, FEET),
        ]
    return limbs


def _to_segment(pixels: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The distance of each pixel to a segment."""
    along = end - begin
    length = max(float(along @ along), 1e-9)
    share = np.clip(((pixels - begin) @ along) / length, 0, 1)
    return np.linalg.norm(pixels - begin - share[..., None] * along, axis=-1)


def _models() -> Callable[[np.ndarray], Seen]:
    import mediapipe

    solutions = mediapipe.solutions
    pose = solutions.pose.Pose(static_image_mode=True, min_detection_confidence=0.1, enable_segmentation=True)
    segmentation = solutions.selfie_segmentation.SelfieSegmentation(model_selection=1)

    def look(canvas: np.ndarray) -> Seen:
        found, mask = pose.process(canvas), segmentation.process(canvas).segmentation_mask > 0.5
        if found.pose_landmarks is None:
            return Seen(None, np.zeros_like(mask), mask)
        points = np.array([(point.x, point.y) for point in found.pose_landmarks.landmark]) * _CANVAS
        return Seen(points, found.segmentation_mask > 0.5, mask)

    return look


def answer(task: dict[str, str], look: Callable[[np.ndarray], Seen]) -> dict[str, str]:
    """Read a picture and write its map, completely or not at all; returns this program's answer to the task.

    Raises:
        OSError: the map cannot be written.
    """
    try:
        picture = _read_picture()(task["picture"])
    except (OSError, ValueError) as error:
        return {"error": str(error.__cause__ or error) or type(error.__cause__).__name__}
    found, how = parse_picture(picture, look)
    partial = f"{task['map']}.{os.getpid()}.partial"
    os.makedirs(os.path.dirname(partial), exist_ok=True)
    try:
        found.save(partial, format="PNG")
        os.replace(partial, task["map"])
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    return {"how": how}


@functools.cache
def _read_picture() -> Callable[[str], Image.Image]:
    """The library's own function, loaded from its file: this Python may not have the library."""
    file = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "read_picture.py")
    return runpy.run_path(file)["read_picture"]


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the models' own output must not mix with the answers
    look = _models()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), look)), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
