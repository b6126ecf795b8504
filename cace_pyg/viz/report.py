"""A run as one self-contained HTML page."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal, get_args

from matplotlib.figure import Figure

from cace_pyg.viz.inline_png import inline_pngs
from cace_pyg.viz.report_style import STYLE
from cace_pyg.viz.results_table import results_table, second_stage_verdict

Section = Literal["Training", "Retrieval", "Queries"]


@dataclass(frozen=True)
class ReportFigure:
    """One figure of a report."""

    title: str
    """Its heading, and its text for those who cannot see it unless ``alt`` is given."""
    caption: str
    """What to look at, in a sentence or two."""
    figure: Figure
    """The figure; about 9 inches wide, so that its words keep their size."""
    section: Section = "Queries"
    """The section it stands in."""
    alt: str = ""
    """What the figure shows, for those who cannot see it; "" takes the title."""

    def __post_init__(self) -> None:
        if self.section not in get_args(Section):
            raise ValueError(f"Expected a section of {', '.join(get_args(Section))} (got {self.section!r})")


@dataclass(frozen=True)
class Report:
    """What a report says. Every text is plain text, and escaped."""

    title: str
    """The heading, such as "CACE-Net on Market-1501"."""
    summary: Sequence[str] = ()
    """Sentences, one a paragraph; what the second stage did is added from the numbers."""
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By ranking ("individual", "two_stage"), then measure (mAP, rank1, rank5, rank10, mINP): fractions."""
    policy: str = ""
    """One line on how was evaluated: junk, distractors, cameras, which images were ranked again."""
    figures: Sequence[ReportFigure] = ()
    """The figures, in order within their section."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Versions, seed, machine, command, fingerprint of the data set."""
    config_yaml: str = ""
    """The whole configuration."""


def write_report(path: str | Path, report: Report) -> Path:
    """Write ``report`` as one HTML file that needs nothing else: no network, no script, no other file.

    The page is rendered whole, written beside its place and then moved there in one step, so a reader never
    sees half a page, and a failure leaves the old one as it was.

    Args:
        path: the file to write, such as ``runs/market/report.html``; its folder is made where it is missing.
        report: what it says.

    Returns:
        The path written.

    Raises:
        ValueError: a result outside 0 to 1.
        OSError: the file cannot be written.
    """
    path = Path(path)
    page = _page(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, page)
    return path


def _replace(path: Path, page: str) -> None:
    # A folder of its own, not mkstemp: the file gets the permissions of the user's umask, not 0600.
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
    """The sections that have something to say, in the order of the page."""
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
    """On a narrow screen this box scrolls sideways and the page does not; the keyboard reaches it too."""
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
    return f"<details><summary>The whole configuration (YAML)</summary>{content}</details>"
