"""The scene of a rendered person: cameras with their own looks, backgrounds, and occluders."""

from dataclasses import dataclass

import numpy as np

from cace_pyg.data.rendering.canvas import Canvas, Colour, darker
from cace_pyg.data.rendering.pedestrian import COLOURS, pick

BACKDROPS = ("bricks", "windows", "shopfront", "trees", "columns", "fence")
GROUNDS = ("slabs", "zebra", "plain", "grass")
OCCLUDERS = ("pole", "car", "bush", "railing", "bin")


@dataclass(frozen=True)
class Camera:
    """The common properties of all pictures of one camera."""

    gains: tuple[float, float, float]  # of red, green and blue
    gamma: float
    contrast: float
    saturation: float
    light: tuple[float, float]  # range of brightness factors over the day
    shading: float  # how much brighter the right side of a body is than its left one; −0.3 … 0.3
    noise: float  # standard deviation, grey levels
    blur: float  # radius in pixels at a height of 96
    scale: tuple[float, float]  # range of a body's height as a part of the picture's
    backdrop: str
    ground: str
    wall: Colour
    floor: Colour
    horizon: float  # where the ground starts, as a part of the picture's height


def draw_camera(rng: np.random.Generator, index: int) -> Camera:
    """A random camera; `index` only ensures that neighbours have different backdrops."""
    light = float(rng.uniform(0.7, 0.9))
    grey = int(rng.integers(90, 185))
    red, green, blue = (float(gain) for gain in rng.uniform(0.84, 1.16, 3))
    return Camera(
        gains=(red, green, blue),
        gamma=float(rng.uniform(0.75, 1.2)),
        contrast=float(rng.uniform(0.75, 1.2)),
        saturation=float(rng.uniform(0.5, 0.95)),
        light=(light, light + 0.3),
        shading=float(rng.uniform(-0.3, 0.3)),
        noise=float(rng.uniform(2.0, 7.0)),
        blur=float(rng.uniform(0.0, 0.55)),
        scale=(float(rng.uniform(0.78, 0.84)), float(rng.uniform(0.86, 0.93))),
        backdrop=BACKDROPS[index % len(BACKDROPS)],
        ground=GROUNDS[index % len(GROUNDS)],
        wall=_tint(rng, grey),
        floor=_tint(rng, int(rng.integers(80, 165))),
        horizon=float(rng.uniform(0.45, 0.78)),
    )


