"""The pair stage on features alone: five calls, no configuration file, no pictures in between."""

import copy
import functools
import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from cace_pyg import (
    Features,
    calibrate_pair_stage,
    evaluate_ranking,
    extract_features,
    fit_pair_stage,
    load_pair_stage,
    rerank_features,
)
from cace_pyg.config import KReciprocalSettings, PairPhaseSettings, PropagationSettings
from cace_pyg.config.parsing import from_yaml
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.neighbours import SecondStage, find_neighbours
from cace_pyg.graph import Clues, CorrespondenceAttention, NoAlignment
from cace_pyg.models import Individual
from cace_pyg.read_picture import read_picture
from cace_pyg.retrieval import expected_calibration_error, k_reciprocal_distance

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
GRID, CHANNELS, CAMERAS, PICTURES = (4, 2), 16, 3, 6
QUICK = PairPhaseSettings(epochs=4, batches_per_epoch=20, anchors=32, confusions=5, clue_dropout=0.2)


def people(count, seed):
    """Features of people whose embeddings are nearly noise, and whose clues tell them apart, each camera by its own."""
    draw = torch.Generator().manual_seed(seed)
    colours = torch.randn(CAMERAS, CHANNELS, generator=torch.Generator().manual_seed(99))
    own = torch.randn(count, GRID[0] * GRID[1], CHANNELS, generator=draw)
    pids = torch.arange(count).repeat_interleave(PICTURES)
    camids = torch.arange(PICTURES).remainder(CAMERAS).repeat(count)
    clues = own[pids] + colours[camids][:, None] + 0.7 * torch.randn(len(pids), 8, CHANNELS, generator=draw)
    embedding = clues.mean(1) + 0.5 * torch.randn(len(pids), CHANNELS, generator=draw)
    return Features(embedding, clues.half(), GRID), pids, camids


@pytest.fixture(scope="module")
def fitted():
    return fit_pair_stage(*people(60, 1), settings=QUICK, held_out=0.2, device="cpu")


def two_stage(fitted, **options):
    features, pids, camids = people(40, 2)
    query, rest = torch.arange(0, len(pids), PICTURES), torch.ones(len(pids), dtype=torch.bool)
    rest[query] = False
    chosen = features.select(query), features.select(rest)
    distance = rerank_features(*chosen, fitted, progress=False, device="cpu", **options)
    return evaluate_ranking(distance, pids[query], pids[rest], camids[query], camids[rest]), chosen, distance


def test_people_whom_nobody_has_seen_are_ranked_better_than_by_their_embeddings(fitted):
    """With weight 0 the embeddings alone rank."""
    alone, together = (two_stage(fitted, **options)[0].mAP for options in ({"weight": 0.0}, {}))
    assert 0 < fitted.fusion_weight <= 1 and together > alone + 0.05


def test_with_weight_0_no_pair_is_looked_at(fitted, monkeypatch):
    monkeypatch.setattr(type(fitted.stage), "distance", None)
    _, (query, gallery), distance = two_stage(fitted, weight=0.0)
    torch.testing.assert_close(distance, torch.cdist(query.embedding, gallery.embedding).double(), atol=1e-5, rtol=0)


def test_the_distance_is_the_stages_own_fused_with_the_individual_one(fitted):
    _, (query, gallery), distance = two_stage(fitted, top_k=5, weight=0.25)
    individual = torch.cdist(query.embedding.double(), gallery.embedding.double())
    near = individual[3].topk(5, largest=False).indices
    with torch.no_grad():
        a, b = (fitted.stage.prepare(Clues(clues.float(), GRID)) for clues in (query.clues[3:4], gallery.clues[near]))
        expected = 0.75 * individual[3, near] + 0.25 * fitted.stage.distance(a, b)
    torch.testing.assert_close(distance[3, near], expected, atol=1e-5, rtol=0)
    assert distance[3].topk(5, largest=False).indices.sort().values.tolist() == near.sort().values.tolist()


