"""Draws a person's body and clothes, in a walking pose, from any side."""

from math import sin

from cace_pyg.data.rendering.accessories import add_accessories
from cace_pyg.data.rendering.anatomy import (
    HEAD_CENTRE,
    HEAD_DEPTH,
    HEAD_HALF,
    LEG_DEPTH,
    SKIRT_DEPTH,
    TOP_DEPTH,
    Pose,
    along,
    head_rows,
    torso_rows,
)
from cace_pyg.data.rendering.canvas import (
    Canvas,
    Colour,
    Placement,
    Point,
    Sketch,
    code,
    darker,
)
from cace_pyg.data.rendering.pedestrian import (
    BUILDS,
    COLOURS,
    HAIR_COLOURS,
    SKINS,
    Person,
)

# Prints by shape: rectangles as (upper edge, lower edge, angles from the front towards the person's left).
_LOGOS = {
    "block": ((0.245, 0.345, (-36, 36)),),
    "bar": ((0.265, 0.300, (-60, 60)),),
    "badge": ((0.235, 0.285, (16, 52)),),
}
_BACK_PRINTS = {
    "block": ((0.24, 0.38, (140, 220)),),
    "bar": ((0.25, 0.29, (115, 245)),),
    "letters": tuple((0.25, 0.35, (start, start + 24)) for start in (128, 168, 208)),
}


def draw_figure(canvas: Canvas, person: Person, pose: Pose, placement: Placement, labelled: bool = True) -> None:
    """Draw a person; with `labelled` False they are part of the background (a passer-by)."""
    sketch = Sketch(placement, labelled)
    for leg, side in zip(pose.legs, (1, -1), strict=True):
        _add_leg(sketch, person, leg, side)
    _add_top(sketch, person)
    for arm, side in zip(pose.arms, (1, -1), strict=True):
        _add_arm(sketch, person, arm, side)
    _add_head(sketch, person)
    add_accessories(sketch, person, pose)
    sketch.paint(canvas)


def _add_leg(sketch: Sketch, person: Person, leg: tuple[Point, Point, Point], side: int) -> None:
    hip, knee, ankle = leg
    girth = BUILDS[person.build]
    depth = LEG_DEPTH + 0.3 * sketch.placement.depth((hip[0], 0.0, 0.0))
    shade = 1.0 if depth > LEG_DEPTH else 0.86  # distinguishes the far leg from the near one
    cloth, skin = darker(COLOURS[person.bottom], shade), darker(SKINS[person.skin], shade)
    radii = [0.064 * girth, 0.050 * girth, 0.036]
    if person.bottoms == "trousers":
        sketch.limb([hip, knee, ankle], [*radii[:2], 0.042], cloth, code("legs"), depth)
    else:
        sketch.limb([knee, ankle], [0.042 * girth, 0.030], skin, code("legs", "bare_legs"), depth)
        hem = along(hip, knee, 0.85)
        sketch.limb([hip, hem], [radii[0], 0.058 * girth], cloth, code("legs"), depth)
    if person.socks:
        sock = darker(COLOURS[person.socks], shade)
        sketch.limb([along(knee, ankle, 0.55), ankle], [0.038, 0.034], sock, code("legs", "socks"), depth)
    if person.side_stripe:
        _add_side_stripe(sketch, person.side_stripe, leg, radii, side, depth)
    shoe = darker(COLOURS[person.shoes], shade)
    heel = (ankle[0], ankle[1] + 0.026, ankle[2] - 0.012)
    toe = (ankle[0] + side * 0.014, ankle[1] + 0.034, ankle[2] + 0.075)
    sketch.limb([heel, toe], [0.034, 0.026], shoe, code("feet", "shoes"), depth)


def _add_side_stripe(
    sketch: Sketch, name: str, leg: tuple[Point, ...], radii: list[float], side: int, depth: float
) -> None:
    if -side * sin(sketch.placement.yaw) < -0.35:  # the outer side of this leg is turned away
        return
    line = [(x + side * 0.8 * r, y, z) for (x, y, z), r in zip(leg, radii, strict=True)]
    sketch.limb(line, [0.011] * 3, COLOURS[name], code("legs", "side_stripe"), depth)


