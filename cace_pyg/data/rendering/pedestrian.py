"""The identity of a rendered person: build, clothes, and small details that distinguish people dressed alike."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import dist
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

PART_NAMES = ("background", "head", "torso", "arms", "legs", "feet", "carried")
"""Values of the label maps, in order: 0 is background, and anything that hides the person counts as background."""

DETAIL_NAMES = (
    "hair", "hat", "glasses", "beard", "scarf", "stripes", "chest_logo", "back_print", "open_jacket",
    "short_sleeves", "belt", "bare_legs", "side_stripe", "shoes", "socks", "gloves", "wristband",
    "backpack", "shoulder_bag", "handbag", "load",
)  # fmt: skip
"""Details that a picture can show; at most 31, since a detail takes five bits of a canvas pixel."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (38, 38, 44), "charcoal": (72, 72, 80), "grey": (132, 134, 138), "white": (228, 228, 224),
    "navy": (36, 46, 92), "blue": (52, 98, 182), "sky": (120, 172, 214), "teal": (30, 124, 128),
    "green": (48, 122, 66), "lime": (158, 198, 62), "khaki": (150, 136, 96), "beige": (206, 188, 154),
    "brown": (108, 72, 50), "orange": (228, 126, 40), "yellow": (232, 196, 58), "red": (190, 42, 46),
    "burgundy": (108, 30, 48), "pink": (224, 142, 166), "purple": (104, 62, 138),
}  # fmt: skip
SKINS: dict[str, tuple[int, int, int]] = {
    "light": (232, 194, 168), "olive": (206, 160, 124), "brown": (158, 108, 78), "dark": (100, 66, 48),
}  # fmt: skip
HAIR_COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (30, 26, 26), "brown": (82, 54, 36), "blond": (208, 172, 104), "red": (152, 70, 36),
    "grey": (160, 160, 164),
}  # fmt: skip

TOP_COLOURS = ("black", "charcoal", "grey", "white", "navy", "blue", "green", "beige", "red", "burgundy")
BOTTOM_COLOURS = ("black", "charcoal", "navy", "blue", "khaki", "grey")
BUILDS = {"slim": 0.88, "medium": 1.0, "broad": 1.1}  # factor on the widths of the body

_CONTRAST = 100  # distance in RGB from which a colour stands out on cloth of another
_ACCENTS = 3  # colours of a family's details
_LEAST_DIFFERENCE = 5  # fields in which any two members of a family differ


@dataclass(frozen=True)
class Person:
    """One identity. Colours are keys of `COLOURS` (`SKINS`, `HAIR_COLOURS`); None: the person has no such thing."""

    family: str  # members of a family share the first five fields below
    build: str
    stature: float  # body height relative to the average
    top: str
    bottom: str
    bottoms: str  # trousers, shorts or skirt
    skin: str
    hair: str | None  # short, long, ponytail, bun, curly; None is bald
    hair_colour: str
    hat: str | None  # cap, beanie, brim
    hat_colour: str
    glasses: str | None
    beard: bool
    scarf: str | None
    stripes: str | None
    chest_logo: str | None
    chest_logo_shape: str  # block, bar, badge (on the person's left)
    back_print: str | None
    back_print_shape: str  # block, bar, letters
    open_jacket: str | None  # colour of the shirt below
    short_sleeves: bool
    belt: str | None
    side_stripe: str | None  # along the trouser legs
    shoes: str
    socks: str | None
    gloves: str | None
    wristband: str | None
    wristband_side: str  # left or right, of the person
    backpack: str | None
    shoulder_bag: str | None
    shoulder_bag_side: str
    handbag: str | None
    handbag_side: str
    load: str | None  # phone, umbrella, box, suitcase
    load_colour: str
    load_side: str


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of `options`, all equally likely. (`Generator.choice` takes ten times as long.)"""
    return options[int(rng.integers(len(options)))]


def draw_family(rng: np.random.Generator, family: str, size: int) -> tuple[Person, ...]:
    """`size` people with the same clothing colours and build, each pair different in several details.

    The details of a family also have few colours, so a colour histogram is of little use: what matters is which detail
    has which colour.
    """
    shared: dict[str, Any] = {
        "family": family,
        "build": pick(rng, tuple(BUILDS)),
        "stature": round(float(rng.uniform(0.95, 1.04)), 3),
        "top": pick(rng, TOP_COLOURS),
        "bottom": pick(rng, BOTTOM_COLOURS),
    }
    usual_bottoms = pick(rng, ("trousers", "trousers", "trousers", "shorts", "skirt"))
    accents = _draw_accents(rng, shared["top"], shared["bottom"])
    members: list[Person] = []
    while len(members) < size:
        person = _draw_member(rng, shared, usual_bottoms, accents)
        if all(differences(person, other) >= _LEAST_DIFFERENCE for other in members):
            members.append(person)
    return tuple(members)


def differences(person_a: Person, person_b: Person) -> int:
    """Number of fields in which two people differ, counting only what is visible on either of them."""
    seen_a, seen_b = attributes(person_a), attributes(person_b)
    return sum(seen_a.get(name) != seen_b.get(name) for name in seen_a.keys() | seen_b.keys())


def attributes(person: Person) -> dict[str, str | float | bool]:
    """The attributes of a person, by name; absent things are left out, with their colours, shapes and sides."""
    named = {field.name: getattr(person, field.name) for field in fields(person)}
    absent = {name for name, value in named.items() if value is None or value is False}
    qualifiers = ("_colour", "_shape", "_side")
    return {
        name: value
        for name, value in named.items()
        if name not in absent and not any(name.removesuffix(end) in absent for end in qualifiers)
    }


def _draw_accents(rng: np.random.Generator, top: str, bottom: str) -> tuple[str, ...]:
    """The colours of a family's details: they stand out on both its tops and its bottoms."""
    options = [name for name in COLOURS if min(_distance(name, top), _distance(name, bottom)) >= _CONTRAST]
    return tuple(options[i] for i in rng.permutation(len(options))[:_ACCENTS])


