"""Right or wrong, told by colour, line and sign at once."""

from matplotlib.axes import Axes

from cace_pyg.viz.palette import BLUE, VERMILLION


def verdict_sign(is_match: bool) -> str:
    """✓ for the same person, ✗ for another."""
    return "✓" if is_match else "✗"


def verdict_color(is_match: bool) -> str:
    """Blue for the same person, vermillion for another."""
    return BLUE if is_match else VERMILLION


def draw_verdict_border(axes: Axes, is_match: bool) -> None:
    """Frame ``axes``: blue and solid for the same person, vermillion and dashed for another."""
    for spine in axes.spines.values():
        spine.set_visible(True)
        # Butt caps: the default ones reach into the gaps and make the dashes look solid.
        style = {"linestyle": "-" if is_match else (0, (2.0, 1.0)), "capstyle": "butt"}
        spine.set(color=verdict_color(is_match), linewidth=3.0, **style)
