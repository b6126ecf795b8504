"""A whole run: what it leaves behind, what it refuses, and that it can be killed."""

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.data import read_market_layout
from cace_pyg.engine import distances as measuring
from cace_pyg.engine.checkpoint import load_model
from cace_pyg.evaluate import main as evaluate
from cace_pyg.models import Backbone
from cace_pyg.retrieval import distance_blocks
from cace_pyg.train import main as train
from tests.forkserver import FORKSERVER


def checkpoint(path):
    return torch.load(path, weights_only=True)


def test_a_run_leaves_everything_it_promises(trained, tmp_path, capsys):
    folder, printed = trained.folder, trained.printed
    assert "individual" in printed and "two_stage" in printed and str(folder / "report.html") in printed

    metrics = json.loads((folder / "metrics.json").read_text())
    for stage in ("individual", "two_stage"):
        assert metrics[stage].keys() == {"mAP", "rank1", "rank5", "rank10", "mINP"}
        assert 0 < metrics[stage]["mINP"] <= metrics[stage]["mAP"] <= 1
        assert 0 <= metrics[stage]["rank1"] <= metrics[stage]["rank5"] <= metrics[stage]["rank10"] <= 1
    assert metrics["environment"]["torch"] == torch.__version__

    with (folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["phase"] for row in rows] == ["joint", "joint", "pair", "pair"]
    assert [bool(row["density_inter"]) for row in rows] == [False, False, True, True]
    assert all(0 < float(row[f"density_{block}"]) <= 1 for row in rows[2:] for block in ("intra", "inter"))
    assert float(rows[0]["identity"]) > 0 and float(rows[2]["pair_triplet"]) > 0
    assert float(rows[3]["validation_two_stage_mAP"]) >= float(rows[3]["validation_individual_mAP"])

    report = (folder / "report.html").read_text()
    assert "<img" in report and 'src="http' not in report
    for words in (
        "<h3>ROC</h3>",
        "<h3>Reliability of the probabilities</h3>",
        "TPR at FPR 0.01: ",
        "no proof of identity",
    ):
        assert words in report
    assert (folder / "config.yaml").read_text() == checkpoint(folder / "checkpoints" / "best.ckpt")["config"]
    assert not [path for path in folder.rglob(".*")]  # no temporary file is left

    with (folder / "queries.csv").open() as file:
        queries = list(csv.DictReader(file))
    for stage in ("individual", "two_stage"):
        precision = [float(row[f"{stage}_average_precision"]) for row in queries]
        assert sum(precision) / len(queries) == pytest.approx(metrics[stage]["mAP"])
        hits = sum(row[f"{stage}_first_match"] == "1" for row in queries)
        assert hits / len(queries) == pytest.approx(metrics[stage]["rank1"])

    evaluated = tmp_path / "evaluated.json"
    best = str(folder / "checkpoints" / "best.ckpt")
    assert evaluate(["--checkpoint", best, "--output", str(evaluated)]) == 0
    assert json.loads(evaluated.read_text())["two_stage"] == metrics["two_stage"]
    assert metrics["backend"].startswith("pooled (")
    for backend in ("dense", "message_passing", "sparse_matrix"):
        assert evaluate(["--checkpoint", best, "--output", str(evaluated), "--conditional.backend", backend]) == 0
        assert json.loads(evaluated.read_text())["two_stage"] == pytest.approx(metrics["two_stage"], abs=1e-3)
    assert evaluate(["--checkpoint", best, "--split", "validation", "--evaluation.fusion", "paper"]) == 0
    told = capsys.readouterr().out
    assert "fusion weight 1" in told and re.search(r"^validation: \d+ queries, (\d+) in the gallery", told, re.M)
    asked = ["--evaluation.top_k", "4", "--evaluation.gallery_neighbours", "3", "--evaluation.gallery_clues", "5"]
    assert evaluate(["--checkpoint", best, "--output", str(evaluated), *asked]) == 0
    compares = "the second stage compares 4 pictures, following 3 gallery neighbours, with 5 clues of a gallery picture"
    assert compares in capsys.readouterr().out
    told = json.loads(evaluated.read_text())
    assert (told["split"], told["gallery_neighbours"], told["gallery_clues"]) == ("test", 3, 5)

    more = ["--k_reciprocal", "--single_shot", "--k_reciprocal.k1", "5", "--k_reciprocal.k2", "2"]
    assert evaluate(["--checkpoint", best, "--output", str(evaluated), *more]) == 0
    rows = json.loads(evaluated.read_text())
    for row in ("k_reciprocal", "two_stage_k_reciprocal"):
        assert rows[row].keys() == metrics["two_stage"].keys() | {"policy"}
        assert rows[row]["policy"].startswith("k-reciprocal: k1 5, k2 2, original weight 0.3; average precision")
    assert rows["individual_single_shot"].keys() == {"rank1", "rank5", "rank10", "policy"}
    printed = capsys.readouterr().out
    assert "two_stage_single_shot" in printed and "100 draws a query, seed 0" in printed
    assert evaluate(["--checkpoint", best, "--k_reciprocal", "--k_reciprocal.k1", "9999"]) == 2
    assert "Expected k_reciprocal.k1 below the number of images" in capsys.readouterr().err
    assert evaluate(["--checkpoint", best, "--k_reciprocal.k2", "30"]) == 2
    assert "k2 of at most k_reciprocal.k1 (got k1 20, k2 30)" in capsys.readouterr().err
    assert evaluate(["--checkpoint", best, "--output", str(tmp_path)]) == 2
    assert "Expected --output to name a JSON file" in capsys.readouterr().err
    assert evaluate(["--checkpoint", best, "--output", str(tmp_path / "new" / "folder" / "m.json")]) == 0
    assert evaluate(["--checkpoint", best, "--backbone.weights=x.pth"]) == 2
    assert "leave --backbone.weights out" in capsys.readouterr().err
    assert evaluate(["--config", str(folder / "config.yaml"), f"--backbone.weights={best}"]) == 2
    assert "is a checkpoint of this library; give it as --checkpoint" in capsys.readouterr().err
    assert evaluate(["--checkpoint", best, f"--data.root={tmp_path / 'gone'}"]) == 2
    assert "is from the checkpoint" in capsys.readouterr().err