def draw_background(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> None:
    """Paint the whole canvas: the backdrop, the ground, and patches of clutter."""
    w, h = canvas.width, canvas.height
    horizon = h * (camera.horizon + float(rng.uniform(-0.05, 0.05)))
    canvas.rectangle(0, 0, w, h, camera.wall)
    _draw_backdrop(canvas, camera, horizon, rng)
    canvas.rectangle(0, horizon, w, h, camera.floor)
    _draw_ground(canvas, camera, horizon, rng)
    for _ in range(int(rng.integers(0, 4))):
        _draw_clutter(canvas, horizon, rng)


def draw_occluder(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint something that hides part of the person, from below or from one side. It counts as background."""
    w, h = canvas.width, canvas.height
    kind = pick(rng, OCCLUDERS)
    if kind == "pole":
        x, thick = w * float(rng.uniform(0.22, 0.78)), w * float(rng.uniform(0.05, 0.12))
        canvas.rectangle(x - thick, 0, x + thick, h, _tint(rng, int(rng.integers(60, 170))))
        canvas.rectangle(x - thick, 0, x - thick * 0.4, h, (60, 60, 64))
    elif kind == "car":
        _draw_car(canvas, rng)
    elif kind == "bush":
        low = rng.random() < 0.6
        side = -1 if rng.random() < 0.5 else 1
        for _ in range(14):
            x = w * float(rng.uniform(0, 1)) if low else w * (0.5 + side * float(rng.uniform(0.2, 0.55)))
            y = h * float(rng.uniform(0.74, 1.0) if low else rng.uniform(0.35, 1.0))
            shade = int(rng.integers(60, 120))
            canvas.ellipse(x, y, w * 0.15, h * 0.06, (shade // 2, shade, shade // 3))
    elif kind == "railing":
        _draw_railing(canvas, rng)
    else:
        x, top = w * float(rng.uniform(0.05, 0.95)), h * float(rng.uniform(0.55, 0.75))
        colour = _tint(rng, int(rng.integers(50, 130)))
        canvas.rectangle(x - w * 0.22, top, x + w * 0.22, h, colour)
        canvas.rectangle(x - w * 0.25, top, x + w * 0.25, top + h * 0.03, darker(colour, 0.7))


def _tint(rng: np.random.Generator, grey: int) -> Colour:
    red, green, blue = (int(np.clip(grey + shift, 0, 255)) for shift in rng.integers(-22, 23, 3))
    return red, green, blue


def _draw_backdrop(canvas: Canvas, camera: Camera, horizon: float, rng: np.random.Generator) -> None:
    w, h, wall = canvas.width, canvas.height, camera.wall
    dark, shift = darker(wall, 0.72), float(rng.uniform(0, 1))
    if camera.backdrop == "bricks":
        for row in range(int(horizon / (h * 0.045)) + 1):
            y = h * 0.045 * (row + shift)
            canvas.rectangle(0, y, w, y + h * 0.006, dark)
            for column in range(4):
                x = w * (0.33 * (column - shift) + 0.165 * (row % 2))
                canvas.rectangle(x, y, x + w * 0.015, y + h * 0.045, dark)
    elif camera.backdrop == "windows":
        for row in range(3):
            for column in range(3):
                x, y = w * (0.55 * (column - shift)), h * (0.30 * (row - 0.5 * shift))
                canvas.rectangle(x, y, x + w * 0.36, y + h * 0.2, darker(wall, 1.15))
                canvas.rectangle(x + w * 0.03, y + h * 0.015, x + w * 0.33, y + h * 0.185, (62, 76, 96))
    elif camera.backdrop == "shopfront":
        for column in range(3):
            x, y = w * (0.5 * (column - shift)), h * float(rng.uniform(0.02, 0.2))
            poster = COLOURS[pick(rng, tuple(COLOURS))]
            canvas.rectangle(x, y, x + w * 0.38, y + h * float(rng.uniform(0.15, 0.4)), poster)
            canvas.rectangle(x + w * 0.06, y + h * 0.03, x + w * 0.3, y + h * 0.06, darker(poster, 0.6))
    elif camera.backdrop == "trees":
        for _ in range(12):
            x, y = w * float(rng.uniform(0, 1)), h * float(rng.uniform(0, 0.45))
            shade = int(rng.integers(70, 140))
            canvas.ellipse(x, y, w * 0.2, h * 0.08, (int(shade * 0.6), shade, int(shade * 0.45)))
        x = w * shift
        canvas.rectangle(x, 0, x + w * 0.07, horizon, (84, 66, 50))
    else:
        pitch, thick = (0.45, 0.14) if camera.backdrop == "columns" else (0.12, 0.025)
        for column in range(int(1 / pitch) + 2):
            x = w * pitch * (column - shift)
            canvas.rectangle(x, 0, x + w * thick, horizon, dark)
        canvas.rectangle(0, h * 0.12, w, h * 0.14, dark)


def _draw_ground(canvas: Canvas, camera: Camera, horizon: float, rng: np.random.Generator) -> None:
    w, h, floor = canvas.width, canvas.height, camera.floor
    shift = float(rng.uniform(0, 1))
    if camera.ground == "slabs":
        for row in range(5):
            y = horizon + (h - horizon) * ((row + shift) / 5) ** 1.5
            canvas.rectangle(0, y, w, y + h * 0.006, darker(floor, 0.75))
        for column in range(-1, 4):
            x = w * (0.4 * (column + shift))
            line = [(x, horizon), (x + w * 0.02, horizon), (x * 1.4 - w * 0.18, h), (x * 1.4 - w * 0.2, h)]
            canvas.polygon(line, darker(floor, 0.75))
    elif camera.ground == "zebra":
        for column in range(-1, 3):
            x = w * (0.55 * (column + shift))
            bar = [(x, horizon), (x + w * 0.2, horizon), (x + w * 0.24, h), (x - w * 0.06, h)]
            canvas.polygon(bar, (205, 205, 200))
    elif camera.ground == "grass":
        for _ in range(16):
            x, y = w * float(rng.uniform(0, 1)), float(rng.uniform(horizon, h))
            shade = int(rng.integers(80, 140))
            canvas.ellipse(x, y, w * 0.12, h * 0.012, (int(shade * 0.75), shade, int(shade * 0.5)))


def _draw_clutter(canvas: Canvas, horizon: float, rng: np.random.Generator) -> None:
    """Paint a patch of any colour somewhere behind the person, such as a bollard, a sign or a parked vehicle."""
    w, h = canvas.width, canvas.height
    x, bottom = w * float(rng.uniform(-0.1, 1.0)), horizon + h * float(rng.uniform(-0.25, 0.15))
    width, height = w * float(rng.uniform(0.05, 0.3)), h * float(rng.uniform(0.06, 0.3))
    colour = darker(COLOURS[pick(rng, tuple(COLOURS))], float(rng.uniform(0.6, 1.0)))
    canvas.rectangle(x, bottom - height, x + width, bottom, colour)


def _draw_car(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    top, left = h * float(rng.uniform(0.66, 0.84)), w * float(rng.uniform(-0.3, 0.3))
    colour = COLOURS[pick(rng, tuple(COLOURS))]
    right = left + w * 1.1
    hood = [(left, top + h * 0.06), (left + w * 0.25, top), (left + w * 0.9, top), (right, top + h * 0.08),
            (right, h), (left, h)]  # fmt: skip
    canvas.polygon(hood, colour)
    canvas.rectangle(left, top + h * 0.10, left + w * 1.1, top + h * 0.115, darker(colour, 0.65))
    canvas.ellipse(left + w * 0.2, top + h * 0.08, w * 0.09, h * 0.02, (236, 232, 200))


def _draw_railing(canvas: Canvas, rng: np.random.Generator) -> None:
    w, h = canvas.width, canvas.height
    top, shift = h * float(rng.uniform(0.5, 0.72)), float(rng.uniform(0, 1))
    colour = _tint(rng, int(rng.integers(50, 190)))
    canvas.rectangle(0, top, w, top + h * 0.02, colour)
    canvas.rectangle(0, h * 0.93, w, h * 0.95, colour)
    for bar in range(7):
        x = w * (bar - shift) / 6
        canvas.rectangle(x, top, x + w * 0.045, h, colour)
