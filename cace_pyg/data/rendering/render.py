"""Renders one picture of one person: places it before a camera, draws it large, scales it down, adds camera effects."""

from dataclasses import dataclass
from math import pi

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from cace_pyg.data.rendering.anatomy import draw_pose
from cace_pyg.data.rendering.canvas import Canvas, Placement, darker, split_codes
from cace_pyg.data.rendering.figure import draw_figure
from cace_pyg.data.rendering.pedestrian import DETAIL_NAMES, Person, pick
from cace_pyg.data.rendering.scene import Camera, draw_background, draw_occluder

VIEWS = {"front": 0.0, "right": pi / 2, "back": pi, "left": -pi / 2}
"""Names of the sides that a picture shows, with the yaw of `Placement`."""

BOXES = ("good", "loose", "bad")
"""How well a box fits: well; shifted, too large, or without head or feet; or with hardly any person (junk)."""

_LEAST_VISIBLE = 3 / (96 * 48)  # area from which a detail counts as visible: three pixels of 96×48
_MOST_HIDDEN = 0.6  # part of the person that an occluder may cover
_LEAST_HIDDEN = 0.05  # part of the person's pixels that must be covered for an occluder to count
_VIEW_SPREAD = 0.5  # radians by which people turn away from the nominal view


@dataclass(frozen=True)
class Rendering:
    """A picture, its label map, and what is visible in it."""

    picture: Image.Image  # RGB
    parts: np.ndarray  # uint8 [height, width], indices of PART_NAMES
    occluded: bool
    details: tuple[str, ...]


def render(
    person: Person,
    camera: Camera,
    view: str,
    box: str,
    occluder: Person | bool,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Rendering:
    """Draw one picture.

    Args:
        view: a key of `VIEWS`.
        box: one of `BOXES`.
        occluder: whether something hides part of the person; a :class:`Person` is a passer-by who does.
        size: height and width in pixels.
    """
    height, width = size
    factor = 3 if height <= 128 else 2  # supersampling: ImageDraw has no anti-aliasing
    canvas = Canvas(width * factor, height * factor)
    draw_background(canvas, camera, rng)
    placement = _place(canvas, person, camera, VIEWS[view], box, rng)
    _draw_shadow(canvas, camera, placement)
    draw_figure(canvas, person, draw_pose(rng, person), placement)
    scene = _cover(canvas, occluder, placement, rng)
    occluded = scene.labelled_pixels() < (1 - _LEAST_HIDDEN) * canvas.labelled_pixels()
    parts, details = split_codes(scene.codes(width, height))
    picture = _develop(_outline(scene).reduce(factor), camera, parts > 0, rng)
    return Rendering(picture, parts, occluded, _visible(details))


def _cover(canvas: Canvas, occluder: Person | bool, placement: Placement, rng: np.random.Generator) -> Canvas:
    """The scene with an occluder, or without one if too little of the person would be visible."""
    if not occluder:
        return canvas
    covered = canvas.copy()
    if isinstance(occluder, Person):
        _draw_passer_by(covered, occluder, placement, rng)
    else:
        draw_occluder(covered, rng)
    # A detector would not have found the person, and nobody could recognise them.
    lost = covered.labelled_pixels() < (1 - _MOST_HIDDEN) * canvas.labelled_pixels()
    return canvas if lost else covered


def _visible(details: np.ndarray) -> tuple[str, ...]:
    counts = np.bincount(details.ravel(), minlength=1 + len(DETAIL_NAMES))[1:]
    least = max(2, round(_LEAST_VISIBLE * details.size))
    return tuple(name for name, count in zip(DETAIL_NAMES, counts, strict=True) if count >= least)


def _place(canvas: Canvas, person: Person, camera: Camera, yaw: float, box: str, rng: np.random.Generator) -> Placement:
    w, h = canvas.width, canvas.height
    scale = float(rng.uniform(*camera.scale)) * person.stature
    across, down = (float(shift) for shift in rng.normal(0, 0.025, 2))
    if person.load == "umbrella":  # detectors include it in the box
        scale, down = scale * 0.92, down + 0.04
    if box == "loose":
        scale *= float(rng.uniform(0.8, 1.3))
        across, down = across + float(rng.uniform(-0.12, 0.12)), down + float(rng.uniform(-0.10, 0.10))
    elif box == "bad":
        scale *= float(rng.uniform(0.5, 1.4))
        across, down = float(pick(rng, (-1, 1)) * rng.uniform(0.4, 0.6)), float(rng.uniform(-0.6, 0.6))
    return Placement(
        x=w * (0.5 + across),
        y=h * (0.5 + down) - 0.5 * scale * h,
        scale=scale * h,
        yaw=yaw + float(rng.uniform(-_VIEW_SPREAD, _VIEW_SPREAD)),
        stretch=float(rng.uniform(0.9, 1.1)),
    )


def _draw_shadow(canvas: Canvas, camera: Camera, placement: Placement) -> None:
    y = placement.y + 0.985 * placement.scale
    canvas.ellipse(placement.x, y, 0.19 * placement.scale, 0.022 * placement.scale, darker(camera.floor, 0.6))


def _draw_passer_by(canvas: Canvas, person: Person, placement: Placement, rng: np.random.Generator) -> None:
    """Draw someone nearer to the camera who covers one side of the picture with half of their body."""
    side = pick(rng, (-1, 1))
    scale = placement.scale * float(rng.uniform(1.0, 1.25))
    nearer = Placement(
        x=canvas.width * (0.5 + side * float(rng.uniform(0.3, 0.46))),
        y=placement.y + placement.scale * float(rng.uniform(0.0, 0.15)),
        scale=scale,
        yaw=float(rng.uniform(-pi, pi)),
    )
    draw_figure(canvas, person, draw_pose(rng, person), nearer, labelled=False)


def _outline(canvas: Canvas) -> Image.Image:
    """The RGB picture with a soft dark line where parts or details meet, so that equal colours are distinguishable."""
    codes = canvas.image.getchannel("A")
    shifted = ImageChops.offset(codes, 1, 1)
    edges = ImageChops.difference(codes, shifted).point([0] + [95] * 255)
    rgb = canvas.image.convert("RGB")  # simply drops the fourth channel
    rgb.paste((16, 16, 20), mask=edges)
    return rgb


def _develop(picture: Image.Image, camera: Camera, person: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Add the camera's effects: light, folds in the cloth, colour cast, blur and noise."""
    height, width = person.shape
    if camera.blur > 0.05:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur * height / 96))
    rgb = np.asarray(picture, dtype=np.float32) / 255
    folds = rng.normal(0, 0.07, (12, 6)).astype(np.float32)
    folds = np.asarray(Image.fromarray(folds).resize((width, height), Image.Resampling.BICUBIC))
    side = np.linspace(-1, 1, width, dtype=np.float32) * camera.shading
    light = np.float32(rng.uniform(*camera.light)) * (1 + folds + np.where(person, side, 0.3 * side))
    rgb = np.clip(rgb * light[..., None], 0, 1) ** np.float32(camera.gamma)
    grey = rgb.mean(2, keepdims=True)
    gains = np.asarray(camera.gains, dtype=np.float32) * rng.uniform(0.93, 1.07, 3).astype(np.float32)
    rgb = (grey + camera.saturation * (rgb - grey)) * gains
    rgb = 0.45 + np.float32(camera.contrast) * (rgb - 0.45)
    rgb += rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(camera.noise / 255)
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
