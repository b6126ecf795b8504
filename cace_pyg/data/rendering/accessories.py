"""Draws what people carry and wear over their clothes: hats, glasses, scarves, bags and loads."""

from math import cos

from cace_pyg.data.rendering.anatomy import (
    HEAD_DEPTH,
    TOP_DEPTH,
    Pose,
    along,
    head_rows,
    torso_rows,
)
from cace_pyg.data.rendering.canvas import Point, Sketch, code, darker
from cace_pyg.data.rendering.pedestrian import BUILDS, COLOURS, Person


def add_accessories(sketch: Sketch, person: Person, pose: Pose) -> None:
    """Add everything that a person carries or wears over their clothes."""
    if person.scarf:
        _add_scarf(sketch, person.scarf, BUILDS[person.build])
    if person.glasses:
        _add_glasses(sketch, person.glasses)
    if person.hat:
        _add_hat(sketch, person.hat, person.hat_colour)
    if person.backpack:
        _add_backpack(sketch, person.backpack, BUILDS[person.build])
    if person.shoulder_bag:
        _add_shoulder_bag(sketch, person.shoulder_bag, BUILDS[person.build], _sign(person.shoulder_bag_side))
    if person.handbag:
        _add_handbag(sketch, person.handbag, _hand(pose, person.handbag_side))
    if person.load:
        _add_load(sketch, person, pose)


def _sign(side: str) -> int:
    return 1 if side == "left" else -1


def _hand(pose: Pose, side: str) -> Point:
    _, elbow, wrist = pose.arms[0 if side == "left" else 1]
    return along(elbow, wrist, 1.15)


def _add_scarf(sketch: Sketch, name: str, girth: float) -> None:
    colour, mark = COLOURS[name], code("torso", "scarf")
    collar = [(0.142, 0.056, 0.058), (0.165, 0.076, 0.074), (0.192, 0.072, 0.070)]
    sketch.wrap(collar, colour, mark, HEAD_DEPTH)
    end = torso_rows(0.18, 0.33, girth, 1.04)
    sketch.wrap(end, darker(colour, 0.9), mark, HEAD_DEPTH, (-30, -4))


def _add_glasses(sketch: Sketch, colour: str) -> None:
    mark = code("head", "glasses")
    sketch.wrap(head_rows(0.064, 0.092, 1.05), COLOURS[colour], mark, HEAD_DEPTH, (-62, 62))
    sketch.wrap(head_rows(0.068, 0.080, 1.08), COLOURS[colour], mark, HEAD_DEPTH, (-100, 100))


def _add_hat(sketch: Sketch, hat: str, name: str) -> None:
    colour, mark = COLOURS[name], code("head", "hat")
    if hat == "cap":
        sketch.wrap(head_rows(-0.012, 0.046, 1.14), colour, mark, HEAD_DEPTH)
        peak: list[Point] = [(0, 0.046, 0.045), (0, 0.052, 0.112)]
        depth = HEAD_DEPTH + (0.01 if cos(sketch.placement.yaw) > -0.3 else -0.01)
        sketch.limb(peak, [0.016, 0.010], darker(colour, 0.75), mark, depth)
        sketch.wrap(head_rows(0.040, 0.056, 1.16), darker(colour, 0.75), mark, depth, (-65, 65))
    elif hat == "beanie":
        sketch.wrap(head_rows(-0.024, 0.052, 1.2), colour, mark, HEAD_DEPTH)
        sketch.wrap(head_rows(0.034, 0.056, 1.22), darker(colour, 0.75), mark, HEAD_DEPTH)
        sketch.ball((0, -0.030, 0), 0.022, 0.022, darker(colour, 0.75), mark, HEAD_DEPTH)
    else:
        sketch.wrap(head_rows(-0.020, 0.040, 1.18), colour, mark, HEAD_DEPTH)
        sketch.ball((0, 0.042, 0), 0.112, 0.016, darker(colour, 0.85), mark, HEAD_DEPTH)


def _add_backpack(sketch: Sketch, name: str, girth: float) -> None:
    colour, mark = COLOURS[name], code("carried", "backpack")
    centre = (0.0, 0.305, -0.078 * girth - 0.048)
    depth = sketch.placement.depth(centre)
    sketch.box(centre, (0.088, 0.112, 0.052), colour, mark, depth)
    pocket = (0.0, 0.355, centre[2] - 0.020)
    sketch.box(pocket, (0.066, 0.042, 0.044), darker(colour, 0.72), mark, depth)
    for start in (-50, 34):
        straps = torso_rows(0.185, 0.39, girth, 1.03)
        sketch.wrap(straps, darker(colour, 0.85), mark, TOP_DEPTH + 0.01, (start, start + 16))


def _add_shoulder_bag(sketch: Sketch, name: str, girth: float, side: int) -> None:
    colour, mark = COLOURS[name], code("carried", "shoulder_bag")
    # The strap crosses chest and back; only the part on the side that faces the camera is visible.
    z = 0.07 if cos(sketch.placement.yaw) > 0 else -0.07
    top, bottom = (-side * 0.085 * girth, 0.190, 0.6 * z), (side * 0.105 * girth, 0.465, z)
    strap = [top, (side * 0.010, 0.330, z), bottom]
    sketch.limb(strap, [0.012] * 3, darker(colour, 0.8), mark, TOP_DEPTH + 0.01)
    centre = (side * (0.112 * girth + 0.036), 0.520, 0.0)
    depth = sketch.placement.depth(centre)
    sketch.box(centre, (0.038, 0.062, 0.082), colour, mark, depth)
    flap = (centre[0], 0.492, 0.0)
    sketch.box(flap, (0.039, 0.030, 0.083), darker(colour, 0.75), mark, depth)


def _add_handbag(sketch: Sketch, name: str, hand: Point) -> None:
    colour, mark = COLOURS[name], code("carried", "handbag")
    centre = (hand[0], hand[1] + 0.105, hand[2])
    depth = sketch.placement.depth(hand)
    sketch.limb([hand, (hand[0], hand[1] + 0.05, hand[2])], [0.008, 0.014], darker(colour, 0.75), mark, depth)
    sketch.box(centre, (0.036, 0.056, 0.074), colour, mark, depth)


def _add_load(sketch: Sketch, person: Person, pose: Pose) -> None:
    hand, side = _hand(pose, person.load_side), _sign(person.load_side)
    colour, mark = COLOURS[person.load_colour], code("carried", "load")
    depth = sketch.placement.depth(hand)
    if person.load == "phone":
        sketch.box((hand[0], hand[1] - 0.03, hand[2]), (0.020, 0.034, 0.014), colour, mark, depth)
    elif person.load == "umbrella":
        tip = (hand[0] * 0.6, -0.10, hand[2])
        sketch.limb([hand, tip], [0.008, 0.008], darker(colour, 0.6), mark, depth)
        rows = [(-0.140, 0.02, 0.02), (-0.125, 0.10, 0.10), (-0.090, 0.18, 0.18), (-0.025, 0.23, 0.23)]
        sketch.wrap(rows, colour, mark, HEAD_DEPTH - 0.01)
    elif person.load == "box":
        centre = (0.0, hand[1] - 0.02, hand[2] + 0.02)
        sketch.box(centre, (0.100, 0.070, 0.060), colour, mark, sketch.placement.depth(centre))
    else:
        centre = (hand[0] + side * 0.02, 0.840, hand[2] - 0.06)
        handle = [hand, (centre[0], 0.740, centre[2])]
        sketch.limb(handle, [0.008, 0.008], (70, 70, 74), mark, depth)
        sketch.box(centre, (0.078, 0.105, 0.050), colour, mark, depth)
        sketch.ball((centre[0], 0.955, centre[2]), 0.020, 0.020, (40, 40, 44), mark, depth)
