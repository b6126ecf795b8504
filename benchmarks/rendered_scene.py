"""Rendered people who walk through several cameras, leave and come back, frame by frame; no real people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
from PIL import ImageChops, ImageFilter

from cace_pyg.data.rendering.anatomy import draw_pose
from cace_pyg.data.rendering.canvas import Canvas, Placement, darker
from cace_pyg.data.rendering.figure import draw_figure
from cace_pyg.data.rendering.pedestrian import Person, draw_family
from cace_pyg.data.rendering.scene import Camera, draw_background
from cace_pyg.data.synthetic_plan import SyntheticSettings, camera_of

HEIGHT, WIDTH = 112, 336  # pixels of a frame
_BODY = 96  # height in pixels of a box that a body fills as in the pictures of the built-in data
_FACTOR = 3  # supersampling: ImageDraw has no anti-aliasing
_PILLAR = (0.52, 0.66)  # of the width, in front of everybody who crosses
_VISIBLE = 0.4  # minimum visible share of a box for a detector to find a person
_MISSED = 0.04  # share of these boxes that it misses anyway
_JITTER = 0.03  # of a box's size, standard deviation


@dataclass(frozen=True)
class SceneSettings:
    """Settings of a scene; cameras are those of the built-in data, people are different ones."""

    people: int = 24
    """Number of people."""
    family_size: int = 6
    """Number of people who share clothes and build, and differ in details."""
    cameras: int = 4
    """Number of cameras, at different places."""
    visits: int = 4
    """How often each person walks through a camera."""
    visit: int = 24
    """Frames of a walk."""
    length: int = 320
    """Frames of each camera."""
    first_camera: int = 1
    """Number of the first camera in the built-in data, where 1 to 6 are for training."""
    seed: int = 0
    """Of people and paths."""


@dataclass(frozen=True)
class Frame:
    """One moment of one camera.

    Attributes:
        camera: from 0.
        time: number of the frame.
        picture: uint8 ``(height, width, 3)``, RGB.
        people: the visible people, ``(person,)``.
        truth: their boxes x0, y0, x1, y1 in pixels, ``(person, 4)``.
        detections: boxes that a detector found, ``(detection, 4)``.
    """

    camera: int
    time: int
    picture: np.ndarray
    people: np.ndarray
    truth: np.ndarray
    detections: np.ndarray


@dataclass(frozen=True)
class _Visit:
    person: int
    camera: int
    start: int
    frames: int
    across: tuple[float, float]  # of the width
    down: float  # pixels between the feet and the lower edge: nearer people are lower
    nearness: tuple[float, float]  # factors on the size
    yaw: tuple[float, float]  # radians

    def at(self, time: int) -> float:
        return (time - self.start) / (self.frames - 1)


def walk_through(settings: SceneSettings) -> Iterator[Frame]:
    """The frames of all cameras, in time order.

    There is a pillar in front of each camera. A person behind it, or behind another person, is lost for some frames.
    """
    rng = np.random.default_rng((settings.seed, 0))
    families = -(-settings.people // settings.family_size)
    people = [
        person
        for number in range(families)
        for person in draw_family(rng, f"scene-{settings.seed}-{number}", settings.family_size)
    ][: settings.people]
    visits = [visit for person in range(len(people)) for visit in _plan(settings, person, rng)]
    looks = [camera_of(SyntheticSettings(), settings.first_camera + camera) for camera in range(settings.cameras)]
    backgrounds = [_background(look, rng) for look in looks]
    for time in range(settings.length):
        for camera, look in enumerate(looks):
            here = [visit for visit in visits if visit.camera == camera and 0 <= time - visit.start < visit.frames]
            if here:
                stream = np.random.default_rng((settings.seed, 1, camera, time))
                yield _frame(look, backgrounds[camera], people, here, time, stream)


def _plan(settings: SceneSettings, person: int, rng: np.random.Generator) -> list[_Visit]:
    """One visit in each part of the time, so that nobody is in two places at once."""
    part = settings.length // settings.visits
    visits = []
    for number in range(settings.visits):
        start = number * part + int(rng.integers(0, part - settings.visit + 1))
        crosses = rng.random() < 0.6
        to_the_right = rng.random() < 0.5
        heading = (-pi / 2 if to_the_right else pi / 2) if crosses else float(rng.choice([0.0, pi]))
        x = (0.02, 0.98) if crosses else tuple(rng.uniform(0.08, 0.45, 2))
        near = (1.0, 1.0) if crosses else (0.85, 1.05) if heading == 0 else (1.05, 0.85)
        visits.append(
            _Visit(
                person=person,
                camera=int(rng.integers(settings.cameras)),
                start=start,
                frames=settings.visit,
                across=x if to_the_right or not crosses else x[::-1],
                down=float(rng.uniform(2, 14)),
                nearness=near,
                yaw=(heading + float(rng.uniform(-0.6, 0.6)), heading + float(rng.uniform(-0.6, 0.6))),
            )
        )
    return visits


def _background(look: Camera, rng: np.random.Generator) -> Canvas:
    """Panels side by side, each as wide as a picture of the built-in data."""
    canvas, panel = Canvas(WIDTH * _FACTOR, HEIGHT * _FACTOR), HEIGHT * _FACTOR // 2
    for x in range(0, canvas.width, panel):
        part = Canvas(panel, canvas.height)
        draw_background(part, look, rng)
        canvas.image.paste(part.image, (x, 0))
    return canvas


def _frame(
    look: Camera, background: Canvas, people: Sequence[Person], here: list[_Visit], time: int, rng: np.random.Generator
) -> Frame:
    canvas = background.copy()
    ordered = sorted(here, key=lambda visit: -visit.down)  # the farthest first
    boxes = []
    for visit in ordered:
        placement = _place(look, people[visit.person], visit, visit.at(time))
        foot = placement.y + 0.985 * placement.scale
        canvas.ellipse(placement.x, foot, 0.19 * placement.scale, 0.022 * placement.scale, darker(look.floor, 0.6))
        draw_figure(canvas, people[visit.person], draw_pose(rng, people[visit.person]), placement)
        boxes.append(_box(placement))
    left, right = (round(edge * canvas.width) for edge in _PILLAR)
    canvas.rectangle(left, 0, right, canvas.height, darker(look.wall, 0.55))
    truth = np.array(boxes)
    visible = _visible_share(truth) >= _VISIBLE
    persons = np.array([visit.person for visit in ordered])[visible]
    found = truth[visible][rng.random(int(visible.sum())) >= _MISSED]
    size = np.tile(found[:, 2:] - found[:, :2], 2)
    detections = found + rng.normal(0, _JITTER, found.shape) * size
    return Frame(here[0].camera, time, _develop(canvas, look, rng), persons, truth[visible], detections)


def _place(look: Camera, person: Person, visit: _Visit, done: float) -> Placement:
    def between(ends: tuple[float, float]) -> float:
        return ends[0] + done * (ends[1] - ends[0])

    scale = _FACTOR * _BODY * sum(look.scale) / 2 * person.stature * between(visit.nearness)
    foot = _FACTOR * (HEIGHT - visit.down)
    return Placement(between(visit.across) * WIDTH * _FACTOR, foot - scale, scale, between(visit.yaw))


def _box(placement: Placement) -> tuple[float, float, float, float]:
    """A box twice as high as wide, with a margin, in pixels of the frame; clipped to the frame."""
    x, y, body = placement.x / _FACTOR, placement.y / _FACTOR, placement.scale / _FACTOR
    half, middle = 0.58 * body, y + 0.5 * body
    return max(x - half / 2, 0), max(middle - half, 0), min(x + half / 2, WIDTH), min(middle + half, HEIGHT)


def _visible_share(boxes: np.ndarray) -> np.ndarray:
    """The share of each box that neither the pillar nor a nearer body covers; bodies fill two thirds of a box."""
    shares = np.empty(len(boxes))
    hidden = np.zeros((HEIGHT, WIDTH), bool)
    hidden[:, round(_PILLAR[0] * WIDTH) : round(_PILLAR[1] * WIDTH)] = True
    for number in reversed(range(len(boxes))):
        x0, y0, x1, y1 = boxes[number].round().astype(int)
        margin = (x1 - x0) // 6
        shares[number] = 1 - hidden[y0:y1, x0 + margin : x1 - margin].mean() if x1 - x0 > 8 else 0
        hidden[y0:y1, x0 + margin : x1 - margin] = True
    return shares


def _develop(canvas: Canvas, look: Camera, rng: np.random.Generator) -> np.ndarray:
    """Camera effects as in :mod:`cace_pyg.data.rendering.render`, for a whole frame with the same light for all."""
    codes = canvas.image.getchannel("A")
    edges = ImageChops.difference(codes, ImageChops.offset(codes, 1, 1)).point([0] + [95] * 255)
    picture = canvas.image.convert("RGB")
    picture.paste((16, 16, 20), mask=edges)
    picture = picture.reduce(_FACTOR)
    if look.blur > 0.05:
        picture = picture.filter(ImageFilter.GaussianBlur(look.blur))
    light = np.float32(np.mean(look.light) + rng.normal(0, 0.03))
    rgb = np.clip(np.asarray(picture, dtype=np.float32) / 255 * light, 0, 1) ** np.float32(look.gamma)
    grey = rgb.mean(2, keepdims=True)
    rgb = (grey + look.saturation * (rgb - grey)) * np.asarray(look.gains, dtype=np.float32)
    rgb = 0.45 + np.float32(look.contrast) * (rgb - 0.45)
    rgb += rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(look.noise / 255)
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8)
