"""Training and evaluating with a graph of body parts."""

import json
import shutil

import pytest
import torch

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data import read_market_layout
from cace_pyg.data.part_map import read_part_map
from cace_pyg.engine.build import build_model
from cace_pyg.engine.extraction import extract, extract_clues, extract_embeddings
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.pair_phase import PairPhase, clue_dropout, mirror_clues
from cace_pyg.engine.ranks import Ranks
from cace_pyg.engine.training import Trainer
from cace_pyg.evaluate import main as evaluate
from cace_pyg.graph.clues import clue_parts
from cace_pyg.train import main as train
from cace_pyg.visualize import main as visualize


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--pair_phase.clues=fresh"],
        ["--loss.pairwise_weight=0.5"],
        ["--conditional.compare=aligned_clues", "--pair_phase.epochs=0", "--evaluation.fusion=0.5"],
    ],
    ids=lambda extra: extra[0] if extra else "cached",
)
def test_a_graph_of_body_parts_trains_evaluates_and_shows_itself(options, extra, tiny, tmp_path, capsys):
    assert train([*options, "--graph=Semantic", *extra]) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    best = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert evaluate(["--checkpoint", best, "--output", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["two_stage"] == metrics["two_stage"]
    pictures = sorted((tiny / "query").glob("*.jpg"))[:2]
    assert visualize(["pair", *map(str, pictures), "--checkpoint", best, "--format=png"]) == 0
    assert "density" in capsys.readouterr().out


def test_a_stopped_run_goes_on_to_the_same_weights(options, tmp_path, monkeypatch):
    options = [*options, "--graph=Semantic", "--loss.pairwise_weight=0.5", "--pair_phase.clues=fresh"]
    assert train([*options, f"--run_dir={tmp_path / 'undisturbed'}"]) == 0
    record = Trainer._record
    for epoch in (1, 3):  # the first of each phase

        def stop(self, row, *others, epoch=epoch):
            record(self, row, *others)
            if row["epoch"] == epoch:
                raise RuntimeError("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_record", stop)
            assert train([*options, "--resume"]) == 2
    assert train([*options, "--resume"]) == 0
    wanted, got = (
        torch.load(tmp_path / run / "checkpoints" / "last.ckpt", weights_only=False)["model"]
        for run in ("undisturbed", "run")
    )
    assert all(torch.equal(weight, got[name]) for name, weight in wanted.items())


@pytest.fixture
def make_model(options, tiny):
    """From further options to the configuration, an untrained model and the training pictures."""

    def make(*extra):
        parser = config_parser("train", "")
        config = config_of(parse(parser, [*options, "--evaluation.batch_size=7", *extra]), parser)
        samples = read_market_layout(tiny).train
        return config, build_model(config, 12, pretrained=False), samples

    return make


def test_every_picture_keeps_its_own_parts(make_model):
    config, model, samples = make_model("--graph=Semantic", "--pair_phase.mirror=0", "--pair_phase.clue_dropout=0")
    maps = torch.stack([read_part_map(sample, (48, 24)) for sample in samples])
    wanted = clue_parts(maps, (6, 3))
    assert len(wanted.unique()) > 3
    assert torch.equal(extract_clues(model, samples, config, "cpu")[1].parts, wanted)
    assert torch.equal(extract(model, samples, config, "cpu", "training").prepared.compared.parts, wanted)
    phase = PairPhase(config, samples, Ranks())
    phase.start(model, True, "cpu")
    (features, parts), triplets = next(phase.batches(0)), next(iter(phase.sampler))
    assert torch.equal(parts, wanted[triplets.flatten()]) and features.shape[:2] == parts.shape
    assert torch.equal(features, phase.clues.features[triplets.flatten()])


@pytest.mark.parametrize("mirror", [0, 0.5])
def test_stored_clues_are_augmented_in_a_copy(make_model, mirror):
    config, model, samples = make_model("--graph=Semantic", f"--pair_phase.mirror={mirror}")
    phase = PairPhase(config, samples, Ranks())
    phase.start(model, True, "cpu")
    stored = phase.clues.features.clone()
    (features, parts), triplets = next(phase.batches(0)), next(iter(phase.sampler)).flatten()
    random = torch.Generator().manual_seed(config.seed * 1_000_003)
    clues, shape = phase.clues.select(triplets), (3, config.pair_phase.anchors)
    if mirror:
        clues = mirror_clues(clues, torch.rand(shape, generator=random).flatten() < mirror)
    drawn = torch.rand(*shape, stored.size(1), generator=random).flatten(0, 1)
    expected = clue_dropout(clues, config.pair_phase.clue_dropout, drawn)
    assert torch.equal(features, expected.features) and torch.equal(parts, expected.parts)
    assert 0 < float((features == 0).all(-1).float().mean()) < 1
    assert torch.equal(phase.clues.features, stored)


def test_maps_are_read_only_where_a_graph_needs_them(make_model):
    for graph, weight, clues, wanted in (
        ("Semantic", 0.5, "fresh", (True, True)),
        ("Semantic", 0, "cached", (False, True)),
        ("Part", 0.5, "fresh", (False, False)),
    ):
        config, model, samples = make_model(
            f"--graph={graph}", f"--loss.pairwise_weight={weight}", f"--pair_phase.clues={clues}"
        )
        phases = JointPhase(config, samples, Ranks()), PairPhase(config, samples, Ranks())
        for phase, with_parts, fields in zip(phases, wanted, (2, 1), strict=True):
            phase.start(model, True, "cpu")
            assert len(next(iter(phase.batches(0)))) == fields + with_parts


def test_without_label_maps_nothing_is_trained(options, tiny, tmp_path, capsys):
    bare = shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("parts"))
    assert train([*options, "--graph=Semantic", f"--data.root={bare}"]) == 2
    error = capsys.readouterr().err
    assert f"no label map at {bare / 'parts' / 'bounding_box_train'}" in error and "pictures have none" in error
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    assert train([*options, f"--data.root={bare}", "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 0


def test_evaluation_without_label_maps_names_them(options, tiny, make_model, tmp_path, capsys):
    assert train([*options, "--graph=Semantic", "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 0
    bare = shutil.copytree(tiny, tmp_path / "bare", ignore=shutil.ignore_patterns("parts"))
    best = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    capsys.readouterr()
    assert evaluate(["--checkpoint", best, f"--data.root={bare}", "--data.workers=1"]) == 2
    error = capsys.readouterr().err
    assert f"error: no label map at {bare / 'parts' / 'query'}" in error and "--graph Semantic" in error
    config, model, _ = make_model("--graph=Semantic")
    assert len(extract_embeddings(model, read_market_layout(bare).query, config, "cpu"))  # needs no graph
