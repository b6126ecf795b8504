"""A run as one self-contained HTML page."""

import base64
import io
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Section = Literal["Training", "Retrieval", "Queries"]


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report."""

    title: str
    """Its heading, and its alternative text unless ``alt`` is given."""
    caption: str
    """What to look at, in a sentence or two."""
    figure: Figure
    """The figure; about 9 inches wide, so that its text keeps its size."""
    section: Section = "Queries"
    """The section that it belongs to."""
    alt: str = ""
    """Alternative text: what the figure shows; "" uses the title."""

    def __post_init__(self) -> None:
        if self.section not in get_args(Section):
            raise ValueError(f"Expected a section of {', '.join(get_args(Section))} (got {self.section!r})")


@dataclass(frozen=True)
class Report:
    """The contents of a report. All texts are plain text and are escaped."""

    title: str
    """The heading, such as "CACE-Net on Market-1501"."""
    summary: Sequence[str] = ()
    """Sentences, one per paragraph; a sentence about the second stage is added from the numbers."""
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Fractions by ranking ("individual", "two_stage") and by measure (mAP, rank1, rank5, rank10, mINP)."""
    policy: str = ""
    """One line about the evaluation: junk, distractors, cameras, which images were re-ranked."""
    figures: Sequence[ReportFigure] = ()
    """The figures, in order within their section."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions, seed, machine, command, fingerprint of the data set."""
    config_yaml: str = ""
    """The whole configuration."""


def write_report(path: str | Path, report: Report) -> Path:
    """Write ``report`` as one HTML file that needs nothing else: no network, no script, no other file.

    The page is written to another file and then moved into place in one step. So a reader never sees half a page, and a
    failure leaves the old page unchanged.

    Args:
        path: the file to write, such as ``runs/market/report.html``; its folder is made if it is missing.
        report: its contents.

    Returns:
        The path written.

    Raises:
        ValueError: a result is outside 0 to 1.
        OSError: the file cannot be written.
    """
    path = Path(path)
    page = _page(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, page)
    return path


def _replace(path: Path, page: str) -> None:
    # Its own folder, not mkstemp: the file gets the permissions of the user's umask, not 0600.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        written.write_text(page, encoding="utf-8")
        os.replace(written, path)


def _page(report: Report) -> str:
    sections = _sections(report)
    contents = "".join(f'<li><a href="#{_anchor(name)}">{name}</a></li>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{name}</h2>{content}</section>\n' for name, content in sections.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{STYLE}</style></head>\n"
        f"<body><header><h1>{escape(report.title)}</h1>"
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav></header>\n'
        f"<main>\n{body}</main></body></html>\n"
    )


def _anchor(section: str) -> str:
    return section.lower()


def _sections(report: Report) -> dict[str, str]:
    """The sections that have contents, in the order of the page."""
    sections = {"Summary": _summary(report), "Results": _results(report)}
    sections |= _figure_sections(report.figures)
    sections |= {
        "Environment": _environment(report.environment),
        "Configuration": _config(report.config_yaml),
    }
    return {name: content for name, content in sections.items() if content}


def _summary(report: Report) -> str:
    paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in report.summary)
    verdict = second_stage_verdict(report.results)
    if not verdict:
        return paragraphs
    verdict_class = "verdict no-gain" if "did not help" in verdict else "verdict"
    return paragraphs + f'<p class="{verdict_class}">{escape(verdict)}</p>'


def _results(report: Report) -> str:
    if not report.results:
        return ""
    policy = f'<p class="policy">{escape(report.policy)}</p>' if report.policy else ""
    return _scroll(results_table(report.results), "Results") + policy


def _figure_sections(figures: Sequence[ReportFigure]) -> dict[str, str]:
    uris = inline_pngs([shown.figure for shown in figures])
    sections = dict.fromkeys(get_args(Section), "")
    for shown, uri in zip(figures, uris, strict=True):
        sections[shown.section] += _figure(shown, uri)
    return sections


