"""Label maps beside pictures, augmented alike."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cace_pyg.data.dataset import Draw, Item, ReidDataset
from cace_pyg.data.part_map import check_part_maps, part_map_path, read_part_map
from cace_pyg.data.sample import Sample
from cace_pyg.data.transforms import (
    AugmentationSettings,
    evaluation_transform,
    training_transform,
)

SIZE = (24, 12)


@pytest.fixture
def sample(tmp_path):
    """A picture whose red channel is 40 × the part, and the map of these parts."""
    parts = np.random.default_rng(0).integers(1, 6, SIZE).astype(np.uint8)
    picture = tmp_path / "bounding_box_train" / "0001_c1s1_000001_00.png"
    picture.parent.mkdir()
    made = Sample(picture, 1, 1)
    part_map_path(picture).parent.mkdir(parents=True)
    Image.fromarray(np.stack([40 * parts] * 3, -1)).save(picture)
    Image.fromarray(parts).save(part_map_path(picture))
    return made


def dataset(sample, transform, parts):
    return ReidDataset([sample], transform, SIZE, parts=parts)


def test_map_and_picture_are_flipped_and_cut_alike(sample):
    transform = training_transform(AugmentationSettings(flip=0.5, crop_padding=4, erasing=0))
    pictures = dataset(sample, transform, parts=True)
    mean, std = 0.485, 0.229
    moved = 0
    for seed in range(20):
        item = pictures[Draw(0, seed)]
        red = ((item.image[0] * std + mean) * 255 / 40).round().to(torch.uint8)
        assert torch.equal(item.parts, red)  # the border is black, and background
        moved += not torch.equal(item.parts, read_part_map(sample, SIZE))
    assert moved > 15


def test_colours_and_erasing_leave_the_map_alone(sample):
    moved = AugmentationSettings(erasing=0)
    moved_and_changed = AugmentationSettings(erasing=1, colour_jitter=0.3)
    for seed in range(10):
        a, b = (
            dataset(sample, training_transform(settings), True)[Draw(0, seed)]
            for settings in (moved, moved_and_changed)
        )
        assert torch.equal(a.parts, b.parts) and not torch.equal(a.image, b.image)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches(sample, parts, workers):
    pictures = ReidDataset([sample] * 3, training_transform(AugmentationSettings()), SIZE, cache=True, parts=parts)
    batch = Item(*next(iter(DataLoader(pictures, batch_sampler=[[Draw(i, i) for i in range(3)]], num_workers=workers))))
    assert batch.image.shape == (3, 3, *SIZE) and batch.parts.shape == ((3, *SIZE) if parts else (3, 0))
    assert torch.equal(batch.parts, torch.stack([pictures[Draw(i, i)].parts for i in range(3)]))


@pytest.mark.parametrize("settings", [{}, {"colour_jitter": 0.2, "crop_padding": 3}, {"flip": 1.0, "crop_padding": 0}])
def test_a_picture_is_the_same_with_and_without_its_map(sample, settings):
    transform = training_transform(AugmentationSettings(**settings))
    for seed in range(10):
        with_map = dataset(sample, transform, parts=True)[Draw(0, seed)]
        without = dataset(sample, transform, parts=False)[Draw(0, seed)]
        assert torch.equal(with_map.image, without.image)
        assert without.parts.numel() == 0 and with_map.parts.shape == SIZE and with_map.parts.dtype == torch.uint8


def test_evaluation_leaves_the_map_as_it_is(sample):
    item = dataset(sample, evaluation_transform(), parts=True)[0]
    assert torch.equal(item.parts, read_part_map(sample, SIZE)) and type(item.parts) is torch.Tensor


def test_resizing_mixes_no_labels_and_palettes_are_indices(sample):
    big = read_part_map(sample, (48, 24))
    assert torch.equal(big[::2, ::2], read_part_map(sample, SIZE))
    path = part_map_path(sample.path)
    with Image.open(path) as plain:
        palette = plain.copy()
    palette.putpalette(list(range(255, -1, -1)) * 3)
    wanted = read_part_map(sample, SIZE)
    palette.save(path)
    assert Image.open(path).mode == "P" and torch.equal(read_part_map(sample, SIZE), wanted)


def test_missing_and_broken_maps_are_named(sample):
    path = part_map_path(sample.path)
    check_part_maps([sample])
    Image.new("RGB", SIZE[::-1]).save(path)
    with pytest.raises(ValueError, match="got mode RGB"):
        read_part_map(sample, SIZE)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot read the label map"):
        read_part_map(sample, SIZE)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no label map at .*parts.*choose another --graph"):
        read_part_map(sample, SIZE)
    with pytest.raises(FileNotFoundError, match="1 of 1 pictures have none"):
        check_part_maps([sample])


@pytest.mark.parametrize("palette", [False, True])
def test_a_map_cut_anywhere_is_refused_by_name(sample, palette):
    path = part_map_path(sample.path)
    if palette:
        with Image.open(path) as plain:
            coloured = plain.copy()
        coloured.putpalette(range(256))
        coloured.save(path)
    whole = path.read_bytes()
    for length in range(len(whole) - 40):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"cannot read the label map .*{path.name}.*make it again"):
            read_part_map(sample, SIZE)


def test_files_that_lose_labels_are_refused(sample):
    path = part_map_path(sample.path)
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(path, "JPEG")
    with pytest.raises(ValueError, match="cannot read the label map .*expected a complete PNG file"):
        read_part_map(sample, SIZE)
    Image.fromarray(np.zeros(SIZE, dtype=np.uint16)).save(path)
    with pytest.raises(ValueError, match="got mode I;16"):
        read_part_map(sample, SIZE)
    path.write_bytes(grey_png_of_4_bits(np.full(SIZE, 3, dtype=np.uint8)))
    assert np.array_equal(Image.open(path), np.full(SIZE, 51))  # Pillow stretches 0 … 15 to 0 … 255
    with pytest.raises(ValueError, match="labels of 8 bits .*got 4-bit grey"):
        read_part_map(sample, SIZE)


def test_a_relative_path_finds_its_map(sample, monkeypatch):
    wanted = part_map_path(sample.path)
    monkeypatch.chdir(sample.path.parent)
    name, folder = sample.path.name, sample.path.parent.name
    for relative in (name, f"../{folder}/{name}", f"./{name}"):
        assert part_map_path(Path(relative)) == wanted


def grey_png_of_4_bits(labels):
    """What PNG optimisers make of few labels, and Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = labels.shape
    rows = b"".join(b"\0" + (row[::2] << 4 | row[1::2]).tobytes() for row in labels)
    header = struct.pack(">IIBBBBB", width, height, 4, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
