"""docs/sharing.md, command by command, with a run on the tiny data set in place of the demo's."""

import json
import re
import shlex
import shutil
from pathlib import Path

from tests.run_module import run_module

PAGE = (Path(__file__).parents[1] / "docs" / "sharing.md").read_text()
COMMANDS = re.findall(r"^python -m (.+)$", PAGE, re.MULTILINE)
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_runs_from_its_first_line_to_its_last(tiny, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "synthetic" / "checkpoints").mkdir(parents=True)
    shutil.copy(trained.best, tmp_path / "runs" / "synthetic" / "checkpoints")
    shutil.copy(trained.folder / "metrics.json", tmp_path / "runs" / "synthetic")
    for name in ("synthetic", "mine"):
        shutil.copytree(tiny, tmp_path / "data" / name)
    shutil.copy(next((tiny / "query").glob("*.jpg")), tmp_path / "first.jpg")
    assert len(COMMANDS) == 5 and len(PROGRAMS) == 1
    for command in COMMANDS:
        assert run_module(*shlex.split(command)) == 0, command
    assert (tmp_path / "people_calibrated.ckpt").is_file() and (tmp_path / "vectors.npy").is_file()
    capsys.readouterr()
    names = {}
    exec(PROGRAMS[0].replace("data/mine/query/first.jpg", "first.jpg"), names)
    weight = json.loads((tmp_path / "runs" / "synthetic" / "metrics.json").read_text())["fusion_weight"]
    assert capsys.readouterr().out == f"256 channels, fusion weight {weight}\n" and names["vectors"].shape == (1, 16)


def test_the_table_names_the_files_there_are(trained, tmp_path):
    assert run_module("cace_pyg.export", "--checkpoint", str(trained.best), "--bundle", str(tmp_path / "people")) == 0
    listed = {name.rstrip("/") for name in re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)}
    assert {path.name for path in (tmp_path / "people").iterdir()} | {"network"} == listed


def test_pages_that_it_names_are_there():
    pages = re.findall(r"docs/\w+\.md", PAGE)
    assert pages and all((Path(__file__).parents[1] / page).is_file() for page in pages)
