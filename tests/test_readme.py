"""Every command, option and snippet of the README and of docs/reference.md runs."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from PIL import Image

from cace_pyg import Gallery, extract_features
from cace_pyg.config.settings import JointPhaseSettings, PairPhaseSettings
from cace_pyg.engine import on_features
from cace_pyg.experiment.studies import STUDIES
from cace_pyg.models import Backbone, PublishedEmbedding
from cace_pyg.torchvision_operators import import_torchvision
from cace_pyg.train import main as train
from tests.forkserver import FORKSERVER
from tests.random_checkpoint import make_checkpoint
from tests.run_module import run_module

ROOT = Path(__file__).parents[1]
README, REFERENCE = ((ROOT / name).read_text() for name in ("README.md", "docs/reference.md"))
BOTH = README + REFERENCE
SNIPPETS, FROM_PYTHON = (re.findall(r"```python\n(.*?)```", page, re.DOTALL) for page in (README, REFERENCE))
FIVE = re.findall(r"^python -m .+", README, re.MULTILINE)
COMMANDS = sorted({*FIVE, *re.findall(r"`(python -m [^`\n]+)`", BOTH)})
ELSEWHERE = {  # in the tests of the rooms; the last downloads
    "--quick",
    "--config",
    "--help",
    "--resume",
    "--dry_run",
    "--data.root PATH",
    "--run_dir",
    "--start_from RUN_DIR/checkpoints/best.ckpt",
    "--joint_phase.epochs 0",
    "--backbone.name onnx --backbone.weights reid.onnx",
    "--backbone.weights imagenet",
}
OPTIONS = sorted(set(re.findall(r"`(--[^`]+)`", BOTH)) - ELSEWHERE)
FILES = sorted(set(re.findall(r"`((?:cace_pyg|configs|docs|tests|benchmarks)/[^`* ]+)`", BOTH)))


def small_cnn_weights(folder):
    torch.save(Backbone("small_cnn").trunk.state_dict(), folder / "weights.pth")
    return str(folder / "weights.pth")


def serve(arguments, file):
    with file.open("w", buffering=1) as printed, redirect_stdout(printed):
        sys.exit(run_module(*arguments, "--port=0"))


def serve_until_stopped(arguments, file):
    """Run a command that ends with Ctrl-C only; it says where its page is, and the page answers."""
    run = FORKSERVER.Process(target=serve, args=(arguments, file), daemon=True)
    run.start()
    end = time.monotonic() + 60
    while not file.exists() or not (address := re.search(r"http://\S+(?=\s)", file.read_text())):
        assert run.is_alive() and time.monotonic() < end
        time.sleep(0.02)
    with urllib.request.urlopen(address.group(), timeout=30) as page:
        assert page.status == 200
    os.kill(run.pid, signal.SIGINT)
    run.join(30)
    assert run.exitcode == 0


def test_the_first_snippet_runs_and_its_shapes_are_true(capsys):
    assert len(SNIPPETS) == 4 and len(FROM_PYTHON) == 2
    exec(SNIPPETS[0], {})
    assert capsys.readouterr().out.startswith("torch.Size([2, 2]) torch.Size([2]) DataBatch(x=[288, 256]")
    assert 10 < len(SNIPPETS[0].strip().splitlines()) <= 20


def test_a_pair_stage_goes_on_top_of_a_network_as_the_second_says(tiny, monkeypatch, capsys):
    short = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3)
    monkeypatch.setattr(on_features, "PairPhaseSettings", lambda **_: short)
    network = PublishedEmbedding(Backbone("small_cnn"))
    program = SNIPPETS[1].replace("data/people", str(tiny)).replace("size=(256, 128)", "size=(64, 32), device='cpu'")
    names = {"my_network": network}
    exec(program.replace("camids[0])", "camids[0], held_out=0.3)"), names)
    assert names["distance"].shape == (len(names["people"].query), len(names["people"].gallery))
    assert 0 < float(capsys.readouterr().out.splitlines()[-1]) <= 1  # after a warning of so few people


def test_crops_are_searched_and_decided_on_as_the_last_two_say(tiny, trained, tmp_path, monkeypatch, capsys):
    """The rate is one that the few people of the tiny data set can answer for."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny / "bounding_box_test", "crops")
    shutil.copy(next((tiny / "query").glob("*.jpg")), "query.jpg")
    names = {}
    exec(SNIPPETS[2].replace("runs/synthetic/checkpoints/best.ckpt", str(trained.best)), names)
    assert len(re.findall(r"^\d \S+\.jpg 0\.\d+$", capsys.readouterr().out, re.MULTILINE)) == 5
    exec(SNIPPETS[3].replace("0.05", "0.7"), names)
    assert capsys.readouterr().out.strip() in ("known", "nobody we know")


def test_a_network_of_timm_gives_its_embedding_and_its_clues_as_the_reference_says():
    import_torchvision("models")  # timm imports it, and one for GPUs beside a torch for CPUs has to be helped
    timm = pytest.importorskip("timm")
    names = {}
    exec(FROM_PYTHON[1], names)
    assert len([line for line in FROM_PYTHON[1].splitlines() if line.strip()]) <= 15
    network = names["MyNetwork"]()
    found = extract_features(
        network, [Image.new("RGB", (40, 90), colour) for colour in ("red", "blue")], progress=False
    )
    assert found.grid == (16, 8) and found.channels == 192 and found.embedding.shape == (2, 192)
    assert isinstance(network.vit, timm.models.VisionTransformer) and not found.embedding[0].equal(found.embedding[1])


