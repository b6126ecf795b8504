"""The gain of each row of an ablation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from cace_pyg.viz.style import BLUE, GREY, ORANGE, VERMILLION

_ROW_HEIGHT = 0.42
_WIDTH = 9.0


class AblationGain(NamedTuple):
    """One row; percentage points over the baseline.

    Attributes:
        name: of the row.
        mAP: mean, lower and upper end of its interval.
        rank1: the same.
        seeds_mAP: of each seed.
        seeds_rank1: of each seed.
        paper: the paper's gains of mAP and Rank-1 over its own baseline; None if it has no such row.
        is_control: whether it is a control, drawn in grey.
    """

    name: str
    mAP: tuple[float, float, float]
    rank1: tuple[float, float, float]
    seeds_mAP: tuple[float, ...]
    seeds_rank1: tuple[float, ...]
    paper: tuple[float, float] | None
    is_control: bool


def ablation_gains(rows: Sequence[AblationGain], title: str) -> Figure:
    """Draw the gains of mAP and Rank-1 over the baseline: mean and interval, a dot per seed, a diamond for the paper.

    Args:
        rows: from top to bottom.
        title: of the figure.

    Returns:
        A figure of two panels.

    Raises:
        ValueError: there are no rows, or a number is not finite.
    """
    if not rows:
        raise ValueError("Expected at least one row to draw (got none)")
    for row in rows:
        if not all(map(math.isfinite, (*row.mAP, *row.rank1, *row.seeds_mAP, *row.seeds_rank1))):
            raise ValueError(f"Expected finite gains (got {row})")
    figure = Figure(figsize=(_WIDTH, 1.6 + _ROW_HEIGHT * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, measure in zip(panels, ("mAP", "rank1"), strict=True):
        for place, row in enumerate(rows):
            mean, low, high = getattr(row, measure)
            colour = GREY if row.is_control else BLUE
            panel.barh(place, mean, height=0.55, color=colour, alpha=0.35, label="mean over seeds")
            panel.plot([low, high], [place, place], color=colour, linewidth=2.5, label="95 % interval over queries")
            seeds = getattr(row, f"seeds_{measure}")
            panel.plot(seeds, [place] * len(seeds), "o", color=VERMILLION, markersize=4, label="a seed")
            if row.paper is not None:
                panel.plot(
                    row.paper[measure == "rank1"], place, "D", color=ORANGE, markersize=6, label="the paper's gain"
                )
        panel.axvline(0, color="black", linewidth=0.8)
        panel.set_xlabel(f"{'mAP' if measure == 'mAP' else 'Rank-1'} gained, percentage points")
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(rows)), [row.name for row in rows])
    panels[0].invert_yaxis()
    figure.suptitle(title, fontsize=11)
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure
