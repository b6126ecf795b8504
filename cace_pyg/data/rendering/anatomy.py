"""The proportions of a body, and the poses of walking, in body coordinates (see `canvas.Placement`)."""

from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np

from cace_pyg.data.rendering.canvas import Point, Row
from cace_pyg.data.rendering.pedestrian import BUILDS, Person

# Depths, in body heights towards the camera: legs lie below the top, the head above it. Arms, bags and loads
# have their true depth, which is above these values on the near side and below them on the far side.
LEG_DEPTH, SKIRT_DEPTH, TOP_DEPTH, HEAD_DEPTH = -0.1, -0.05, 0.0, 0.02

_TORSO: tuple[Row, ...] = (
    (0.160, 0.046, 0.042), (0.182, 0.100, 0.058), (0.212, 0.124, 0.074), (0.300, 0.114, 0.080),
    (0.400, 0.098, 0.072), (0.460, 0.104, 0.076), (0.520, 0.114, 0.080),
)  # fmt: skip
HEAD_CENTRE, HEAD_HALF = 0.080, (0.056, 0.080, 0.064)  # crown at y = 0, chin at 0.16
_HIP, _SHOULDER = 0.49, 0.212  # heights of the joints
_THIGH, _SHIN, _UPPER_ARM, _FOREARM = 0.225, 0.225, 0.150, 0.135


@dataclass(frozen=True)
class Pose:
    """Joints in body coordinates; index 0 is the person's left limb, 1 the right one."""

    legs: tuple[tuple[Point, Point, Point], ...]  # hip, knee, ankle
    arms: tuple[tuple[Point, Point, Point], ...]  # shoulder, elbow, wrist


def draw_pose(rng: np.random.Generator, person: Person) -> Pose:
    """A moment of this person's walk; in one picture of five they stand still. Loads fix the arms."""
    phase = rng.uniform(0, 2 * pi)
    stride = 0.06 if rng.random() < 0.2 else rng.uniform(0.25, 0.5)
    girth = BUILDS[person.build]
    legs = tuple(_leg(side, side * stride * sin(phase), girth) for side in (1, -1))
    arms = tuple(_arm(side, *_arm_angles(person, side, -side * stride * sin(phase)), girth) for side in (1, -1))
    return Pose(legs, arms)


def torso_rows(top: float, bottom: float, girth: float, puff: float = 1.0) -> list[Row]:
    """The trunk between two heights, as rows for `Sketch.wrap`; `puff` widens it."""
    heights = [top, *(y for y, _, _ in _TORSO if top < y < bottom), bottom]
    ys, sideways, forward = zip(*_TORSO, strict=True)
    factor = girth * puff
    return [(y, _between(y, ys, sideways) * factor, _between(y, ys, forward) * factor) for y in heights]


def head_rows(top: float, bottom: float, puff: float = 1.0) -> list[Row]:
    """The head between two heights (the crown is 0), as rows for `Sketch.wrap`."""
    a, h, b = (size * puff for size in HEAD_HALF)
    rows = []
    for i in range(6):
        y = top + (bottom - top) * i / 5
        narrow = sqrt(max(1 - ((y - HEAD_CENTRE) / h) ** 2, 0.02))
        rows.append((y, a * narrow, b * narrow))
    return rows


def along(start: Point, end: Point, part: float) -> Point:
    """The point at the fraction `part` of the way from `start` to `end`; above 1 it is beyond the end."""
    (x0, y0, z0), (x1, y1, z1) = start, end
    return x0 + part * (x1 - x0), y0 + part * (y1 - y0), z0 + part * (z1 - z0)


def _between(y: float, ys: tuple[float, ...], values: tuple[float, ...]) -> float:
    for i in range(len(ys) - 1):
        if y <= ys[i + 1]:
            part = max(y - ys[i], 0.0) / (ys[i + 1] - ys[i])
            return values[i] + part * (values[i + 1] - values[i])
    return values[-1]


def _swing(start: Point, length: float, angle: float, outward: float = 0.0) -> Point:
    return start[0] + outward, start[1] + length * cos(angle), start[2] + length * sin(angle)


def _leg(side: int, angle: float, girth: float) -> tuple[Point, Point, Point]:
    hip = (side * 0.050 * girth, _HIP, 0.0)
    knee = _swing(hip, _THIGH, angle)
    bend = 0.05 + (0.8 * -angle if angle < 0 else 0.0)  # the leg behind bends its knee
    return hip, knee, _swing(knee, _SHIN, angle - bend)


def _arm_angles(person: Person, side: int, angle: float) -> tuple[float, float]:
    """Angles of upper arm and forearm from straight down, forward positive."""
    holds = person.load if person.load_side == ("left" if side > 0 else "right") else None
    if person.load == "box":
        return 0.45, 1.35
    if holds == "phone":
        return 0.55, 2.3
    if holds == "umbrella":
        return 0.35, 2.0
    if holds == "suitcase":
        return -0.35, -0.25
    return angle, angle + 0.3


def _arm(side: int, upper: float, lower: float, girth: float) -> tuple[Point, Point, Point]:
    shoulder = (side * 0.116 * girth, _SHOULDER + 0.018, 0.0)
    elbow = _swing(shoulder, _UPPER_ARM, upper, side * 0.024)
    return shoulder, elbow, _swing(elbow, _FOREARM, lower, -side * 0.004)
