"""Fewer clues of gallery pictures, in training, evaluation and on features."""

import functools
from dataclasses import replace

import pytest
import torch

from cace_pyg import Features, FittedPairStage, calibrate_pair_stage, fit_pair_stage, load_pair_stage, rerank_features
from cace_pyg.config import Config, PairPhaseSettings, from_yaml
from cace_pyg.config.settings import EvaluationSettings
from cace_pyg.data import read_market_layout
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.clue_store import store_clues
from cace_pyg.engine.distances import measure
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.preflight import check_trainable
from cace_pyg.engine.ranks import ALONE
from cace_pyg.graph import CorrespondenceAttention
from cace_pyg.losses import triplet_loss
from cace_pyg.models import CaceNet, ConditionalEmbedding, ConditionalSettings, EmbeddingHead, PairOperand


def measured(trained, tiny, *options):
    config = from_yaml(load_checkpoint(trained.best)["config"], *options)
    model, _ = load_model(trained.best, config)
    splits = read_market_layout(tiny)
    return model, *measure(model, splits.query, splits.gallery, config, "cpu")


def test_an_evaluation_keeps_fewer_clues_of_the_gallery_and_all_of_the_queries(trained, tiny):
    model, query, gallery, distances = measured(trained, tiny, "--evaluation.gallery_clues=5")
    _, whole_query, whole_gallery, all_clues = measured(trained, tiny)
    n = whole_gallery.prepared.projected.size(1)
    assert query.prepared.projected.size(1) == n
    kept = model.pair_stage.keep_clues(whole_gallery.prepared, 5)
    torch.testing.assert_close(gallery.prepared.expanded().projected, kept.expanded().projected)
    expected = measure_lists(
        model.pair_stage, whole_query, whole_gallery, [*distances.index], None, "cpu", progress=False
    ).view(distances.index.shape)
    torch.testing.assert_close(all_clues.conditional, expected)
    assert not torch.allclose(distances.conditional, expected, atol=1e-4)
    *_, exactly = measured(trained, tiny, f"--evaluation.gallery_clues={n}")
    assert torch.equal(exactly.conditional, all_clues.conditional)


def test_pictures_that_are_queries_too_keep_all_clues_as_queries(trained, tiny):
    config = from_yaml(load_checkpoint(trained.best)["config"], "--evaluation.gallery_clues=5")
    model, _ = load_model(trained.best, config)
    pictures = read_market_layout(tiny).query[:6]
    query, gallery, _ = measure(model, pictures, pictures, config, "cpu")
    assert query.prepared.merged is None
    kept = model.pair_stage.keep_clues(query.prepared, 5)
    torch.testing.assert_close(gallery.prepared.expanded().projected, kept.expanded().projected)


def stage_of(channels):
    torch.manual_seed(0)
    settings = ConditionalSettings(edges="inter", node_wise="mlp", width=4)
    builder = CorrespondenceAttention(channels, width=4, sharpness=4.0)
    stage = ConditionalEmbedding(channels, builder, EmbeddingHead(channels, 8, batch_norm=False), settings).eval()
    torch.nn.init.normal_(stage.expansion.weight)
    return stage


def features(images, seed):
    drawn = torch.Generator().manual_seed(seed)
    embedding = torch.nn.functional.normalize(torch.randn(images, 5, generator=drawn), dim=1)
    return Features(embedding, torch.randn(images, 8, 6, generator=drawn), (4, 2))


def test_features_are_ranked_with_fewer_clues_of_the_gallery():
    fitted, query, gallery = FittedPairStage(stage_of(6), 0.5, 6), features(4, 1), features(40, 2)
    ask = functools.partial(rerank_features, query, gallery, fitted, top_k=40, device="cpu", progress=False)
    found = ask(gallery_clues=3)
    a, b = (fitted.stage.prepare(KeptFeatures(part)(torch.arange(len(part))).clues) for part in (query, gallery))
    kept = fitted.stage.keep_clues(b, 3)
    with torch.no_grad():
        conditional = torch.stack([fitted.stage.distance(a.select([row]), kept) for row in range(4)])
    individual = (query.embedding[:, None].double() - gallery.embedding[None].double()).norm(dim=2)
    torch.testing.assert_close(found, 0.5 * individual + 0.5 * conditional.double(), rtol=1e-4, atol=1e-5)
    assert torch.equal(ask(gallery_clues=8), ask())
    with pytest.raises(ValueError, match=r"gallery_clues as a whole number from 1 to 8, .*\(got 9\)"):
        ask(gallery_clues=9)


@pytest.fixture(scope="module")
def people():
    """Twelve people, whose clues tell them apart and whose embeddings hardly do; seen by three cameras, twice."""
    drawn = torch.Generator().manual_seed(5)
    pids, camids = torch.arange(12).repeat_interleave(6), torch.arange(6).remainder(3).repeat(12)
    clues = torch.randn(12, 8, 6, generator=drawn)[pids] + 0.5 * torch.randn(72, 8, 6, generator=drawn)
    return Features(clues.mean(1) + torch.randn(72, 6, generator=drawn), clues, (4, 2)), pids, camids