def test_a_pair_branch_starts_from_another_runs_individual_branch(options, tmp_path, capsys):
    assert train([*options, "--pair_phase.epochs=0"]) == 0
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = [*options, f"--run_dir={tmp_path / 'pair'}", "--joint_phase.epochs=0", f"--start_from={best}"]
    assert train(again) == 0
    before, after = (checkpoint(path)["model"] for path in (best, tmp_path / "pair" / "checkpoints" / "best.ckpt"))
    assert all(
        torch.equal(before[key], after[key]) for key in before if key.startswith(("extractor", "encoder", "classi"))
    )
    log = (tmp_path / "pair" / "log.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in log[1:]] == ["pair", "pair"]
    capsys.readouterr()
    assert train([*again, "--pair_phase.epochs=0", f"--run_dir={tmp_path / 'none'}"]) == 2
    assert "there is nothing to train" in capsys.readouterr().err
    assert train([*again, "--embedding.channels=8", f"--run_dir={tmp_path / 'other'}"]) == 2
    assert "--start_from needs the same backbone and embedding" in capsys.readouterr().err


def test_generalised_mean_pooling_is_learned_kept_and_not_lost(options, tmp_path, capsys):
    pooled = "--embedding.pooling=generalised_mean"
    assert train([*options, "--pair_phase.epochs=0", pooled]) == 0
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    exponent = checkpoint(best)["model"]["pooling.exponent"]
    assert exponent.item() != 3.0 and exponent.item() == pytest.approx(3, abs=0.5)
    again = [*options, "--joint_phase.epochs=0", f"--start_from={best}"]
    assert train([*again, pooled, f"--run_dir={tmp_path / 'pair'}"]) == 0
    assert torch.equal(
        checkpoint(tmp_path / "pair" / "checkpoints" / "best.ckpt")["model"]["pooling.exponent"], exponent
    )
    capsys.readouterr()
    assert train([*again, f"--run_dir={tmp_path / 'other'}"]) == 2
    assert "1 unknown ['pooling.exponent']" in capsys.readouterr().err


def test_a_published_network_is_evaluated_by_its_own_embedding(options, tmp_path, capsys):
    trunk = {f"base.{key}": value for key, value in Backbone("resnet18").trunk.state_dict().items()}
    torch.save(
        trunk | {"bottleneck." + key: value for key, value in torch.nn.BatchNorm1d(512).state_dict().items()},
        tmp_path / "published.pth",
    )
    config, out = str(tmp_path / "published.yaml"), tmp_path / "published.json"
    network = ["--backbone.name=resnet18", f"--backbone.weights={tmp_path / 'published.pth'}"]
    (tmp_path / "published.yaml").write_text("{}")
    data = [option for option in options if option.startswith("--data.")]
    assert (
        evaluate(
            [
                "--config",
                config,
                *data,
                *network,
                "--backbone.stem=strong_baseline",
                "--k_reciprocal",
                "--k_reciprocal.k1=5",
                "--k_reciprocal.k2=2",
                "--output",
                str(out),
            ]
        )
        == 0
    )
    rows = json.loads(out.read_text())
    assert 0 < rows["individual"]["mAP"] <= 1 and 0 < rows["k_reciprocal"]["mAP"] <= 1
    assert "mean, then BatchNorm1d; last stride 1, stem strong_baseline" in rows["network"]
    assert "tensors loaded from base.*\n" in capsys.readouterr().out  # the neck is used, so nothing was skipped
    assert evaluate(["--config", config, *data, "--backbone.name=resnet18"]) == 2
    assert "give --backbone.weights PATH" in capsys.readouterr().err


def test_the_pair_phase_leaves_the_individual_branch_alone(options, tmp_path):
    torch.set_num_threads(1)
    assert train([*options, "--pair_phase.epochs=0"]) == 0
    before = checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["model"]
    assert train([*options, f"--run_dir={tmp_path / 'both'}", "--conditional.own_encoder=true"]) == 0
    after = checkpoint(tmp_path / "both" / "checkpoints" / "last.ckpt")["model"]
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"pair_stage"}


