"""Batches out of worker processes, and errors that come with them."""

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image

from cace_pyg.data.dataset import Draw, ReidDataset
from cace_pyg.data.picture_loader import PictureLoader
from cace_pyg.data.sample import Sample
from cace_pyg.data.transforms import evaluation_transform


@pytest.fixture
def dataset(tmp_path):
    rng, samples = np.random.default_rng(0), []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (30, 15, 3), dtype=np.uint8)).save(path)
        samples.append(Sample(path, number + 1, 1))
    return ReidDataset(samples, evaluation_transform(), (24, 12))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_pictures_in_their_order_every_time(dataset, workers):
    loader = PictureLoader(dataset, workers, batch_size=4)
    for _ in range(2):
        batches = list(loader)
        assert [batch.label.tolist() for batch in batches] == [[1, 2, 3, 4], [5, 6]]
        assert torch.equal(batches[1].image[1], dataset[5].image)
    drawn = PictureLoader(dataset, workers, batch_sampler=[[Draw(5, 1), Draw(0, 2)]])
    assert [batch.index.tolist() for batch in drawn] == [[5, 0]] and len(drawn) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_the_error_that_one_process_has(dataset, workers):
    path = dataset.samples[5].path
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"^cannot read the picture {path}: [^\n]*$"):
        list(PictureLoader(dataset, workers, batch_size=4))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"^there is no picture at {path}$"):
        list(PictureLoader(dataset, workers, batch_size=4))
    assert not multiprocessing.active_children()  # they have ended; as garbage they would be waited for, 5 s each