@pytest.mark.parametrize("method", [KReciprocalSettings(10, 3), PropagationSettings(10, 3)])
def test_neighbours_are_those_that_both_distances_decide(fitted, method):
    """Every pair measured for itself, and the lists of the embeddings ranked again by all of them."""
    alone, together = (
        two_stage(fitted, neighbours=method, candidates=20, top_k=7, **options)
        for options in ({"weight": 0.0}, {"weight": 0.25})
    )
    query, gallery = together[1]
    clues = torch.cat([query.clues, gallery.clues])
    near = find_neighbours(query.embedding, gallery.embedding, None, 20)
    index = torch.cdist(query.embedding, gallery.embedding).topk(7, largest=False).indices
    with torch.no_grad():
        prepared = fitted.stage.prepare(Clues(clues.float(), GRID))

        def measure(lists):
            ones = (prepared.select(slice(i, i + 1)) for i in range(len(lists)))
            pairs = zip(ones, lists, strict=True)
            return torch.stack([fitted.stage.distance(query, prepared.select(others)) for query, others in pairs])

        second_stage = SecondStage(index, measure(40 + index))
        near = replace(near, second_stage=second_stage, conditional=measure(near.graph.index[:, 1:21]))
    assert together[2].dtype == torch.float64 and not torch.equal(together[2], alone[2])
    torch.testing.assert_close(together[2], near.ranking(method, 0.25, 0.25).whole().double(), atol=1e-5, rtol=1e-5)
    query, gallery = alone[1]
    if isinstance(method, KReciprocalSettings):
        expected = k_reciprocal_distance(query.embedding, gallery.embedding, 10, 3)
        torch.testing.assert_close(alone[2], expected.double(), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"k1 below the number of images, 240 \(got 999\)"):
        two_stage(fitted, neighbours=replace(method, k1=999))
    for wrong, told in (
        ({"candidates": 0}, r"candidates as a whole number of at least 1 \(got 0\)"),
        ({"top_k": 0, "weight": 0.0}, r"top_k as a whole number of at least 1 \(got 0\)"),
        ({"top_k": 2.5}, r"top_k as a whole number of at least 1 \(got 2.5\)"),
        ({"gallery_clues": 0, "weight": 0.0}, r"gallery_clues as a whole number from 1 to 8, .* \(got 0\)"),
        ({"gallery_clues": 9, "weight": 0.0}, r"gallery_clues as a whole number from 1 to 8, .* \(got 9\)"),
        ({"gallery_clues": 2.5}, r"gallery_clues as a whole number from 1 to 8, .* \(got 2.5\)"),
        ({"candidates": 2.5}, r"candidates as a whole number of at least 1 \(got 2.5\)"),
        ({"weight": 2}, r"a fusion weight in \[0, 1\] \(got 2\)"),
        (
            {"neighbours": "k_reciprocal"},
            r"KReciprocalSettings\(\) or PropagationSettings\(\) .* \(got 'k_reciprocal'\)",
        ),
        ({"neighbours": type(method)}, r"or PropagationSettings\(\) of cace_pyg.config \(got <class"),
        ({"neighbours": replace(method, k1=20.5)}, r"k1 as a whole number of at least 1 \(got 20.5\)"),
        ({"neighbours": replace(method, k2=0)}, r"k2 as a whole number of at least 1 \(got 0\)"),
        ({"neighbours": replace(method, original_weight=3)}, r"original_weight in \[0, 1\] \(got 3\)"),
        ({"neighbours": PropagationSettings(exponent=-1)}, r"exponent of at least 0 \(got -1\)"),
    ):
        with pytest.raises(ValueError, match=told):
            two_stage(fitted, **({"neighbours": method} | wrong))


def test_one_seed_gives_one_stage_and_labels_are_only_names():
    features, pids, camids = people(12, 3)
    options = {"settings": PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3), "device": "cpu"}
    words = [f"person {pid:02d}" for pid in pids], np.array([f"camera {camid}" for camid in camids])
    named = (pids, camids), (pids * 7 + 3, camids), words
    first, *others = (fit_pair_stage(features, *labels, held_out=0, **options) for labels in named)
    for key, value in first.stage.state_dict().items():
        assert all(torch.equal(value, other.stage.state_dict()[key]) for other in others)
    assert first.fusion_weight is None


