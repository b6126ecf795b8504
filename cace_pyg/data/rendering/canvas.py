"""A drawing surface that records the visible body part and detail of each pixel."""

from dataclasses import dataclass
from math import cos, hypot, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from cace_pyg.data.rendering.pedestrian import DETAIL_NAMES, PART_NAMES

Colour = tuple[int, int, int]
Point = tuple[float, float, float]
Row = tuple[float, float, float]
Ellipse = tuple[float, float, float, float]  # centre and radii, canvas pixels
Outline = list[tuple[float, float]]  # canvas pixels

_DETAIL_BITS = 5  # the lower bits of a code hold the detail, the upper three the part


def code(part: str, detail: str | None = None) -> int:
    """The byte that marks pixels of a body part and, if given, of a detail."""
    return PART_NAMES.index(part) << _DETAIL_BITS | (1 + DETAIL_NAMES.index(detail) if detail else 0)


def split_codes(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes `[height, width]` → parts (index of PART_NAMES) and details (0, or 1 + index of DETAIL_NAMES)."""
    return codes >> _DETAIL_BITS, codes & ((1 << _DETAIL_BITS) - 1)


def darker(colour: Colour, factor: float) -> Colour:
    """The same colour in shadow."""
    red, green, blue = colour
    return int(red * factor), int(green * factor), int(blue * factor)


class Canvas:
    """An RGBA image whose fourth channel is not opacity, but the code of what was drawn last.

    So one drawing call sets both colour and label, and anything drawn over a detail (cloth, an arm, an occluder, the
    picture's border) hides it in the labels exactly as in the picture.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Outline, colour: Colour, mark: int = 0) -> None:
        self._draw.polygon(points, fill=(*colour, mark))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, mark: int = 0) -> None:
        self._draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(*colour, mark))

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, mark: int = 0) -> None:
        if x1 >= x0 and y1 >= y0:  # Pillow raises an error for an empty one
            self._draw.rectangle((x0, y0, x1, y1), fill=(*colour, mark))

    def copy(self) -> "Canvas":
        """A copy, to draw on without changing this one."""
        other = Canvas(self.width, self.height)
        other.image.paste(self.image)
        return other

    def labelled_pixels(self) -> int:
        """Number of pixels that belong to a person."""
        histogram = self.image.getchannel("A").histogram()
        return sum(histogram) - histogram[0]

    def codes(self, width: int, height: int) -> np.ndarray:
        """Codes at another resolution, uint8 `[height, width]`; sampled, since codes cannot be averaged."""
        return np.asarray(self.image.getchannel("A").resize((width, height), Image.Resampling.NEAREST))


@dataclass(frozen=True)
class Placement:
    """The position of a body on a canvas, and the direction that it faces.

    Body coordinates: x to the person's left, y down from the crown, z forward; unit: the body height.
    """

    x: float  # canvas pixels, of the body's axis
    y: float  # canvas pixels, of the crown
    scale: float  # canvas pixels per body height
    yaw: float  # radians; 0 faces the camera, π/2 shows the right side, −π/2 the left side, π the back
    stretch: float = 1.0  # width over height of a body unit: boxes are resized to one aspect ratio

    def project(self, point: Point) -> tuple[float, float]:
        """Canvas pixels of a body point (no perspective: pedestrians are far away)."""
        x, y, z = point
        across = x * cos(self.yaw) + z * sin(self.yaw)
        return self.x + across * self.scale * self.stretch, self.y + y * self.scale

    def depth(self, point: Point) -> float:
        """The distance of a body point towards the camera, in body heights."""
        return point[2] * cos(self.yaw) - point[0] * sin(self.yaw)