def test_a_network_of_ones_own_is_trained_as_the_reference_says(tiny, tmp_path, capsys):
    program = FROM_PYTHON[0].replace("data/crops", str(tiny)).replace('run_dir="runs/mine"', "**little")
    program = program.replace("height=256, width=128", "height=48, width=24, hold_out=0.3")
    batch, pairs = JointPhaseSettings(epochs=1, batches_per_epoch=1), PairPhaseSettings(1, 1, anchors=6)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, 8, 2), torch.nn.ReLU())
    network.channels = 8
    little = {"run_dir": str(tmp_path / "run"), "threads": 1, "joint_phase": batch, "pair_phase": pairs}
    exec(program, {"my_network": network, "little": little})
    assert all(0 < float(number) <= 1 for number in capsys.readouterr().out.split())


def test_its_results_are_those_of_the_results_page():
    results = (ROOT / "docs" / "results.md").read_text()
    figures = re.findall(r"\d+\.\d / \d+\.\d", README)
    leads = re.findall(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", README.replace(" mAP [", " ["))
    assert len(figures) == 13 and len(leads) == 3
    assert not [figure for figure in (*figures, *(f"+{lead}" for lead in leads)) if figure not in results]


def test_there_is_something_to_test():
    assert not re.search(r"^[A-Z]{4,}$|DEMO_TIME", BOTH, re.MULTILINE), "a placeholder is left"
    assert len(FIVE) == 5 and len(COMMANDS) >= 30 and len(OPTIONS) >= 30 and len(FILES) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command, options, tiny, trained, tmp_path, monkeypatch, request):
    monkeypatch.chdir(ROOT)
    arguments = shlex.split(command)[2:]
    name = arguments[0]
    if name == "cace_pyg.train":
        arguments += options
    elif "--backbone.weights" in arguments:
        arguments[-1] = small_cnn_weights(tmp_path)
        arguments += ["--backbone.name=small_cnn", "--data.name=market_layout", f"--data.root={tiny}"]
    elif name == "cace_pyg.ablate":
        short = [option for option in options if not option.startswith("--run_dir")]
        skip = [f"--skip={row.name}" for row in STUDIES["components"][1:]]
        arguments += [*short, *skip, f"--run_dir={tmp_path / 'ablation'}", "--seeds=1"]
    elif name == "cace_pyg.export":  # the fixture has run it
        assert arguments[1:] == ["--checkpoint", "runs/synthetic/checkpoints/best.ckpt"]
        files = request.getfixturevalue("exported")[1].iterdir()
        assert {file.name for file in files} == {"individual.onnx", "pair.onnx"}
        return
    elif name == "cace_pyg.calibrate":
        best = str(shutil.copy(trained.best, tmp_path / "best.ckpt"))
        arguments = [{"PATH": str(tiny), "runs/synthetic/checkpoints/best.ckpt": best}.get(w, w) for w in arguments]
    elif name in ("cace_pyg.evaluate", "cace_pyg.visualize"):
        pictures = sorted((tiny / "query").glob("*.jpg"))
        arguments = [str(pictures["AB".index(word[0])]) if word in ("A.jpg", "B.jpg") else word for word in arguments]
        best = tmp_path / "run" / "checkpoints" / "best.ckpt"
        best.parent.mkdir(parents=True)
        arguments[arguments.index("--checkpoint") + 1] = str(shutil.copy(trained.best, best))
        arguments += ["--format=png"] if "ranked_lists" in arguments else []
    elif name == "cace_pyg.search":
        files = {
            "FOLDER": tiny / "query",
            "PICTURE": next((tiny / "query").glob("*.jpg")),
            "data/synthetic/bounding_box_test": tiny / "bounding_box_test",
            "data/synthetic/query/1001_c2s1_000002_00.jpg": next((tiny / "query").glob("*.jpg")),
            "people.lance": tmp_path / "people.lance",
            "runs/synthetic/checkpoints/best.ckpt": make_checkpoint(tmp_path / "best.ckpt", tiny),
        }
        arguments = [str(files.get(word, word)) for word in arguments]
        if arguments[1] != "index":
            Gallery.create(tmp_path / "people.lance", tmp_path / "best.ckpt").add(
                sorted((tiny / "query").glob("*.jpg"))
            )
        if arguments[1] == "serve":
            serve_until_stopped(arguments, tmp_path / "printed.txt")
            return
    elif name == "cace_pyg.embed":
        best = make_checkpoint(tmp_path / "best.ckpt", tiny)
        files = {"FOLDER": tiny / "query", "vectors.parquet": tmp_path / "vectors.parquet"}
        files["runs/synthetic/checkpoints/best.ckpt"] = best
        arguments = [str(files.get(word, word)) for word in arguments]
    elif arguments[:2] == ["cace_pyg.data", "check"]:
        arguments[-1] = str(tiny)
    elif name == "cace_pyg.data":
        assert arguments[1] == "synthetic"
        arguments[-1] = str(tmp_path / "made")
        arguments += ["--train_identities=3", "--test_identities=3", "--distractors=2", "--junk=2"]
    elif name.startswith("benchmarks."):
        if name == "benchmarks.reassociation":
            pytest.importorskip("motmetrics")
        arguments += ["--quick"]
    assert run_module(*arguments) == 0


@pytest.mark.parametrize("option", OPTIONS)
def test_options_take_a_step_of_each_phase_and_are_evaluated(option, options, tmp_path, monkeypatch):
    words = shlex.split(option)
    if "timm/" in option:  # two of its twelve blocks
        import_torchvision("models")
        timm = pytest.importorskip("timm")
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda *names, **settings: create(*names, depth=2, **settings))
    if words[0] == "--backbone.earlier":
        words.append("--backbone.name=osnet_x0_25")
    if words[0] == "--backbone.weights":
        words[1] = small_cnn_weights(tmp_path)
    assert train([*options, *words, "--dry_run"]) == 0


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