def test_a_builder_of_ones_own_is_given_again_to_load_its_stage(tmp_path):
    features, pids, camids = people(12, 3)
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=8, confusions=3)

    class MyBuilder(CorrespondenceAttention):
        """In the manner of a user's file."""

    made = functools.partial(MyBuilder, width=8)
    kept = fit_pair_stage(
        features, pids, camids, graph=made, settings=settings, held_out=0, device="cpu", run_dir=tmp_path / "run"
    )
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    read = load_pair_stage(path, graph=made)
    assert type(read.stage.builder) is MyBuilder
    assert all(torch.equal(value, read.stage.state_dict()[name]) for name, value in kept.stage.state_dict().items())
    with pytest.raises(ValueError, match=r"Give a class of your own in Python, as graph=: classes named in files"):
        load_pair_stage(path)
    for other in (NoAlignment, functools.partial(MyBuilder, width=16)):
        told = rf"trained with, MyBuilder\(.*width=8.*\) \(got {getattr(other, 'func', other).__name__}, .*graph="
        with pytest.raises(ValueError, match=told):
            load_pair_stage(path, graph=other)
    del MyBuilder, made, kept, read, other
    gc.collect()  # other tests look at all subclasses


def test_it_is_printed_in_a_line(fitted):
    printed = repr(fitted)
    assert printed.startswith("FittedPairStage(fusion_weight=") and len(printed) < 300 and "\n" not in printed


def test_it_is_kept_and_goes_on(fitted, tmp_path):
    features, pids, camids = people(60, 1)
    options = {"settings": QUICK, "held_out": 0.2, "device": "cpu", "run_dir": tmp_path / "run"}
    kept = fit_pair_stage(features, pids, camids, **options)
    again = fit_pair_stage(features, pids, camids, resume=True, **options)
    read = load_pair_stage(tmp_path / "run" / "checkpoints" / "best.ckpt")
    for other in (kept, again, read):
        assert other.fusion_weight == fitted.fusion_weight and other.channels == CHANNELS
        assert other.calibration == fitted.calibration
        for key, value in fitted.stage.state_dict().items():
            assert torch.equal(value, other.stage.state_dict()[key])
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    with pytest.raises(ValueError, match="features of a network of your own, .* For a gallery, export .* to ONNX"):
        load_model(path, from_yaml(load_checkpoint(path)["config"]))


def test_it_says_how_probable_it_is_and_learns_it_anew_elsewhere(fitted, tmp_path):
    asked = torch.linspace(0, 2, 9).view(3, 3)
    probability = fitted.probability(asked)
    assert probability.shape == (3, 3) and (probability.flatten().diff() <= 0).all()
    assert fitted.calibration.people == 12 and fitted.calibration.weight == fitted.fusion_weight
    features, pids, camids = people(30, 7)
    elsewhere = calibrate_pair_stage(fitted, features, pids, camids, device="cpu")
    assert elsewhere.calibration.people == 30 and elsewhere.stage is fitted.stage
    assert not torch.equal(elsewhere.probability(asked), probability)
    _, _, distance = two_stage(elsewhere, top_k=30)
    query, rest = torch.arange(0, 240, PICTURES), torch.tensor([i for i in range(240) if i % PICTURES])
    _, pids, camids = people(40, 2)
    same = (pids[query][:, None] == pids[rest]) & (camids[query][:, None] != camids[rest])
    near = distance <= distance.sort(1).values[:, 29:30]
    counts = near & (same | (pids[query][:, None] != pids[rest]))
    assert expected_calibration_error(elsewhere.probability(distance)[counts], same[counts]) < 0.05
    with pytest.raises(ValueError, match="calibrate_pair_stage learns a calibration"):
        replace(fitted, calibration=None).probability(asked)
    assert fitted.probability(0.3) == fitted.probability(torch.tensor([0.3], dtype=torch.float64))[0]
    with pytest.raises(ValueError, match="Expected numbers as distances"):
        fitted.probability("abc")
    with pytest.raises(ValueError, match="Expected clues of 16 channels .got 8"):
        calibrate_pair_stage(fitted, Features(torch.ones(4, 3), torch.ones(4, 8, 8), GRID), [1, 1, 2, 2])
    with pytest.raises(ValueError, match="at least 2 people with three pictures or more"):
        calibrate_pair_stage(fitted, features.select(slice(0, 6)), pids[:6], camids[:6], device="cpu")
    with pytest.raises(ValueError, match="a fusion weight .got none"):
        calibrate_pair_stage(replace(fitted, fusion_weight=None), features, pids[:180], camids[:180])