class Sketch:
    """Shapes of one body, collected in any order and painted from the farthest to the nearest."""

    def __init__(self, placement: Placement, labelled: bool = True) -> None:
        self.placement = placement
        self._labelled = labelled  # passers-by are drawn like everyone else, but count as background
        self._shapes: list[tuple[float, int, Ellipse | Outline, Colour, int]] = []

    def paint(self, canvas: Canvas) -> None:
        for _, _, shape, colour, mark in sorted(self._shapes):
            if isinstance(shape, list):
                canvas.polygon(shape, colour, mark)
            else:
                canvas.ellipse(*shape, colour, mark)

    def _add(self, depth: float, shape: Ellipse | Outline, colour: Colour, mark: int) -> None:
        # The counter keeps shapes of equal depth in drawing order.
        self._shapes.append((depth, len(self._shapes), shape, colour, mark if self._labelled else 0))

    def limb(self, joints: list[Point], widths: list[float], colour: Colour, mark: int, depth: float) -> None:
        """A tapering tube through `joints`, with round ends; `widths` are its radii in body heights."""
        ends = [self.placement.project(joint) for joint in joints]
        radii = [max(width * self.placement.scale, 0.5) for width in widths]
        for (x, y), radius in zip(ends, radii, strict=True):
            self._add(depth, (x, y, radius * self.placement.stretch, radius), colour, mark)
        for i in range(len(ends) - 1):
            (x0, y0), (x1, y1) = ends[i], ends[i + 1]
            length = hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            r0, r1 = radii[i], radii[i + 1]
            quad = [(x0 + nx * r0, y0 + ny * r0), (x1 + nx * r1, y1 + ny * r1),
                    (x1 - nx * r1, y1 - ny * r1), (x0 - nx * r0, y0 - ny * r0)]  # fmt: skip
            self._add(depth, quad, colour, mark)

    def ball(self, centre: Point, across: float, down: float, colour: Colour, mark: int, depth: float) -> None:
        """An ellipse around a body point, radii in body heights."""
        x, y = self.placement.project(centre)
        scale = self.placement.scale
        self._add(depth, (x, y, across * scale * self.placement.stretch, down * scale), colour, mark)

    def box(self, centre: Point, half: Point, colour: Colour, mark: int, depth: float) -> None:
        """A box of half sizes `half` along the body's axes, with slightly cut corners."""
        x, y = self.placement.project(centre)
        place = self.placement
        rx = (half[0] * abs(cos(place.yaw)) + half[2] * abs(sin(place.yaw))) * place.scale * place.stretch
        ry = half[1] * place.scale
        cut = 0.25 * min(rx, ry)
        x0, x1, y0, y1 = x - rx, x + rx, y - ry, y + ry
        outline = [(x0 + cut, y0), (x1 - cut, y0), (x1, y0 + cut), (x1, y1 - cut),
                   (x1 - cut, y1), (x0 + cut, y1), (x0, y1 - cut), (x0, y0 + cut)]  # fmt: skip
        self._add(depth, outline, colour, mark)

    def wrap(
        self,
        rows: list[Row],
        colour: Colour,
        mark: int,
        depth: float,
        span: tuple[float, float] | None = None,
        z: float = 0.0,
    ) -> None:
        """Cloth, skin or print around an upright elliptical tube; only the side that faces the camera is drawn.

        Args:
            rows: from top to bottom (y, radius sideways, radius forward), body heights.
            span: angles in degrees from the front towards the person's left; None goes all the way round.
            z: how far the tube's axis is in front of the body's.
        """
        yaw = self.placement.yaw
        c, s = cos(yaw), sin(yaw)
        if span is None:
            edges = [(y, -hypot(a * c, b * s), hypot(a * c, b * s)) for y, a, b in rows]
        else:
            steps = [span[0] + (span[1] - span[0]) * i / 12 for i in range(13)]
            angles = [(sin(step * pi / 180), cos(step * pi / 180)) for step in steps]
            _, a, b = rows[len(rows) // 2]
            facing = [(sine, cosine) for sine, cosine in angles if cosine * c / b - sine * s / a > -1e-6]
            if len(facing) < 2:
                return
            edges = []
            for y, a, b in rows:
                reach = [a * sine * c + b * cosine * s for sine, cosine in facing]
                edges.append((y, min(reach), max(reach)))
        x, unit, top = self.placement.x, self.placement.scale, self.placement.y
        across = unit * self.placement.stretch
        x += z * s * across
        left = [(x + low * across, top + y * unit) for y, low, _ in edges]
        right = [(x + high * across, top + y * unit) for y, _, high in reversed(edges)]
        self._add(depth, [*left, *right], colour, mark)