def _add_top(sketch: Sketch, person: Person) -> None:
    girth = BUILDS[person.build]
    sketch.limb([(0, 0.13, 0), (0, 0.18, 0)], [0.034, 0.036], SKINS[person.skin], code("torso"), TOP_DEPTH)
    sketch.wrap(torso_rows(0.16, 0.52, girth), COLOURS[person.top], code("torso"), TOP_DEPTH)
    if person.bottoms == "skirt":
        rows = [(0.48, 0.110 * girth, 0.082 * girth), (0.70, 0.150 * girth, 0.125 * girth)]
        sketch.wrap(rows, COLOURS[person.bottom], code("legs"), SKIRT_DEPTH)
    if person.stripes:
        for i in range(4):
            _print(sketch, person, "stripes", 0.225 + 0.07 * i, 0.253 + 0.07 * i)
    if person.open_jacket:
        _print(sketch, person, "open_jacket", 0.172, 0.52, (-24, 24))
    if person.chest_logo:
        for top, bottom, span in _LOGOS[person.chest_logo_shape]:
            _print(sketch, person, "chest_logo", top, bottom, span)
    if person.back_print:
        for top, bottom, span in _BACK_PRINTS[person.back_print_shape]:
            _print(sketch, person, "back_print", top, bottom, span)
    if person.belt:
        _print(sketch, person, "belt", 0.486, 0.516)


def _print(
    sketch: Sketch,
    person: Person,
    detail: str,
    top: float,
    bottom: float,
    span: tuple[float, float] | None = None,
) -> None:
    """Draw a detail on the top, between two heights and two angles (see `Sketch.wrap`)."""
    rows = torso_rows(top, bottom, BUILDS[person.build])
    sketch.wrap(rows, COLOURS[getattr(person, detail)], code("torso", detail), TOP_DEPTH, span)


def _add_arm(sketch: Sketch, person: Person, arm: tuple[Point, Point, Point], side: int) -> None:
    shoulder, elbow, wrist = arm
    girth = BUILDS[person.build]
    depth = sketch.placement.depth(along(elbow, wrist, 0.5))
    shade = 0.92 if depth > -0.05 else 0.8  # distinguishes the sleeve from the trunk
    cloth, skin = darker(COLOURS[person.top], shade), darker(SKINS[person.skin], shade)
    if person.short_sleeves:
        sketch.limb([elbow, wrist], [0.030, 0.025], skin, code("arms", "short_sleeves"), depth)
        sketch.limb([shoulder, along(shoulder, elbow, 0.8)], [0.039 * girth] * 2, cloth, code("arms"), depth)
    else:
        sketch.limb(list(arm), [0.039 * girth, 0.035 * girth, 0.030], cloth, code("arms"), depth)
    hand = along(elbow, wrist, 1.14)
    if person.gloves:
        sketch.ball(hand, 0.028, 0.033, COLOURS[person.gloves], code("arms", "gloves"), depth)
    else:
        sketch.ball(hand, 0.025, 0.030, skin, code("arms"), depth)
    if person.wristband and person.wristband_side == ("left" if side > 0 else "right"):
        band = [along(elbow, wrist, 0.72), along(elbow, wrist, 0.9)]
        sketch.limb(band, [0.031, 0.031], COLOURS[person.wristband], code("arms", "wristband"), depth)


def _add_head(sketch: Sketch, person: Person) -> None:
    skin = SKINS[person.skin]
    sketch.wrap(head_rows(0.0, 0.158), skin, code("head"), HEAD_DEPTH)
    for eye in (-34, 20):
        rows = head_rows(0.072, 0.086, 1.01)
        sketch.wrap(rows, (40, 30, 30), code("head"), HEAD_DEPTH, (eye, eye + 14))
    if person.beard:
        colour = darker(HAIR_COLOURS[person.hair_colour], 0.85)
        sketch.wrap(head_rows(0.116, 0.162, 1.03), colour, code("head", "beard"), HEAD_DEPTH, (-65, 65))
    if person.hair:
        _add_hair(sketch, person.hair, HAIR_COLOURS[person.hair_colour])


def _add_hair(sketch: Sketch, style: str, colour: Colour) -> None:
    mark = code("head", "hair")
    behind = sketch.placement.depth((0.0, 0.0, -0.07))
    puff = 1.3 if style == "curly" else 1.07
    crown = HEAD_CENTRE - HEAD_HALF[1] * puff
    sketch.wrap(head_rows(crown, 0.042, puff), colour, mark, HEAD_DEPTH)
    nape = {"short": 0.105, "curly": 0.135, "long": 0.15}.get(style, 0.115)
    sketch.wrap(head_rows(0.040, nape, puff), colour, mark, HEAD_DEPTH, (78, 282))
    if style == "long":
        rows = [(0.10, 0.070, 0.030), (0.20, 0.078, 0.030), (0.29, 0.062, 0.024)]
        sketch.wrap(rows, colour, mark, behind, z=-0.060)
    elif style == "ponytail":
        sketch.limb([(0, 0.05, -0.075), (0, 0.10, -0.112), (0, 0.22, -0.105)], [0.024, 0.028, 0.014], colour,
                    mark, behind)  # fmt: skip
    elif style == "bun":
        sketch.ball((0, -0.005, -0.045), 0.034, 0.034, colour, mark, behind)
