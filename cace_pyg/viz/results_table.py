"""The measures of both stages as an HTML table, and what they say about the second stage."""

import math
from collections.abc import Mapping
from html import escape

Results = Mapping[str, Mapping[str, float]]

_FIRST, _SECOND = "individual", "two_stage"
_LABELS = {"mAP": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mINP": "mINP"}


def results_table(results: Results) -> str:
    """One row a ranking, in percent; the best of each column bold; below, the difference in points.

    Args:
        results: by ranking ("individual", "two_stage"), then by measure (``mAP``, ``rank1``, ``rank5``,
            ``rank10``, ``mINP``, others behind them), fractions from 0 to 1; NaN where there is none.

    Returns:
        A ``<table>`` element. Names are escaped.

    Raises:
        ValueError: a value outside 0 to 1.
    """
    _check_fractions(results)
    measures = _measures(results)
    rows = [_row(name, [_cell(results, name, measure) for measure in measures]) for name in results]
    if _FIRST in results and _SECOND in results:
        cells = [_points(_gain(results, measure)) for measure in measures]
        rows.append(_row("difference, points", cells, "difference"))
    head = "".join(f'<th scope="col">{escape(_LABELS.get(measure, measure))}</th>' for measure in measures)
    return f'<table><thead><tr><th scope="col">ranking, %</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def second_stage_verdict(results: Results) -> str:
    """Say in one or two plain sentences whether the second stage helped, from the numbers alone.

    Args:
        results: as for :func:`results_table`.

    Returns:
        Plain text; "" unless both rankings have an mAP. Measures that fell while the mAP rose are named.
    """
    gain = _gain(results, "mAP")
    if math.isnan(gain):
        return ""
    if _rounded(gain) <= 0:
        return f"The second stage did not help here: {_points(gain)} mAP."
    fell = [measure for measure in _measures(results) if _rounded(_gain(results, measure)) < 0]
    losses = ", ".join(f"{_LABELS.get(measure, measure)} {_points(_gain(results, measure))}" for measure in fell)
    but = f", but {losses}" if losses else ""
    caution = "One run is no proof: compare over several seeds."
    return f"The second stage helped here: {_points(gain)} mAP{but}. {caution}"


def _check_fractions(results: Results) -> None:
    for name, row in results.items():
        for measure, value in row.items():
            if not (math.isnan(value) or 0 <= value <= 1):
                raise ValueError(
                    f"Expected {measure} of {name!r} as a fraction from 0 to 1 (got {value:g}); divide percent by 100"
                )


def _measures(results: Results) -> list[str]:
    found = dict.fromkeys(measure for row in results.values() for measure in row)
    return [measure for measure in _LABELS if measure in found] + [name for name in found if name not in _LABELS]


def _gain(results: Results, measure: str) -> float:
    """Two-stage minus individual, in points (0.01 of a fraction); NaN where one of them is missing."""
    first, second = (results.get(name, {}).get(measure, math.nan) for name in (_FIRST, _SECOND))
    return 100 * (second - first)


def _rounded(points: float) -> float:
    return round(points, 1)


def _points(points: float) -> str:
    if math.isnan(points):
        return "–"
    if _rounded(points) == 0:
        return "±0.0"
    return f"{points:+.1f}".replace("-", "−")


def _cell(results: Results, name: str, measure: str) -> str:
    value = results[name].get(measure, math.nan)
    if math.isnan(value):
        return "–"
    # Compared as shown: what reads the same must look the same, so a tie has no winner.
    shown = {other: _rounded(100 * row[measure]) for other, row in results.items() if measure in row}
    rivals = [number for other, number in shown.items() if other != name and not math.isnan(number)]
    text = f"{100 * value:.1f}"
    return f"<b>{text}</b>" if rivals and shown[name] > max(rivals) else text


def _row(name: str, cells: list[str], row_class: str = "") -> str:
    opening = f'<tr class="{row_class}">' if row_class else "<tr>"
    return f'{opening}<th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
