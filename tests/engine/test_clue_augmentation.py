"""Clues left out, and maps mirrored, at random."""

import pytest
import torch

from cace_pyg.engine.pair_phase import clue_dropout, mirror_clues
from cace_pyg.graph import Clues


def drawn(clues, seed=0):
    return torch.rand(clues.features.shape[:2], generator=torch.Generator().manual_seed(seed))


def test_whole_clues_go_and_the_mean_is_expected_to_stay():
    clues = Clues(torch.rand(400, 12, 5) + 1, (4, 3), torch.zeros(400, 12, dtype=torch.long))
    left = clue_dropout(clues, 0.25, drawn(clues))
    gone = (left.features == 0).all(-1)
    assert torch.equal(gone, (left.features == 0).any(-1))
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(left.features[~gone], clues.features[~gone] / 0.75)
    assert float(left.features.mean() / clues.features.mean()) == pytest.approx(1, abs=0.03)
    assert left.parts is clues.parts and left.grid == clues.grid


def test_the_random_numbers_decide_and_probability_zero_changes_nothing():
    clues = Clues(torch.rand(3, 6, 2), (3, 2))
    once, again, other = (clue_dropout(clues, 0.5, drawn(clues, seed)).features for seed in (1, 1, 2))
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert clue_dropout(clues, 0, drawn(clues)) is clues


def test_mirrored_clues_are_those_of_the_mirrored_map():
    feature_map, labels = torch.rand(3, 5, 4, 3), torch.randint(0, 4, (3, 12, 9))
    found = mirror_clues(Clues.from_map(feature_map, labels), torch.tensor([True, False, True]))
    for image in range(3):
        expected = Clues.from_map(feature_map, labels)
        if image != 1:
            expected = Clues.from_map(feature_map.flip(3), labels.flip(2))
        assert torch.equal(found.features[image], expected.features[image])
        assert torch.equal(found.parts[image], expected.parts[image])
    assert found.grid == (4, 3)


def test_chosen_images_are_mirrored_as_if_selected_first():
    clues = Clues.from_map(torch.rand(6, 5, 4, 3), torch.randint(0, 4, (6, 12, 9)))
    images, mirrored = torch.tensor([4, 0, 4, 2]), torch.tensor([True, False, False, True])
    found, expected = mirror_clues(clues, mirrored, images), mirror_clues(clues.select(images), mirrored)
    assert torch.equal(found.features, expected.features) and torch.equal(found.parts, expected.parts)


def test_in_place_dropout_has_the_same_values_and_takes_no_memory():
    clues = Clues(torch.rand(3, 6, 2), (3, 2))
    expected = clue_dropout(clues, 0.5, drawn(clues)).features
    found = clue_dropout(clues, 0.5, drawn(clues), in_place=True).features
    assert torch.equal(found, expected) and found.data_ptr() == clues.features.data_ptr()
