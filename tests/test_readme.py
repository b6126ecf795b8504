"""Every command and snippet of the README runs."""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import torch

from cace_pyg import Gallery
from cace_pyg.experiment.studies import STUDIES
from cace_pyg.models import Backbone
from cace_pyg.train import main as train
from tests.random_checkpoint import make_checkpoint

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"`(python -m [^`]+)`", README)))
ELSEWHERE = {  # in tests/engine; the last downloads
    "--quick",
    "--resume",
    "--data.root PATH",
    "--run_dir",
    "--start_from RUN_DIR/checkpoints/best.ckpt",
    "--joint_phase.epochs 0",
    "--backbone.weights imagenet",
}
OPTIONS = sorted(set(re.findall(r"`(--[^`]+)`", README)) - ELSEWHERE)
FILES = sorted(set(re.findall(r"`((?:cace_pyg|configs|docs|tests|benchmarks)/[^`* ]+)`", README)))


def small_cnn_weights(folder):
    torch.save(Backbone("small_cnn").trunk.state_dict(), folder / "weights.pth")
    return str(folder / "weights.pth")


def serve_until_stopped(arguments):
    """Run a command that ends with Ctrl-C only; it says where its page is, and the page answers."""
    with subprocess.Popen([sys.executable, *arguments, "--port=0"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        address = re.search(r"http://\S+", run.stdout.readline()).group()
        with urllib.request.urlopen(address, timeout=30) as page:
            assert page.status == 200
        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 0


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_run_and_their_shapes_are_true(snippet):
    found = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.startswith("torch.Size([2, 2]) torch.Size([2]) DataBatch(x=[288, 256]")
    assert 10 < len(snippet.strip().splitlines()) <= 20


def test_there_is_something_to_test():
    assert not re.search(r"^[A-Z]{4,}$|DEMO_TIME", README, re.MULTILINE), "a placeholder is left"
    assert SNIPPETS and len(COMMANDS) >= 4 and len(OPTIONS) >= 6 and len(FILES) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, options, tiny, tmp_path):
    arguments = shlex.split(command)[1:]
    if arguments[1] == "cace_pyg.train":
        arguments += options
    elif "--backbone.weights" in arguments:
        arguments[-1] = small_cnn_weights(tmp_path)
        arguments += ["--backbone.name=small_cnn", "--data.name=market_layout", f"--data.root={tiny}"]
    elif arguments[1] == "cace_pyg.ablate":
        short = [one for one in options if not one.startswith("--run_dir")]
        skip = [f"--skip={row.name}" for row in STUDIES["components"][1:]]
        arguments += [*short, *skip, f"--run_dir={tmp_path / 'ablation'}", "--seeds=1"]
    elif arguments[1] in ("cace_pyg.evaluate", "cace_pyg.visualize", "cace_pyg.export"):
        assert train(options) == 0
        pictures = sorted((tiny / "query").glob("*.jpg"))
        arguments = [str(pictures["AB".index(word[0])]) if word in ("A.jpg", "B.jpg") else word for word in arguments]
        arguments[arguments.index("--checkpoint") + 1] = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    elif arguments[1] == "cace_pyg.search":
        files = {
            "FOLDER": tiny / "query",
            "PICTURE": next((tiny / "query").glob("*.jpg")),
            "people.lance": tmp_path / "people.lance",
            "runs/synthetic/checkpoints/best.ckpt": make_checkpoint(tmp_path / "best.ckpt", tiny),
        }
        arguments = [str(files.get(word, word)) for word in arguments]
        if arguments[2] != "index":
            Gallery.create(tmp_path / "people.lance", tmp_path / "best.ckpt").add(
                sorted((tiny / "query").glob("*.jpg"))
            )
        if arguments[2] == "serve":
            return serve_until_stopped(arguments)
    elif arguments[1:3] == ["cace_pyg.data", "check"]:
        arguments[-1] = str(tiny)
    elif arguments[1] == "cace_pyg.data":
        arguments[-1] = str(tmp_path / "made")
        arguments += ["--train_identities=3", "--test_identities=3", "--distractors=2", "--junk=2"]
    elif arguments[1].startswith("benchmarks."):
        arguments += ["--quick"]
    subprocess.run([sys.executable, *arguments], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_run(option, options, tmp_path):
    words = shlex.split(option)
    if words[0] == "--backbone.weights":
        words[1] = small_cnn_weights(tmp_path)
    short = [
        "--joint_phase.epochs=1",
        "--pair_phase.epochs=1",
        "--joint_phase.batches_per_epoch=1",
        "--pair_phase.batches_per_epoch=1",
    ]
    assert train([*options, *short, *words]) == 0


@pytest.mark.parametrize("name", FILES)
def test_files_exist(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_config_parses(config, capsys):
    with pytest.raises(SystemExit) as stopped:
        train(["--config", str(config), "--print_config"])
    assert stopped.value.code == 0
    assert "pair_phase:" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_makes(target):
    assert f"make {target}" in README
    planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("cace_pyg.train" if target == "demo" else "pytest") in planned
