"""The report: one file, whole or not at all."""

import base64
import io
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cace_pyg.viz import Report, ReportFigure, write_report
from cace_pyg.viz.report import inline_pngs

_EVIL = "<script>alert('x')</script> & \"quoted\""


class _Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def values(self, *names: str) -> list[str]:
        return [attributes[name] for _, attributes in self.tags for name in names if name in attributes]


def _figure() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    return figure


def _report(**changes) -> Report:
    values = {
        "title": "CACE-Net on rendered people",
        "summary": ["Trained for 20 epochs."],
        "results": {"individual": {"mAP": 0.664}, "two_stage": {"mAP": 0.661}},
        "policy": "Same camera left out as junk.",
        "figures": [
            ReportFigure("Query 1", "Before and after.", _figure(), "Queries"),
            ReportFigure("Losses", "Both phases.", _figure(), "Training", alt="two falling curves"),
        ],
        "environment": {"seed": "0", "command": "python -m cace_pyg.train"},
        "config_yaml": "seed: 0\n",
    }
    return Report(**values | changes)


def test_sections_in_order_and_in_the_contents(tmp_path: Path) -> None:
    path = write_report(tmp_path / "runs" / "report.html", _report())
    page = _Page(path)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["summary", "results", "training", "queries", "environment", "configuration"]
    assert page.values("href") == [f"#{name}" for name in sections]
    assert "The second stage did not help here: −0.3 mAP." in page.text
    assert "<details>" in page.text and "seed: 0\n</pre>" in page.text


def test_needs_nothing_else(tmp_path: Path) -> None:
    page = _Page(write_report(tmp_path / "report.html", _report()))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href"))
    assert not page.values("srcset", "data", "action", "poster")
    assert "url(" not in page.text and "@import" not in page.text and str(tmp_path) not in page.text


def test_figures_are_pictures_with_words_for_them(tmp_path: Path) -> None:
    page = _Page(write_report(tmp_path / "report.html", _report()))
    assert page.values("alt") == ["two falling curves", "Query 1"]
    for uri in page.values("src"):
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
            assert image.format == "PNG" and image.size == (280, 140)


def test_every_text_is_escaped(tmp_path: Path) -> None:
    report = _report(
        title=_EVIL,
        summary=[_EVIL],
        results={_EVIL: {_EVIL: 0.5}},
        policy=_EVIL,
        figures=[ReportFigure(_EVIL, _EVIL, _figure(), alt=_EVIL)],
        environment={_EVIL: _EVIL},
        config_yaml=_EVIL,
    )
    page = _Page(write_report(tmp_path / "report.html", report))
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;") == 13
    assert page.values("alt") == [_EVIL]


def test_only_what_there_is_gets_a_section(tmp_path: Path) -> None:
    page = _Page(write_report(tmp_path / "report.html", Report("Nothing yet", ["No epoch was run."])))
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"] == ["summary"]


class _Broken(Figure):
    def draw(self, renderer) -> None:
        raise RuntimeError("cannot draw")


def test_a_failing_render_leaves_the_old_report(tmp_path: Path) -> None:
    path = write_report(tmp_path / "report.html", _report())
    old = path.read_bytes()
    with pytest.raises(RuntimeError, match="cannot draw"):
        write_report(path, _report(title="new", figures=[ReportFigure("a", "b", _Broken())]))
    with pytest.raises(ValueError, match="fraction"):
        write_report(path, _report(title="new", results={"individual": {"mAP": 66.4}}))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_move_leaves_the_old_report_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_report(tmp_path / "report.html", _report())
    old = path.read_bytes()

    def fail(source: Path, target: Path) -> None:
        assert Path(source).parent.parent == tmp_path, "another folder may be another disk: no single step"
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(path, _report(title="new"))
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_others_may_read_it_as_any_other_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    path = write_report(tmp_path / "report.html", _report())
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_an_unknown_section_is_refused() -> None:
    with pytest.raises(ValueError, match="Training, Retrieval, Queries"):
        ReportFigure("a", "b", _figure(), section="Misc")  # type: ignore[arg-type]


def test_many_figures_share_a_coarser_resolution() -> None:
    figure = Figure(figsize=(3, 3))
    figure.subplots().imshow(np.random.default_rng(0).random((200, 200, 3)))
    fine = inline_pngs([figure] * 2)
    coarse = inline_pngs([figure] * 2, budget=sum(map(len, fine)) - 1)
    assert sum(map(len, coarse)) < sum(map(len, fine))
    assert len(inline_pngs([figure], budget=1)) == 1


def test_the_reduction_moves_no_colour_far() -> None:
    # A photograph that asks for every colour, a verdict's border, and a small colour bar.
    figure = Figure(figsize=(6, 4))
    photograph, heat = figure.subplots(1, 2, width_ratios=[9, 1])
    photograph.imshow(np.random.default_rng(0).random((60, 60, 3)) * 0.4)
    for spine in photograph.spines.values():
        spine.set(color="#0072B2", linewidth=3)
    figure.colorbar(heat.imshow(np.arange(4.0).reshape(2, 2), cmap="viridis"))
    exact, uri = io.BytesIO(), inline_pngs([figure])[0]
    figure.savefig(exact, format="png", dpi=140, facecolor="white")
    with (
        Image.open(exact) as before,
        Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as after,
    ):
        shifts = np.asarray(before.convert("RGB")).astype(int) - np.asarray(after.convert("RGB"))
    assert np.abs(shifts).max() <= 4
