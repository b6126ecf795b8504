"""Paths as people type them, in every command."""

from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from cace_pyg.config import config_parser, parse
from cace_pyg.data.__main__ import main as data_command
from cace_pyg.evaluate import main as evaluate_command
from cace_pyg.user_path import user_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_is_the_home_folder_and_nothing_is_no_path(home):
    assert user_path("~/crops") == home / "crops" and user_path("crops~") == Path("crops~")
    with pytest.raises(ArgumentTypeError, match="got an empty string"):
        user_path("")


def test_settings_that_are_paths_know_the_home_folder(home):
    (home / "some.yaml").write_text(
        "data: {root: ~/crops}\nbackbone: {weights: ~/weights.pth}\nstart_from: ~/best.ckpt\n"
    )
    parsed = parse(
        config_parser("train", ""),
        [f"--config={home / 'some.yaml'}", "--run_dir=~/run", "--evaluation.clues_on_disk=~/c"],
    )
    found = (
        parsed.data.root,
        parsed.backbone.weights,
        parsed.start_from,
        parsed.run_dir,
        parsed.evaluation.clues_on_disk,
    )
    assert found == tuple(str(home / name) for name in ("crops", "weights.pth", "best.ckpt", "run", "c"))


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(data_command, ["check", "~/crops"]), (evaluate_command, ["--checkpoint=~/crops"])],
)
def test_commands_name_the_folder_that_they_looked_in(home, capsys, command, arguments):
    assert command(arguments) == 2
    assert str(home / "crops") in capsys.readouterr().err
