"""Decoding, caching, and files that are broken."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cace_pyg.data.dataset import Draw, ReidDataset
from cace_pyg.data.sample import Sample
from cace_pyg.data.sampler import RandomIdentitySampler
from cace_pyg.data.transforms import AugmentationSettings, training_transform

SIZE = (24, 12)


@pytest.fixture
def samples(tmp_path):
    rng = np.random.default_rng(0)
    samples = []
    for i in range(12):
        path = tmp_path / f"{i // 3:04d}_c{i % 3}s1_{i:06d}_00.{'png' if i % 2 else 'jpg'}"
        Image.fromarray(rng.integers(0, 255, (30, 15, 3), dtype=np.uint8)).save(path)
        samples.append(Sample(path, i // 3, i % 3))
    return samples


def unchanged(image):
    return image


def test_pixels_are_the_resized_picture(samples):
    item = ReidDataset(samples, unchanged, SIZE)[4]
    picture = Image.open(samples[4].path).convert("RGB").resize((12, 24), Image.Resampling.BILINEAR)
    assert item.image.dtype == torch.uint8 and item.image.is_contiguous()
    assert np.array_equal(item.image.permute(1, 2, 0).numpy(), np.asarray(picture))
    assert item[1:4] == (1, 1, 4) and item.parts.numel() == 0


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_kind_of_picture_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(np.full((30, 15, 3), 255, dtype=np.uint8)).convert(mode).save(path)
    image = ReidDataset([Sample(path, 1, 1)], unchanged, SIZE)[0].image
    assert image.shape == (3, *SIZE) and (image > 250).all()


def test_a_cached_picture_is_read_once_and_safe_from_transforms(samples):
    dataset = ReidDataset(samples, lambda image: image.fill_(7), SIZE, cache=True)
    plain = ReidDataset(samples, unchanged, SIZE)[0].image
    dataset[0]
    samples[0].path.unlink()
    dataset.transform = unchanged
    assert torch.equal(dataset[0].image, plain)
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        ReidDataset(samples, unchanged, SIZE)[0]


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_picture_cut_anywhere_is_refused_by_name(tmp_path, ending):
    path = tmp_path / f"0001_c1s1_000001_00.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 20, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    dataset = ReidDataset([Sample(path, 1, 1)], unchanged, SIZE)
    for length in [*range(0, 120), *range(120, len(whole) - 40, 97)]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"cannot read the picture .*{path.name}.*replace or remove it"):
            dataset[0]


def test_labels_must_cover_the_pids(samples):
    with pytest.raises(ValueError, match=r"got none for \[2, 3\], 2 in all\); make labels with relabel"):
        ReidDataset(samples, unchanged, SIZE, labels={0: 0, 1: 1})


def test_an_epoch_is_the_same_with_workers_and_without(samples):
    transform = training_transform(AugmentationSettings(crop_padding=2, colour_jitter=0.1))
    dataset = ReidDataset(samples, transform, SIZE)
    sampler = RandomIdentitySampler([sample.pid for sample in samples], 2, 2, seed=3)
    alone, helped = (
        [(batch.image, batch.index) for batch in DataLoader(dataset, batch_sampler=sampler, num_workers=workers)]
        for workers in (0, 2)
    )
    assert len(alone) == len(helped) == len(sampler) == 3
    assert all(torch.equal(a, b) for pair in zip(alone, helped, strict=True) for a, b in zip(*pair, strict=True))


def test_a_bare_index_draws_from_the_global_generator(samples):
    dataset = ReidDataset(samples, training_transform(AugmentationSettings(flip=0.5, erasing=0.5)), SIZE)
    images = {dataset[0].image.sum().item() for _ in range(20)}
    assert len(images) > 2
    assert len({dataset[Draw(0, 5)].image.sum().item() for _ in range(5)}) == 1