class Network(torch.nn.Module):
    """Somebody's own: a map, and an embedding of its own."""

    channels = 8

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=8), torch.nn.ReLU())

    def forward(self, images):
        feature_map = self.layers(images)
        return Individual(feature_map.amax((2, 3)), Clues.from_map(feature_map))


@needs_cuda
def test_a_stage_that_is_on_a_gpu_stays_there_and_takes_features_from_there(fitted):
    features, pids, camids = people(30, 2)
    there = Features(features.embedding.cuda(), features.clues.cuda(), GRID)
    assert there.embedding.device.type == there.clues.device.type == "cpu"
    expected = rerank_features(features, features, fitted, device="cpu", progress=False)
    moved = replace(fitted, stage=copy.deepcopy(fitted.stage).cuda())
    for device in ("cpu", "cuda"):
        found = rerank_features(there, there, moved, device=device, progress=False)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
        assert next(moved.stage.parameters()).is_cuda
        calibrate_pair_stage(moved, there, pids, camids, device=device)
        assert next(moved.stage.parameters()).is_cuda
    rerank_features(there, there, fitted, device="cuda", progress=False)
    assert next(fitted.stage.parameters()).device.type == "cpu"


@needs_cuda
def test_a_gpu_extracts_the_same_and_gives_the_network_back(tiny):
    pictures, network = sorted((tiny / "query").glob("*.jpg"))[:5], Network()
    there = extract_features(network, pictures, (64, 32), device="cuda", progress=False)
    assert next(network.parameters()).device.type == "cpu"
    here = extract_features(network, pictures, (64, 32), device="cpu", progress=False)
    torch.testing.assert_close(there.embedding, here.embedding, atol=1e-3, rtol=1e-3)


