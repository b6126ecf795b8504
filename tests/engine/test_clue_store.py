"""Clues in memory or on disk are the same clues."""

import errno
import os

import pytest
import torch

from cace_pyg.engine.clue_store import store_clues, store_raw_clues
from cace_pyg.graph import Clues
from cace_pyg.models import PairOperand


def batches(parts):
    made = []
    for size in (3, 3, 1):
        labels = torch.randint(0, 4, (size, 6)) if parts else None
        keys = Clues(torch.rand(size, 6, 4), (3, 2), labels)
        made.append(PairOperand(keys, torch.rand(size, 6, 6), torch.rand(size, 6, 5), torch.rand(size, 2)))
    return made


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_comes_out_is_what_went_in(parts, on_disk, tmp_path):
    made = batches(parts)
    found, expected = store_clues(made, 7, str(tmp_path) if on_disk else None), PairOperand.concatenate(made)
    assert found.compared.grid == expected.compared.grid and len(found) == 7
    for name in ("intra", "projected", "individual"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.compared.features, expected.compared.features)
    assert torch.equal(found.compared.parts, expected.compared.parts) if parts else found.compared.parts is None
    assert torch.equal(found.select(torch.tensor([6, 0])).projected, expected.projected[[6, 0]])
    assert not list(tmp_path.iterdir())  # nothing is left behind, however the process ends


@pytest.mark.parametrize("on_disk", [False, True])
def test_no_edges_within_images_take_no_room(on_disk, tmp_path):
    made = [
        PairOperand(operand.compared, torch.zeros(len(operand), 0, 0), operand.projected, operand.individual)
        for operand in batches(0)
    ]
    found = store_clues(made, 7, str(tmp_path) if on_disk else None)
    assert found.intra.shape == (7, 0, 0) and torch.equal(found.projected[6], made[2].projected[0])


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("on_disk", [False, True])
def test_raw_clues_are_kept_as_they_are_in_half_precision_too(parts, on_disk, tmp_path):
    several = [clues.compared for clues in batches(parts)]
    several = [Clues(clues.features.half(), clues.grid, clues.parts) for clues in several]
    found = store_raw_clues(several, 7, str(tmp_path) if on_disk else None)
    expected = Clues.concatenate(several)
    assert found.features.dtype == torch.float16 and torch.equal(found.features, expected.features)
    assert torch.equal(found.parts, expected.parts) if parts else found.parts is None
    assert found.grid == (3, 2) and not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_or_full(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"evaluation.clues_on_disk to be a folder with .* GB to spare for 7 images"):
        store_clues(batches(False), 7, str(tmp_path / "nowhere"))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match="No space left on device"):
        store_clues(batches(False), 7, str(tmp_path))
