"""Plots times or sizes that differ by powers of ten."""

from collections.abc import Sequence

from matplotlib.axes import Axes


def dot_plot(axes: Axes, names: Sequence[str], values: Sequence[float], title: str, unit: str) -> None:
    """One dot per name on a log axis, with its value; the first name is on top.

    Bars would start at an arbitrary point of the log axis, so their lengths would mean nothing.
    """
    places = range(len(names))[::-1]
    axes.scatter(values, places, color="#0072b2", zorder=3)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:,.3g}" if value < 100 else f"{value:,.0f}",
            (value, place),
            (7, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_yticks(list(places), list(names))
    axes.set(title=title, xscale="log", xlabel=f"{unit} (log scale)")
    axes.set_xlim(min(values) / 1.5, max(values) * 3)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(True, axis="both", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