REPORT = pytest.mark.report  # of those with another report than most


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(["--loss.pairwise_weight=0.5", "--pair_phase.epochs=0"], marks=REPORT),
        ["--pair_phase.clues=fresh"],
        ["--conditional.own_encoder=false", "--graph=FullyConnected"],
        pytest.param(["--data.hold_out=0", "--evaluation.fusion=0.5", "--graph.form=paper"], marks=REPORT),
        pytest.param(["--conditional.compare=aligned_clues"], marks=REPORT),
        ["--conditional.compare=aligned_clues", "--graph=Part", "--pair_phase.epochs=0", "--evaluation.fusion=0.5"],
        pytest.param(
            ["--conditional.convolution=GATConv", "--conditional.convolution.edge_dim=1", "--graph.top_edges=5"],
            marks=REPORT,
        ),
        ["--conditional.edges=intra", "--loss.pairwise_weight=0.5", "--conditional.backend=gram"],
    ],
    ids=lambda extra: extra[0],
)
def test_other_ways_to_train(options, extra, tmp_path, request):
    assert train([*options, *extra]) == 0
    assert (tmp_path / "run" / "metrics.json").exists()
    assert (tmp_path / "run" / "report.html").exists() == (request.node.get_closest_marker("report") is not None)


KILLED = [
    "--device=cpu",  # on a GPU torch adds up in any order
    "--joint_phase.epochs=3",
    "--joint_phase.batches_per_epoch=15",
    "--pair_phase.epochs=3",
    "--pair_phase.batches_per_epoch=40",
]