def test_extraction_is_what_the_network_says_of_each_picture(tiny):
    pictures = sorted((tiny / "query").glob("*.jpg"))[:5]
    found = extract_features(Network(), pictures, size=(64, 32), batch_size=2, device="cpu", progress=False)
    pixels = torch.from_numpy(np.array(read_picture(pictures[3]).resize((32, 64), 2))).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        embedding, clues = Network()(((pixels - mean[:, None, None]) / deviation[:, None, None])[None])
    assert found.grid == clues.grid == (8, 4) and found.clues.dtype == torch.float16 and len(found) == 5
    torch.testing.assert_close(
        found.embedding[3], torch.nn.functional.normalize(embedding[0], dim=0), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(found.clues[3].float(), clues.features[0], atol=2e-3, rtol=1e-3)

    flipped = extract_features(Network(), pictures, (64, 32), flip=True, device="cpu", progress=False)
    with torch.no_grad():
        mirrored, _ = Network()(((pixels - mean[:, None, None]) / deviation[:, None, None])[None].flip(3))
    mean_of_both = torch.nn.functional.normalize(embedding[0] + mirrored[0], dim=0)
    torch.testing.assert_close(flipped.embedding[3], mean_of_both, atol=1e-5, rtol=0)
    assert (flipped.embedding[3] - found.embedding[3]).abs().max() > 1e-4
    torch.testing.assert_close(flipped.clues, found.clues, atol=2e-3, rtol=1e-3)


def test_features_are_kept_in_a_file(tmp_path):
    features = Features(torch.rand(3, 5), torch.rand(3, 8, 4).half(), (4, 2))
    features.save(tmp_path / "some.pt")
    again = Features.load(tmp_path / "some.pt")
    assert torch.equal(again.embedding, features.embedding) and torch.equal(again.clues, features.clues)
    assert again.grid == (4, 2) and again.clues.dtype == torch.float16
    (tmp_path / "other.pt").write_text("x")
    torch.save([1], tmp_path / "list.pt")
    for name in ("other.pt", "list.pt"):
        with pytest.raises(
            ValueError, match=f"Expected a file that Features.save wrote .got .*{name}, which is not one"
        ):
            Features.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no features at .*none.pt"):
        Features.load(tmp_path / "none.pt")


def test_a_calibration_from_few_people_says_so(fitted, capsys):
    calibrate_pair_stage(fitted, *people(10, 3), device="cpu")
    assert "warning: probabilities: 10 people are few" in capsys.readouterr().out
    calibrate_pair_stage(fitted, *people(30, 3), device="cpu")
    assert "people are few" not in capsys.readouterr().out


def test_an_extractor_says_how_many_channels_its_map_has(tiny):
    with pytest.raises(ValueError, match="number of channels of its map as `channels` \\(got none from Identity\\)"):
        extract_features(torch.nn.Identity(), [next(tiny.rglob("*.jpg"))], size=(48, 24))


def test_wrong_features_are_refused():
    with pytest.raises(ValueError, match=r"of the same images \(got \(3, 4\) and \(2, 8, 5\)\)"):
        Features(torch.ones(3, 4), torch.ones(2, 8, 5), (4, 2))
    with pytest.raises(
        ValueError, match=r"Expected the 8 clues of a map of 4·2 pixels \(got 9\); leave class and register"
    ):
        Features(torch.ones(3, 4), torch.ones(3, 9, 5), (4, 2))
    with pytest.raises(ValueError, match="Expected finite clues"):
        Features(np.ones((3, 4)), np.full((3, 8, 5), np.nan), (4, 2))


def test_wrong_labels_and_other_networks_are_refused(fitted):
    features, pids, camids = people(6, 4)
    with pytest.raises(
        ValueError, match=r"Expected pids as a whole number or a word for each of 36 images \(got .* \(35"
    ):
        fit_pair_stage(features, pids[1:], camids)
    with pytest.raises(ValueError, match=r"Expected pids of 0 and above to train on \(got -1\); leave junk out"):
        fit_pair_stage(features, pids - 1, camids)
    with pytest.raises(ValueError, match=r"held_out 0.01 would hold out 0 of 6 .*; give held_out 0.5, or 0"):
        fit_pair_stage(features, pids, camids, held_out=0.01)
    other = Features(torch.ones(2, 4), torch.ones(2, 8, 5), GRID)
    with pytest.raises(ValueError, match=r"Expected clues of 16 channels on one grid \(got 5 of \(4, 2\)"):
        rerank_features(other, other, fitted)


def test_a_warning_says_if_the_network_knows_the_held_out_people(capsys):
    """Nothing can be learned from their confusions: there are none."""
    features, pids, camids = people(20, 6)
    known = Features(torch.eye(20)[pids], features.clues, GRID)
    options = {"settings": PairPhaseSettings(epochs=1, batches_per_epoch=1, anchors=4, confusions=3), "device": "cpu"}
    fit_pair_stage(known, pids, camids, held_out=0.3, **options)
    said = capsys.readouterr()
    assert "ranks the held-out people with 100.0 mAP, so it has probably been trained on them" in said.out + said.err
    assert "does not improve the ranking, so its weight is 0" in said.out + said.err
    fit_pair_stage(features, pids, camids, held_out=0.3, **options)
    said = capsys.readouterr()
    assert "trained on them" not in said.out + said.err