def _figure(shown: ReportFigure, uri: str) -> str:
    picture = f'<img src="{uri}" alt="{escape(shown.alt or shown.title)}">'
    caption = f"<figcaption>{escape(shown.caption)}</figcaption>" if shown.caption else ""
    swipe = '<p class="swipe" aria-hidden="true">↔ swipe the picture sideways</p>'
    return f"<figure><h3>{escape(shown.title)}</h3>{_scroll(picture, shown.title)}{swipe}{caption}</figure>\n"


def _scroll(content: str, label: str) -> str:
    """A box that scrolls sideways on a narrow screen, instead of the page; the keyboard can reach it."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def _environment(environment: Mapping[str, str]) -> str:
    if not environment:
        return ""
    entries = "".join(
        f"<dt>{escape(str(name))}</dt><dd>{escape(str(value))}</dd>" for name, value in environment.items()
    )
    return f"<dl>{entries}</dl>"


def _config(config_yaml: str) -> str:
    if not config_yaml:
        return ""
    content = f"<pre>{escape(config_yaml)}</pre>"
    return f"<details><summary>The complete configuration (YAML)</summary>{content}</details>"


Results = Mapping[str, Mapping[str, float]]
_FIRST, _SECOND = "individual", "two_stage"
_LABELS = {"mAP": "mAP", "rank1": "Rank-1", "rank5": "Rank-5", "rank10": "Rank-10", "mINP": "mINP"}


def results_table(results: Results) -> str:
    """One row per ranking, in percent, with the best of each column in bold; below them the difference in points.

    Args:
        results: by ranking ("individual", "two_stage"), then by measure (``mAP``, ``rank1``, ``rank5``,
            ``rank10``, ``mINP``, then others), fractions from 0 to 1; NaN if there is none.

    Returns:
        A ``<table>`` element. Names are escaped.

    Raises:
        ValueError: a value is outside 0 to 1.
    """
    _check_fractions(results)
    measures = _measures(results)
    rows = [_table_row(name, [_table_cell(results, name, measure) for measure in measures]) for name in results]
    if _FIRST in results and _SECOND in results:
        cells = [_points(_gain(results, measure)) for measure in measures]
        rows.append(_table_row("difference, points", cells, "difference"))
    head = "".join(f'<th scope="col">{escape(_LABELS.get(measure, measure))}</th>' for measure in measures)
    return f'<table><thead><tr><th scope="col">ranking, %</th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def second_stage_verdict(results: Results) -> str:
    """Say in one or two plain sentences whether the second stage helped, from the numbers alone.

    Args:
        results: as for :func:`results_table`.

    Returns:
        Plain text; "" unless both rankings have an mAP. Measures that fell although the mAP rose are named.
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
    """Two-stage minus individual, in points (0.01 of a fraction); NaN if one of them is missing."""
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


def _table_cell(results: Results, name: str, measure: str) -> str:
    value = results[name].get(measure, math.nan)
    if math.isnan(value):
        return "–"
    # Values are compared as shown: equal numbers must look the same, so a tie has no winner.
    shown = {other: _rounded(100 * row[measure]) for other, row in results.items() if measure in row}
    rivals = [number for other, number in shown.items() if other != name and not math.isnan(number)]
    text = f"{100 * value:.1f}"
    return f"<b>{text}</b>" if rivals and shown[name] > max(rivals) else text


def _table_row(name: str, cells: list[str], row_class: str = "") -> str:
    opening = f'<tr class="{row_class}">' if row_class else "<tr>"
    return f'{opening}<th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


# 100 dpi fills a page of 900 pixels; more is for high-resolution screens, less keeps reports with many figures small.
_DOTS_PER_INCH = (140, 100, 80, 65)


# 32 levels per channel, with black and white: no colour changes by more than 4 of 255, and photographs take half
# the space. A palette of 256 colours would lose rare colours, such as the top of a colour bar.
_LEVELS = 32
_COARSER = [round(round(value * (_LEVELS - 1) / 255) * 255 / (_LEVELS - 1)) for value in range(256)]