def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(options, tmp_path):
    options = [*options, *KILLED]
    assert train([*options, f"--run_dir={tmp_path / 'undisturbed'}"]) == 0
    log = tmp_path / "run" / "log.csv"
    for finished in (1, 4):  # killed in the second epoch of each phase
        process = FORKSERVER.Process(target=train, args=([*options, "--resume"],))
        process.start()
        while not log.exists() or len(log.read_text().splitlines()) <= finished:
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert len(log.read_text().splitlines()) < 1 + 6  # it was killed indeed
    assert train([*options, "--resume"]) == 0
    wanted = checkpoint(tmp_path / "undisturbed" / "checkpoints" / "last.ckpt")
    got = checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert wanted["epoch"] == got["epoch"] == 6
    for name, weight in wanted["model"].items():
        assert torch.equal(weight, got["model"][name]), name
    assert {**got, **{k: wanted[k] for k in ("config", "log", "model", "optimizer", "environment")}} == wanted
    strip = [{k: v for k, v in row.items() if k != "seconds"} for row in got["log"]]
    assert strip == [{k: v for k, v in row.items() if k != "seconds"} for row in wanted["log"]]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--graph=Part", "--graph.stripes=50"], "at most as many stripes as the feature map has rows"),
        (["--graph=TopKSimilarity", "--graph.k=0"], "graph.k of at least 1"),
        (["--conditional.convolution=GCNKonv"], "near names: GCNConv"),
        (["--conditional.convolution=GATConv", "--conditional.convolution.heads=2"], "convolution.concat false"),
        (["--conditional.backend=pooled_messages"], "exact with node_wise identity only"),
        (["--conditional.compare=aligned_clues", "--graph=Part"], "--pair_phase.epochs 0"),
        (["--conditional.compare=aligned_clues", "--loss.pairwise_weight=1"], "--loss.pairwise_weight 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_pair_stage_that_cannot_work_is_refused_before_anything_is_trained(options, extra, words, tmp_path, capsys):
    assert train([*options, *extra]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_loss_that_is_not_finite_stops_with_its_terms(options, capsys, tmp_path):
    assert train([*options, "--joint_phase.learning_rate=1e38", "--joint_phase.warmup_epochs=0"]) == 2
    error = capsys.readouterr().err
    assert "the loss is not finite at step" in error and "identity = " in error and "triplet = " in error


def test_a_run_folder_is_never_overwritten_and_resumes_only_itself(options, tmp_path, capsys):
    assert train([*options, "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 0
    before = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    assert train([*options, "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 2
    error = capsys.readouterr().err
    assert "continue that run with --resume (in Python resume=True), or choose another --run_dir" in error
    assert train([*options, "--joint_phase.epochs=2", "--pair_phase.epochs=0", "--resume"]) == 2
    error = capsys.readouterr().err
    assert (
        "joint_phase.epochs: 1 in the run, 2 now" in error
        and f"--start_from {tmp_path / 'run' / 'checkpoints'}" in error
    )
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == before


def test_a_failed_start_does_not_use_up_its_folder(options, tmp_path):
    assert train([*options, "--joint_phase.num_identities=50"]) == 2
    assert not (tmp_path / "run").exists()
    assert (
        train([*options, "--joint_phase.learning_rate=1e38", "--joint_phase.warmup_epochs=0"]) == 2
    )  # in its first epoch
    assert (tmp_path / "run").exists()
    assert train([*options, "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 0


def test_weights_that_overflow_stop_the_run(options, capsys):
    assert train([*options, "--joint_phase.learning_rate=1e12", "--joint_phase.batches_per_epoch=1"]) == 2
    assert "is not finite" in capsys.readouterr().err


def test_broken_checkpoints_are_named(trained, tmp_path, capsys):
    best = Path(shutil.copy(trained.best, tmp_path))
    assert evaluate(["--checkpoint", str(best), "--embedding.channels=8"]) == 2
    assert "has another architecture" in capsys.readouterr().err
    best.write_bytes(best.read_bytes()[:1000])
    assert evaluate(["--checkpoint", str(best)]) == 2
    assert "truncated, damaged or not a checkpoint" in capsys.readouterr().err
    torch.save({"weight": torch.zeros(1)}, best)
    assert evaluate(["--checkpoint", str(best)]) == 2
    assert "is not a cace_pyg checkpoint" in capsys.readouterr().err
    assert evaluate(["--checkpoint", str(tmp_path / "none.ckpt")]) == 2
    assert "no checkpoint at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--data.root=/nowhere"], "bounding_box_train/"),
        (["--data.hold_out=0"], "evaluation.fusion auto chooses its weight on held-out identities"),
        (["--evaluation.fusion=3"], r"evaluation.fusion"),
        (["--joint_phase.num_identities=50"], "num_identities = 50 training identities"),
        (["--compile=inductr"], "compile to be null or one of"),
        (["--evaluation.clues_on_disk=/nowhere"], "evaluation.clues_on_disk to be a folder (got /nowhere"),
        (["--conditional.node_wise=identity", "--conditional.backend=fused", "--device=cpu"], "The fused kernel "),
        (["--backbone.name=resnet5"], "near names"),
        (["--joint_phase.epoch=3"], "near names: --joint_phase.epochs"),
        (["--graph=TopK"], "near names: CorrespondenceAttention, FullyConnected"),
        (["--config=none.yaml"], "none.yaml"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_cannot_work_is_refused_before_anything_is_written(options, wrong, words, tmp_path, capsys):
    assert train([*options, *wrong]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


def test_an_unwritable_run_folder_is_named(options, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert train([*options, f"--run_dir={tmp_path / 'file' / 'run'}"]) == 2
    assert "choose another --run_dir" in capsys.readouterr().err


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    from cace_pyg.engine import checkpoint as module

    path = tmp_path / "last.ckpt"
    module.save_checkpoint(path, {"epoch": 1})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RuntimeError, match="No space left on device.*the last checkpoint is untouched"):
        module.save_checkpoint(path, {"epoch": 2})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_truncated_picture_is_named_in_one_line(tiny, options, tmp_path, capsys, workers):
    broken = shutil.copytree(tiny, tmp_path / "broken")
    victim = sorted((broken / "bounding_box_train").glob("*.jpg"))[0]
    victim.write_bytes(victim.read_bytes()[:200])
    few = [f"--data.root={broken}", "--joint_phase.batches_per_epoch=20", f"--data.workers={workers}"]
    assert train([*options, *few]) == 2
    said = capsys.readouterr().err
    assert f"error: cannot read the picture {victim}" in said and "Traceback" not in said


def test_no_arguments_explain(capsys):
    assert train([]) == 0 and evaluate([]) == 0
    printed = capsys.readouterr().out
    assert "python -m cace_pyg.train --config synthetic" in printed
    assert "--checkpoint" in printed


def test_conditional_distances_come_from_the_other_image(trained):
    """The loaded model in evaluation mode really uses the second stage."""
    config = from_yaml((trained.folder / "config.yaml").read_text())
    model, _ = load_model(trained.best, config)
    splits = read_market_layout(config.data.root)
    _, _, distances = measuring.measure(model, splits.query, splits.gallery, config, "cpu")
    individual = distances.individual().gather(1, distances.index)
    assert (individual - distances.conditional).abs().mean() > 1e-3


def test_mixed_precision(options, tmp_path, capsys):
    short = [
        "--joint_phase.epochs=1",
        "--pair_phase.epochs=1",
        "--loss.pairwise_weight=1",
        "--conditional.node_wise=mlp",
    ]
    assert train([*options, *short, "--precision=bf16-mixed", "--conditional.compare=verification"]) == 0
    state = checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["model"]
    assert {tensor.dtype for tensor in state.values()} <= {torch.float32, torch.int64}
    assert train([*options, f"--run_dir={tmp_path / 'other'}", "--precision=16-mixed", "--device=cpu"]) == 2
    assert "Expected a GPU for --precision 16-mixed" in capsys.readouterr().err


def test_evaluation_in_blocks_and_from_disk_changes_nothing(trained, tmp_path, monkeypatch):
    found = []
    for most, folder in ((10**9, "null"), (1, str(tmp_path))):
        monkeypatch.setattr(measuring, "distance_blocks", lambda a, b, most=most: distance_blocks(a, b, most))
        on_disk = f"--evaluation.clues_on_disk={folder}"
        assert evaluate(["--checkpoint", str(trained.best), "--output", str(tmp_path / "metrics.json"), on_disk]) == 0
        found.append(json.loads((tmp_path / "metrics.json").read_text()))
    assert found[0] == found[1]
