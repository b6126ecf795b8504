"""A training log as curves."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cace_pyg.viz.style import GREY, series_style

LogRow = dict[str, float | str | None]

_VALIDATION = "validation_"
_DENSITY = "density_"
_NOT_LOSSES = ("epoch", "phase", "learning_rate", "seconds")
_LOG_SCALE_FROM = 20.0
_LOG_RATE_UP_TO = 1000.0
_MARKERS = 14


def loss_curves(log: Sequence[LogRow]) -> Figure:
    """Draw the losses and, if the log has them, the validation mAP, the graph's density and the learning rate.

    Args:
        log: the rows of ``log.csv``, oldest first. Keys: ``epoch``, ``phase`` ("joint" or "pair"),
            ``learning_rate``, columns that start with ``validation_`` (fractions; those named after mAP are
            drawn) or with ``density_`` (fractions), ``seconds`` (not drawn), and one column per loss term, in nats or
            distance units. Numbers may be strings, as ``csv`` reads them; None, "" or a missing key is a gap.

    Returns:
        A figure of one to four panels over the epochs, with a vertical line where the phase changes. If the epoch
        starts again in the second phase, epochs are numbered consecutively.

    Raises:
        ValueError: the log is empty, a row lacks ``epoch`` or ``phase``, a value is not a number, or no loss term has
            one.
    """
    _check_log(log)
    losses = _series(log, [name for name in _columns(log) if _is_loss(name)])
    if not losses:
        raise ValueError(f"Expected a loss term besides {', '.join(_NOT_LOSSES)} (got columns {_columns(log)})")
    validation = _series(log, [name for name in _columns(log) if _is_validation_map(name)])
    densities = _series(log, [name for name in _columns(log) if name.startswith(_DENSITY)])
    rates = _series(log, ["learning_rate"])
    panels = 1 + bool(validation) + bool(densities) + bool(rates)
    epochs, is_counted = _epochs(log)

    figure = Figure(figsize=(9.0, 1.2 + 3.0 + 1.9 * (panels - 1)), layout="constrained")
    ratios = [3.0] + [1.7] * (panels - 1)
    axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0])
    # The phases have other weights and samples: a line across both would show a drop that is not real.
    _draw_losses(axes[0], epochs, losses, _changes(_phases(log)))
    if validation:
        _draw_percent(axes[1], epochs, validation, _VALIDATION, "validation mAP, %")
    if densities:
        _draw_percent(axes[1 + bool(validation)], epochs, densities, _DENSITY, "edges, % of all pairs")
    if rates:
        _draw_rate(axes[-1], epochs, rates["learning_rate"])
    for panel in axes:
        _draw_phase_changes(panel, epochs, _phases(log))
        panel.grid(True, color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    _name_phases(axes[0], epochs, _phases(log))
    axes[-1].set_xlabel("epoch (counted through both phases)" if is_counted else "epoch")
    # Half an epoch of space, so that a log with one row also has an axis.
    axes[-1].set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _check_log(log: Sequence[LogRow]) -> None:
    if not log:
        raise ValueError("Expected at least one row of log.csv (got none); train for one epoch first")
    for number, row in enumerate(log, start=1):
        for key in ("epoch", "phase"):
            if row.get(key) in (None, ""):
                raise ValueError(f"Expected a value for {key!r} in every row of the log (row {number} has none)")


def _columns(log: Sequence[LogRow]) -> list[str]:
    return list(dict.fromkeys(name for row in log for name in row))


def _is_loss(name: str) -> bool:
    return name not in _NOT_LOSSES and not name.startswith((_VALIDATION, _DENSITY))


def _is_validation_map(name: str) -> bool:
    return name.startswith(_VALIDATION) and "map" in name.lower()


def _number(value: float | str | None, name: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"Expected a number or a blank in column {name!r} of the log (got {value!r})") from None


def _series(log: Sequence[LogRow], names: list[str]) -> dict[str, np.ndarray]:
    """The named columns with at least one finite number; NaN for rows without one."""
    columns = {name: np.array([_number(row.get(name), name) for row in log]) for name in names}
    return {name: values for name, values in columns.items() if np.isfinite(values).any()}


def _epochs(log: Sequence[LogRow]) -> tuple[np.ndarray, bool]:
    """The epochs, and whether they had to be renumbered because a later phase starts again."""
    epochs = np.array([_number(row["epoch"], "epoch") for row in log])
    if (np.diff(epochs) > 0).all():
        return epochs, False
    return np.arange(1.0, len(log) + 1.0), True


def _phases(log: Sequence[LogRow]) -> list[str]:
    return [str(row["phase"]) for row in log]


def _draw(axes: Axes, epochs: np.ndarray, columns: dict[str, np.ndarray], starts: list[int]) -> None:
    """Draw one line per column through its known values, broken at the rows ``starts``."""
    for index, (name, values) in enumerate(columns.items()):
        known = np.flatnonzero(np.isfinite(values))
        breaks = np.searchsorted(known, starts)
        # A NaN point breaks the line; a blank between two known values does not.
        x, y = np.insert(epochs[known], breaks, np.nan), np.insert(values[known], breaks, np.nan)
        marked = _marked(x, epochs[-1] - epochs[0])
        axes.plot(x, y, label=name, markersize=4.5, linewidth=1.6, markevery=marked, **series_style(index))


def _marked(x: np.ndarray, span: float) -> list[int]:
    """The points that get a marker: the first of each section of the axis, and the first after each break."""
    stretch = np.floor(_MARKERS * (x - x[0]) / max(span, 1.0))
    # NaN differs from everything, so a break starts a new section, and a phase of one epoch is still visible.
    opens = np.append(True, stretch[1:] != stretch[:-1])
    return np.flatnonzero(opens & np.isfinite(x)).tolist()


def _draw_losses(axes: Axes, epochs: np.ndarray, losses: dict[str, np.ndarray], starts: list[int]) -> None:
    _draw(axes, epochs, losses, starts)
    values = np.concatenate([column[np.isfinite(column)] for column in losses.values()])
    is_log = values.min() > 0 and values.max() / values.min() >= _LOG_SCALE_FROM
    axes.set_yscale("log" if is_log else "linear")
    axes.set_ylabel("loss (log scale)" if is_log else "loss")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, handlelength=3)


def _draw_percent(axes: Axes, epochs: np.ndarray, columns: dict[str, np.ndarray], prefix: str, label: str) -> None:
    _draw(axes, epochs, {name.removeprefix(prefix): 100 * values for name, values in columns.items()}, [])
    axes.set_ylabel(label)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9, handlelength=3)


def _draw_rate(axes: Axes, epochs: np.ndarray, rate: np.ndarray) -> None:
    axes.plot(epochs, rate, drawstyle="steps-mid", color=GREY, linewidth=1.6, marker="." if len(rate) == 1 else "")
    low, high = np.nanmin(rate), np.nanmax(rate)
    # Steps by factors of ten need a log axis; a cosine that falls to almost zero would fill it with its end.
    axes.set_yscale("log" if low > 0 and high / low <= _LOG_RATE_UP_TO else "linear")
    axes.set_ylabel("learning rate")


def _changes(phases: list[str]) -> list[int]:
    """The rows that start a phase, without the first row."""
    return [row for row in range(1, len(phases)) if phases[row] != phases[row - 1]]


def _draw_phase_changes(axes: Axes, epochs: np.ndarray, phases: list[str]) -> None:
    for row in _changes(phases):
        axes.axvline((epochs[row - 1] + epochs[row]) / 2, color=GREY, linewidth=1.0, linestyle=(0, (4, 3)))


def _name_phases(axes: Axes, epochs: np.ndarray, phases: list[str]) -> None:
    starts = [0, *_changes(phases)]
    for start, end in zip(starts, [*starts[1:], len(phases)], strict=True):
        middle = (epochs[start] + epochs[end - 1]) / 2
        axes.text(
            middle,
            1.02,
            f"{phases[start]} phase",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=9,
            color=GREY,
        )