def _distance(name_a: str, name_b: str) -> float:
    return dist(COLOURS[name_a], COLOURS[name_b])


def _draw_member(
    rng: np.random.Generator, shared: dict[str, Any], usual_bottoms: str, accents: tuple[str, ...]
) -> Person:
    bottoms = usual_bottoms if rng.random() < 0.75 else pick(rng, ("trousers", "shorts", "skirt"))
    handbag_side = pick(rng, ("left", "right"))
    return Person(
        **shared,
        bottoms=bottoms,
        **_draw_head(rng, accents),
        **_draw_top(rng, accents),
        **_draw_lower_body(rng, accents, bottoms),
        **_draw_carried(rng, accents, handbag_side),
    )


def _draw_head(rng: np.random.Generator, accents: tuple[str, ...]) -> dict[str, Any]:
    return {
        "skin": pick(rng, tuple(SKINS)),
        "hair": pick(rng, ("short", "short", "long", "long", "ponytail", "bun", "curly", None)),
        "hair_colour": pick(rng, tuple(HAIR_COLOURS)),
        "hat": pick(rng, (None, None, None, "cap", "beanie", "brim")),
        "hat_colour": pick(rng, accents),
        "glasses": _perhaps(rng, 0.3, ("black", "white", "red")),
        "beard": bool(rng.random() < 0.2),
    }


def _draw_top(rng: np.random.Generator, accents: tuple[str, ...]) -> dict[str, Any]:
    # An open jacket leaves no room for a logo, so the front of the top shows at most one detail.
    front = pick(rng, ("plain", "plain", "stripes", "chest_logo", "chest_logo", "open_jacket"))
    accent = pick(rng, accents)
    return {
        "scarf": _perhaps(rng, 0.18, accents),
        "stripes": accent if front == "stripes" else None,
        "chest_logo": accent if front == "chest_logo" else None,
        "chest_logo_shape": pick(rng, ("block", "bar", "badge")),
        "open_jacket": accent if front == "open_jacket" else None,
        "back_print": _perhaps(rng, 0.35, accents),
        "back_print_shape": pick(rng, ("block", "bar", "letters")),
        "short_sleeves": bool(rng.random() < 0.4),
        "gloves": _perhaps(rng, 0.15, accents),
        "wristband": _perhaps(rng, 0.25, accents),
        "wristband_side": pick(rng, ("left", "right")),
    }


def _draw_lower_body(rng: np.random.Generator, accents: tuple[str, ...], bottoms: str) -> dict[str, Any]:
    return {
        "belt": _perhaps(rng, 0.3, accents),
        "side_stripe": _perhaps(rng, 0.25, accents) if bottoms == "trousers" else None,
        "shoes": pick(rng, accents),
        "socks": _perhaps(rng, 0.5, accents) if bottoms != "trousers" else None,
    }


def _draw_carried(rng: np.random.Generator, accents: tuple[str, ...], handbag_side: str) -> dict[str, Any]:
    bag = pick(rng, (None, "backpack", "shoulder_bag", "handbag"))
    load = pick(rng, ("phone", "umbrella", "box", "suitcase")) if rng.random() < 0.35 else None
    if load == "box" and bag == "handbag":  # a box takes both hands
        load = None
    colour = pick(rng, accents)
    return {
        "backpack": colour if bag == "backpack" else None,
        "shoulder_bag": colour if bag == "shoulder_bag" else None,
        "shoulder_bag_side": pick(rng, ("left", "right")),
        "handbag": colour if bag == "handbag" else None,
        "handbag_side": handbag_side,
        "load": load,
        "load_colour": "black" if load == "phone" else pick(rng, accents),
        "load_side": "left" if handbag_side == "right" else "right",
    }


def _perhaps(rng: np.random.Generator, chance: float, options: Sequence[T]) -> T | None:
    return pick(rng, options) if rng.random() < chance else None
