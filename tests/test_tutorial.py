"""docs/tutorial.md, followed to the letter."""

import re
import shlex
from pathlib import Path

import pytest

from tests.run_module import run_module

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), re.DOTALL)


@pytest.mark.report
def test_every_block_runs_in_order(report, tmp_path, monkeypatch, capsys):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    session: dict = {}  # the second block of Python goes on where the first stopped
    assert [kind for kind, _ in BLOCKS].count("python") == 2
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, session)
        else:
            for line in text.splitlines():
                python, option, *arguments = shlex.split(line)
                assert (python, option, run_module(*arguments)) == ("python", "-m", 0), line
        printed = capsys.readouterr().out
        if "search query" in text:
            assert "individual" in printed and "camera" in printed
        if "gallery.search" in text:
            assert len(re.findall(r"\d \d+ -?\d\.\d{3} ", printed)) == 5
    for name in ("answer.png", "correspondences.png", "conditional_maps.png", "run/report.html"):
        assert (tmp_path / name).stat().st_size > 10_000
