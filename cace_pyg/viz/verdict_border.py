"""Right or wrong, told by colour, line and sign at once."""

from matplotlib.axes import Axes

from cace_pyg.viz.palette import BLUE, GREY, VERMILLION


def verdict_sign(is_match: bool | None) -> str:
    """✓ for the same person, ✗ for another, nothing where nobody knows."""
    return {True: "✓", False: "✗", None: ""}[is_match]


def verdict_color(is_match: bool | None) -> str:
    """Blue for the same person, vermillion for another, grey where nobody knows."""
    return {True: BLUE, False: VERMILLION, None: GREY}[is_match]


def draw_verdict_border(axes: Axes, is_match: bool | None) -> None:
    """Frame ``axes``: blue and solid for the same person, vermillion and dashed for another, else thin and grey."""
    for spine in axes.spines.values():
        spine.set_visible(True)
        # Butt caps: the default ones reach into the gaps and make the dashes look solid.
        style = {"linestyle": (0, (2.0, 1.0)) if is_match is False else "-", "capstyle": "butt"}
        spine.set(color=verdict_color(is_match), linewidth=1.0 if is_match is None else 3.0, **style)
