"""Every camera has the same statistics."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from cace_pyg import CameraStatistics, Features

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


def test_features_are_standardised_alike():
    embedding, clues = drawn(600)
    features, cameras = Features(embedding, clues.half(), (3, 2)), [1, 2, 3] * 200
    statistics = features.camera_statistics(cameras)
    found = features.standardised(statistics, cameras)
    assert torch.equal(found.clues, statistics.clues(features.clues, cameras)) and found.grid == (3, 2)
    torch.testing.assert_close(found.embedding, statistics.embeddings(features.embedding, cameras))


@pytest.mark.parametrize("cameras", [[], [1, 2], [1, 2, 1, 2]])
def test_a_camera_for_each_picture(cameras):
    with pytest.raises(ValueError, match="a picture, and a camera for each"):
        statistics_of(*drawn(3), cameras)
    statistics = statistics_of(*drawn(3), [1, 2, 1])
    for move in (statistics.embeddings, statistics.clues):
        with pytest.raises(ValueError, match="a camera for each of 3 pictures"):
            move(torch.rand(3, 5), cameras)


def test_no_picture():
    with pytest.raises(ValueError, match="a picture, and a camera for each .got 0 cameras for 0"):
        CameraStatistics([], [])
