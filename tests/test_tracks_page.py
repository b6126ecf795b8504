"""docs/tracks.md: its commands and programs run, in their order."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from cace_pyg import Features, fit_pair_stage
from cace_pyg.config import PairPhaseSettings
from cace_pyg.data import read_market_layout
from tests.data.test_mars import lists, tree
from tests.random_checkpoint import make_checkpoint
from tests.run_module import run_module

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tracks.md").read_text()
BLOCKS = re.findall(r"```(python)?\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if not kind for line in text.splitlines()]


@pytest.fixture
def here(tiny, tmp_path, monkeypatch):
    """A folder with all that the page names."""
    make_checkpoint(tmp_path / "RUN_DIR" / "checkpoints" / "best.ckpt", tiny)
    splits = read_market_layout(tiny)
    for number, sample in enumerate(splits.gallery[:12]):
        target = tmp_path / "crops" / f"c{number // 6 + 1}" / f"t{number // 3}_{number:03}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, target)
    for name, sample in zip("ABCDE", splits.query, strict=False):
        shutil.copy(sample.path, tmp_path / f"{name}.jpg")
    lists(tree(tmp_path / "MARS"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_has_commands_and_programs():
    assert len(COMMANDS) == 10 and sum(bool(kind) for kind, _ in BLOCKS) == 3


def test_every_block_runs_in_order(here, capsys):
    pids = torch.arange(12).repeat_interleave(4)
    features = Features(torch.randn(48, 6), torch.randn(48, 4, 8), (2, 2))
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=6, confusions=3)
    session = {
        "query": features.select(slice(0, 12)), "gallery": features.select(slice(12, None)),
        "fitted": fit_pair_stage(features, pids, settings=settings, held_out=0.3, device="cpu"),
        "query_tracks": [number // 3 for number in range(12)], "gallery_tracks": [number // 4 for number in range(36)],
        "embeddings": features.embedding, "tracks": pids.tolist(), "quality": torch.rand(48),
    }  # fmt: skip
    kept = dict(session)
    for kind, text in BLOCKS:
        if kind:
            exec(text, session)
            printed = capsys.readouterr().out
            if "together=True" in text:
                assert len(re.findall(r"^\d \d\.\d+ c\d \d+ [23]$", printed, re.MULTILINE)) == 5
                session |= kept  # the program's gallery is another one
            continue
        for line in text.splitlines():
            python, option, name, *arguments = shlex.split(line)
            if name.startswith("benchmarks."):
                continue
            assert (python, option, run_module(name, *arguments)) == ("python", "-m", 0), line
            printed = capsys.readouterr().out
            if "--together" in line:
                assert printed.count("3 pictures") == 4
            if name == "cace_pyg.evaluate":
                assert "track against track: 2 over 7" in printed
            if arguments[0] == "remove":
                assert "removed: 3; left: 11" in printed
    assert session["distance"].shape == (4, 9) and session["sets"].views.shape == (12, 4)


def test_its_benchmark_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sum("benchmarks.multi_query" in line for line in COMMANDS) == 2
    assert run_module("benchmarks.multi_query", "--quick") == 0