@pytest.fixture(scope="module")
def trained_with_three(people, tmp_path_factory):
    """A stage that was trained with three clues of matches and others, and its run."""
    run = tmp_path_factory.mktemp("three") / "run"
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=4, anchors=4, confusions=1)
    fitted = fit_pair_stage(*people, settings=settings, held_out=0.3, run_dir=run, device="cpu", gallery_clues=3)
    return fitted, run


def test_a_stage_is_used_with_the_clues_that_it_was_trained_with(trained_with_three):
    fitted, run = trained_with_three
    loaded = load_pair_stage(run / "checkpoints" / "best.ckpt")
    query, gallery = features(4, 1), features(40, 2)
    for stage in (fitted, loaded):
        assert stage.gallery_clues == 3
        ask = functools.partial(rerank_features, query, gallery, weight=0.5, top_k=40, device="cpu", progress=False)
        forgetful = replace(stage, gallery_clues=None)
        assert torch.equal(ask(stage), ask(forgetful, gallery_clues=3))
        assert torch.equal(ask(stage, gallery_clues=2), ask(forgetful, gallery_clues=2))
        assert torch.equal(ask(stage, gallery_clues=8), ask(forgetful))
        assert not torch.allclose(ask(stage), ask(forgetful), atol=1e-4)


def test_a_calibration_is_learned_with_the_clues_of_the_stage(trained_with_three, people):
    fitted = replace(trained_with_three[0], fusion_weight=0.5)
    calibrate = functools.partial(calibrate_pair_stage, fitted, *people, device="cpu")
    own, whole = calibrate(), calibrate(gallery_clues=8)
    assert own.calibration == calibrate(gallery_clues=3).calibration != whole.calibration
    assert (own.gallery_clues, whole.gallery_clues, fitted.gallery_clues) == (3, 8, 3)


def test_clues_are_kept_on_disk_with_their_groups(tmp_path):
    stage, clues = stage_of(6), KeptFeatures(features(7, 3))(torch.arange(7)).clues
    prepared = stage.prepare(clues)
    kept = stage.keep_clues(prepared, 3)
    batches = [kept.select(slice(start, start + 3)) for start in (0, 3, 6)]
    for folder in (None, str(tmp_path)):
        stored = store_clues(iter(batches), 7, folder)
        assert isinstance(stored, PairOperand) and torch.equal(stored.merged.group, kept.merged.group)
        assert torch.equal(stored.projected, kept.projected)


def phase_of(model, clues):
    samples = KeptFeatures.samples([1, 1, 2, 2, 3, 3], [0, 1, 0, 1, 0, 1])
    settings = PairPhaseSettings(
        epochs=1, batches_per_epoch=1, anchors=2, confusions=1, clue_dropout=0.0, mirror=0.0, clues="cached"
    )
    evaluation = EvaluationSettings(gallery_clues=clues)
    phase = PairPhase(Config(DataSettings(root="features"), pair_phase=settings, evaluation=evaluation), samples, ALONE)
    phase.start(model, True, torch.device("cpu"))
    return phase


def test_the_pair_phase_keeps_fewer_clues_of_matches_and_others():
    torch.manual_seed(0)
    model = CaceNet(
        KeptFeatures(features(6, 4)),
        lambda channels: CorrespondenceAttention(channels, width=4, sharpness=4.0),
        embedding_channels=8,
        conditional=ConditionalSettings(edges="inter", node_wise="mlp", width=4),
        published=True,
    )
    torch.nn.init.normal_(model.pair_stage.expansion.weight)
    phase = phase_of(model, 3)
    (batch,) = phase.batches(0)
    model.eval()
    found = phase.losses(model, *batch)["pair_triplet"]
    prepared = model.pair_stage.prepare(phase.clues.__class__(batch[0].float(), phase.clues.grid))
    anchors = prepared.select(slice(2))
    distance = [
        model.pair_stage.distance(anchors, model.pair_stage.keep_clues(prepared.select(others), 3))
        for others in (slice(2, 4), slice(4, 6))
    ]
    torch.testing.assert_close(found, triplet_loss(*distance, phase.settings.margin))
    found.backward()
    assert model.pair_stage.builder.projection.weight.grad.abs().sum() > 0
    whole = phase_of(model, None)
    assert not torch.allclose(whole.losses(model, *batch)["pair_triplet"], found)


def test_too_many_clues_are_refused_before_anything_is_trained(trained):
    config = from_yaml(load_checkpoint(trained.best)["config"], "--evaluation.gallery_clues=10000")
    model, _ = load_model(trained.best, config)
    with pytest.raises(ValueError, match=r"gallery_clues as a whole number from 1 to \d+, .*\(got 10000\)"):
        check_trainable(model, config, model.classifier.out_features, torch.device("cpu"))
