"""Imports go down the floors only: the contract in pyproject.toml, run as a test."""

import logging.config
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_floors(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    monkeypatch.setattr(logging.config, "dictConfig", lambda _: None)  # it would silence the logs that other tests read
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS
