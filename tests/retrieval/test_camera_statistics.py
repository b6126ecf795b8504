"""Every camera has the same statistics."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from cace_pyg import (
    CameraStatistics,
    Features,
    calibrate_pair_stage,
    fit_pair_stage,
    load_pair_stage,
    rerank_features,
)
from cace_pyg.config import PairPhaseSettings

KINDS = [list, np.array, lambda names: torch.tensor([ord(name) for name in names])]


def drawn(count, positions=6, channels=(5, 4)):
    return normalize(torch.randn(count, channels[0]), dim=1), torch.rand(count, positions, channels[1])


def statistics_of(embedding, clues, cameras):
    return CameraStatistics(zip(embedding.split(7), clues.split(7), strict=True), cameras)


def written_out(gallery, cameras, values, camera, add_mean):
    """One picture's values, ``(…, channel)``, in float64, with numpy."""
    gallery, values = gallery.double().numpy(), values.double().numpy()
    over = tuple(range(gallery.ndim - 1))
    own = gallery[[position for position, name in enumerate(cameras) if name == camera]]
    mean, variance, count = gallery.mean(over), gallery.var(over), len(own)
    own_mean, own_variance = (own.mean(over), own.var(over)) if count else (mean, variance)
    own_mean = (count * own_mean + 10 * mean) / (count + 10)
    own_variance = (count * own_variance + 10 * variance) / (count + 10)
    floor = 0.1 * np.sqrt(variance).mean()
    moved = (values - own_mean) * (np.sqrt(variance) + floor) / (np.sqrt(own_variance) + floor)
    return moved + mean if add_mean else moved / np.linalg.norm(moved)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_formula_written_out(kind):
    (embedding, clues), (asked, their_clues) = drawn(30), drawn(4)
    names, cameras = [*"aab" * 10], [*"bacb"]  # the gallery has no picture of camera c
    found = statistics_of(embedding, clues, kind(names))
    expected = [written_out(embedding, names, *one, False) for one in zip(asked, cameras, strict=True)]
    np.testing.assert_allclose(found.embeddings(asked, kind(cameras)), np.array(expected), atol=1e-6)
    expected = [written_out(clues, names, *one, True) for one in zip(their_clues, cameras, strict=True)]
    np.testing.assert_allclose(found.clues(their_clues, kind(cameras)), np.array(expected), atol=1e-6)


def test_what_a_camera_does_to_all_its_pictures_is_gone():
    """People are directions; a camera adds the same to all its pictures, and changes the contrast of their clues."""
    people = torch.eye(6).repeat(40, 1)
    camera = torch.arange(240) // 120
    embedding = normalize(people + 3 * torch.nn.functional.one_hot(camera, 6).float(), dim=1)
    plain = torch.rand(120, 8, 3).repeat(2, 1, 1)
    clues = torch.where(camera[:, None, None] == 1, 0.5 * plain + 2, plain)
    statistics = statistics_of(embedding, clues, camera)
    standardised = statistics.embeddings(embedding, camera)

    def found(embedding):
        return ((embedding[:6] @ embedding[120:126].T).argmax(1) == torch.arange(6)).float().mean()

    assert found(embedding) < 0.5 and found(standardised) == 1
    moved = statistics.clues(clues, camera)
    before, after = ((values[:120] - values[120:]).abs().mean() for values in (clues, moved))
    assert after < before / 4


def test_cameras_with_one_picture_each_keep_what_makes_them_differ():
    embedding, clues = drawn(20)
    found = statistics_of(embedding, clues, range(20))
    alike = torch.nn.functional.cosine_similarity(
        found.embeddings(embedding, range(20)), embedding - embedding.mean(0), dim=1
    )
    assert alike.min() > 0.95
    assert torch.isfinite(found.clues(clues, range(20))).all()


def test_channels_without_variation_stay_finite():
    embedding, clues = torch.ones(9, 3), torch.zeros(9, 2, 4)
    found = statistics_of(embedding, clues, [1, 2, 3] * 3)
    assert torch.equal(found.clues(clues, [1, 2, 3] * 3), clues)
    assert torch.equal(found.embeddings(embedding, [1, 2, 3] * 3), torch.zeros(9, 3))


def test_clues_stay_in_half_precision():
    embedding, clues = drawn(12)
    found = statistics_of(embedding, clues.half(), [*"abab" * 3])
    assert found.clues(clues.half(), [*"abab" * 3]).dtype == torch.float16


def test_features_are_standardised_alike(tmp_path):
    embedding, clues = drawn(600)
    features, cameras = Features(embedding, clues.half(), (3, 2)), [1, 2, 3] * 200
    statistics = features.camera_statistics(cameras)
    found = features.standardised(statistics, cameras)
    assert torch.equal(found.clues, statistics.clues(features.clues, cameras)) and found.grid == (3, 2)
    torch.testing.assert_close(found.embedding, statistics.embeddings(features.embedding, cameras))
    with pytest.raises(ValueError, match="standardised already"):
        found.standardised(statistics, cameras)
    with pytest.raises(ValueError, match="Expected statistics, then cameras .got list first"):
        features.standardised(cameras, statistics)
    found.save(tmp_path / "features.pt")
    assert Features.load(tmp_path / "features.pt").are_standardised and found.select(slice(2)).are_standardised


def test_a_pair_stage_is_for_features_of_one_kind(tmp_path):
    embedding, clues = drawn(48, positions=4)
    features, cameras, people = Features(embedding, clues, (2, 2)), [1, 2] * 24, torch.arange(12).repeat_interleave(4)
    other = features.standardised(features.camera_statistics(cameras), cameras)
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=6, confusions=3)
    for own, wrong in ((features, other), (other, features)):
        folder = tmp_path / str(own.are_standardised)
        made = fit_pair_stage(own, people, cameras, settings=settings, held_out=0.3, device="cpu", run_dir=folder)
        for fitted in (made, load_pair_stage(folder / "checkpoints" / "best.ckpt")):
            assert fitted.standardised is own.are_standardised
            assert rerank_features(own, own, fitted, weight=0.5).isfinite().all()
            for pair in ((own, wrong), (wrong, own)):
                with pytest.raises(ValueError, match="Expected features that are (not )?standardised by camera"):
                    rerank_features(*pair, fitted, weight=0.5)
            with pytest.raises(ValueError, match="Expected features that are (not )?standardised by camera"):
                calibrate_pair_stage(fitted, wrong, people, cameras)


@pytest.mark.parametrize("cameras", [[], [1, 2], [1, 2, 1, 2, 1, 2]])
def test_a_camera_for_each_picture(cameras):
    with pytest.raises(ValueError, match=f"a camera for each picture .got {len(cameras)} cameras for "):
        statistics_of(*drawn(5), cameras)
    statistics = statistics_of(*drawn(5), [1, 2, 1, 2, 1])
    for move in (statistics.embeddings, statistics.clues):
        with pytest.raises(ValueError, match="a camera for each of 5 pictures"):
            move(torch.rand(5, 5), cameras)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_few_pictures_say_nothing_about_their_cameras(count):
    with pytest.raises(ValueError, match=f"at least 5 pictures, for the statistics of their cameras .got {count}"):
        statistics_of(*drawn(count), [1] * count)


@pytest.mark.parametrize("wrong", ["abcde", {1, 2, 3, 4, 5}, np.ones((5, 1)), dict.fromkeys(range(5))])
def test_cameras_are_a_list(wrong):
    with pytest.raises(ValueError, match="Expected a list of cameras, or an array with one dimension"):
        statistics_of(*drawn(5), wrong)


def test_labels_of_another_kind_are_refused_and_a_new_camera_is_an_average_one():
    embedding, clues = drawn(6)
    found = statistics_of(embedding, clues, ["1", "2"] * 3)
    for cameras in ([1, 2] * 3, [7] * 6):
        with pytest.raises(ValueError, match="Expected cameras that the statistics know, such as '1'"):
            found.embeddings(embedding, cameras)
    average = found.embeddings(embedding, [None] * 6)
    assert torch.equal(found.embeddings(embedding, ["1", *"x" * 5])[1:], average[1:])
    assert found.known(["1", "x", None]) == ["1", None, None]
    with pytest.raises(ValueError, match="Expected 5 channels, as in the pictures of the statistics .got 4"):
        found.embeddings(embedding[:, :4], ["1", "2"] * 3)


def test_numbers_in_tensors_are_numbers():
    embedding, clues = drawn(6)
    found = statistics_of(embedding, clues, [1, 2] * 3)
    for cameras in ([torch.tensor(1), torch.tensor(2)] * 3, [np.int64(1), np.int64(2)] * 3):
        assert torch.equal(found.embeddings(embedding, cameras), found.embeddings(embedding, [1, 2] * 3))
        assert statistics_of(embedding, clues, cameras).cameras == [1, 2]