def inline_pngs(figures: Sequence[Figure], budget: int = 4_500_000) -> list[str]:
    """Render figures as PNG data URIs with at most ``budget`` characters in total.

    All have the same resolution: the finest of 140, 100, 80 and 65 dpi within the budget, or else 65 dpi, at which text
    is still readable. Colours are rounded to 32 levels per channel.

    Args:
        figures: what to render; they are not changed.
        budget: of all URIs together, in characters, which are bytes of the HTML file.

    Returns:
        One ``data:image/png;base64,…`` per figure, in order.
    """
    for dots_per_inch in _DOTS_PER_INCH[:-1]:
        uris = _within(budget, figures, dots_per_inch)
        if uris is not None:
            return uris
    return [_inline_png(figure, _DOTS_PER_INCH[-1]) for figure in figures]


def _within(budget: int, figures: Sequence[Figure], dots_per_inch: int) -> list[str] | None:
    """The URIs at this resolution; None as soon as they exceed the budget, since rendering is slow."""
    uris: list[str] = []
    for figure in figures:
        uris.append(_inline_png(figure, dots_per_inch))
        if sum(map(len, uris)) > budget:
            return None
    return uris


def _inline_png(figure: Figure, dots_per_inch: int) -> str:
    before = figure.canvas, figure.dpi, figure.get_facecolor()
    canvas = FigureCanvasAgg(figure)
    try:
        figure.set(dpi=dots_per_inch, facecolor="white")
        canvas.draw()  # savefig would draw a figure with a layout twice
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").point(_COARSER * 3)
    finally:
        figure.set_canvas(before[0])
        figure.set(dpi=before[1], facecolor=before[2])
    reduced = io.BytesIO()
    image.save(reduced, format="PNG", compress_level=6)
    return "data:image/png;base64," + base64.b64encode(reduced.getvalue()).decode("ascii")


STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5b5b66; --page: #ffffff;
  --card: #f4f5f7; --line: #d8dae0; --accent: #005a8f; --warn: #a34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8ec; --soft: #a9abb5; --page: #17181c;
  --card: #22242a; --line: #3a3d46; --accent: #79c3f2; --warn: #ffa45c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 0 0 .4rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; max-width: 44rem; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav ol { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 1rem 0; padding: .6rem .9rem;
  list-style: none; background: var(--card); border-radius: .4rem; }
nav a { display: inline-block; padding: .25rem 0; }
.verdict { padding: .6rem .9rem; border-left: .25rem solid var(--accent); background: var(--card); }
.verdict.no-gain { border-left-color: var(--warn); }
.policy, figcaption { color: var(--soft); font-size: .92rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child { padding-left: .2rem; text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: .92rem; }
tbody th { font-weight: 500; }
td b { font-weight: 750; }
.difference th, .difference td { border-bottom: 0; color: var(--soft); }
figure { margin: 1.25rem 0 2.25rem; }
figure .scroll { background: #ffffff; border: 1px solid var(--line); border-radius: .4rem; padding: .5rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; max-width: 44rem; overflow-wrap: anywhere; }
.swipe { display: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0;
  font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; font: .88rem/1.6 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { cursor: pointer; padding: .4rem 0; }
pre { margin: .5rem 0 0; padding: .9rem; overflow-x: auto; background: var(--card); border-radius: .4rem;
  font: .85rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
@media (max-width: 40rem) {
  body { padding-top: 1rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding: .35rem .3rem; font-size: .85rem; }
  th:first-child { white-space: normal; }
  thead th { font-size: .75rem; }
  figure img { width: 44rem; max-width: none; }
  .swipe { display: block; color: var(--soft); font-size: .8rem; margin: .25rem 0 0; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print { body { max-width: none; } figure { break-inside: avoid; } nav { display: none; } }
"""
