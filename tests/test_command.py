"""``cace-pyg``: each command by its name."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

import cace_pyg
from cace_pyg.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
SETTINGS = read_configuration(ROOT / "pyproject.toml", expand=True)


def test_there_is_one_version_and_one_script():
    assert SETTINGS["project"]["version"] == cace_pyg.__version__
    assert SETTINGS["project"]["scripts"] == {"cace-pyg": "cace_pyg.__main__:main"}


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cace-pyg {cace_pyg.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_help_has_a_line_for_each_command(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    found = [line.split()[1] for line in lines if line.startswith("  cace-pyg ")]
    assert found == list(COMMANDS) and max(map(len, lines)) <= 120


def test_no_command_is_forgotten():
    layers = SETTINGS["tool"]["importlinter"]["contracts"][0]["layers"]
    assert layers[0] == "__main__" and {*layers[1].split(" | "), "data"} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_its_module(name, capsys):
    assert main([name]) == 0
    said = capsys.readouterr().out
    assert import_module(COMMANDS[name][0]).main([]) == 0
    assert said == capsys.readouterr().out and f"python -m cace_pyg.{name}" in said


def test_arguments_and_the_exit_status_are_handed_on(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "near"), [("trian", "train"), ("eval", "evaluate"), ("ablation", "ablate")])
def test_a_name_that_is_close_is_told(name, near, capsys):
    assert main([name, "--help"]) == 2
    assert capsys.readouterr().err.endswith(f"(got {name}); did you mean {near}?\n")


def test_a_name_like_no_other(capsys):
    assert main(["xyzzy"]) == 2
    assert capsys.readouterr().err == f"error: Expected a command: {', '.join(COMMANDS)} (got xyzzy)\n"


def test_only_the_command_is_imported():
    program = """
import sys
from cace_pyg.__main__ import main
assert main(["--help"]) == 0 and "torch" not in sys.modules
assert main(["data"]) == 0 and "cace_pyg.data" in sys.modules and "cace_pyg.engine" not in sys.modules"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)
