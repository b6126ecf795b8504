"""From lists of pictures to batches: validation split, decoding, augmentation, samplers, mining."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cace_pyg.data.confusion_triplets import (
    ConfusionTripletSampler,
    confusion_negatives,
)
from cace_pyg.data.dataset import Draw, ReidDataset, relabel
from cace_pyg.data.sample import Sample
from cace_pyg.data.sampler import RandomIdentitySampler
from cace_pyg.data.transforms import (
    AugmentationSettings,
    evaluation_transform,
    training_transform,
)
from cace_pyg.data.validation import hold_out_identities


def people(identities: int, cameras: int = 3, each: int = 2) -> list[Sample]:
    return [
        Sample(Path(f"{pid:04d}_c{camid}_{number}.jpg"), pid, camid)
        for pid in range(1, identities + 1)
        for camid in range(1, cameras + 1)
        for number in range(each)
    ]


def test_held_out_identities_are_wholly_held_out_and_answerable():
    train = people(20)
    splits = hold_out_identities(train, 0.2, seed=3)
    held = {s.pid for s in splits.query}
    assert len(held) == 4 and held == {s.pid for s in splits.gallery}
    assert not held & {s.pid for s in splits.train}
    assert sorted(splits.train + splits.query + splits.gallery) == sorted(train)
    for query in splits.query:
        assert any(g.pid == query.pid and g.camid != query.camid for g in splits.gallery)
    assert len(splits.query) == 4 * 3
    assert splits == hold_out_identities(train[::-1], 0.2, seed=3)
    assert splits != hold_out_identities(train, 0.2, seed=4)


def test_nothing_held_out_and_impossible_splits():
    assert hold_out_identities(people(3), 0, seed=0).query == ()
    with pytest.raises(ValueError, match=r"of the 0 .* pictures or more from two cameras.*give data.hold_out 0.15"):
        hold_out_identities(people(20, cameras=1), 0.2, seed=0)
    with pytest.raises(ValueError, match=r"in \[0, 1\) \(got 1\)"):
        hold_out_identities(people(3), 1, seed=0)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "0001_c1s1_000001_00.jpg"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("cache", [False, True])
def test_a_draw_fixes_the_augmentation_and_leaves_the_generator_alone(picture, cache):
    transform = training_transform(AugmentationSettings(crop_padding=4, colour_jitter=0.2))
    dataset = ReidDataset([Sample(picture, 5, 1)], transform, (32, 16), labels={5: 0}, cache=cache)
    state = torch.get_rng_state()
    first, again, other = dataset[Draw(0, 1)], dataset[Draw(0, 1)], dataset[Draw(0, 2)]
    assert first.image.shape == (3, 32, 16) and first.label == 0 and first.camid == 1
    assert torch.equal(first.image, again.image) and not torch.equal(first.image, other.image)
    assert torch.equal(state, torch.get_rng_state())


def test_evaluation_is_only_normalisation(picture):
    item = ReidDataset([Sample(picture, 5, 1)], evaluation_transform(), (40, 20))[0]
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    torch.testing.assert_close(item.image, expected)
    assert item.label == 5


def test_a_truncated_picture_is_named(picture):
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"cannot read the picture .*0001_c1s1_000001_00.jpg"):
        ReidDataset([Sample(picture, 1, 1)], evaluation_transform(), (32, 16))[0]


def test_relabel():
    assert relabel([Sample(Path("x"), pid, 1) for pid in (9, 4, 9, 7)]) == {4: 0, 7: 1, 9: 2}


def test_batches_hold_p_identities_and_k_pictures():
    pids = [s.pid for s in people(7)]
    sampler = RandomIdentitySampler(pids, 4, 3, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == -(-42 // 12)
    for batch in batches:
        counts = Counter(pids[draw.index] for draw in batch)
        assert len(counts) == 4 and set(counts.values()) == {3}
        assert len({draw.index for draw in batch}) == 12  # enough pictures: none twice
    assert batches == list(sampler)
    sampler.set_epoch(1)
    assert batches != list(sampler)


def test_identities_come_equally_often_and_few_pictures_repeat():
    pids = [1, 1, 2, 2, 2, 3, 4, 4, 5, 5]
    batches = list(RandomIdentitySampler(pids, 2, 4, batches_per_epoch=50))
    assert len(batches) == 50
    counts = Counter(pids[draw.index] for batch in batches for draw in batch)
    assert set(counts.values()) == {50 * 8 // 5}
    assert all(len({pids[d.index] for d in batch}) == 2 for batch in batches)


def test_impossible_batches_are_refused():
    with pytest.raises(ValueError, match=r"num_identities = 4 training identities \(got 1\)"):
        RandomIdentitySampler([1, 1, 1], 4, 4)
    with pytest.raises(ValueError, match="every training identity has one"):
        RandomIdentitySampler([1, 2, 3, 4], 2, 2)
    with pytest.raises(ValueError, match="at least 2 identities and 2 pictures"):
        RandomIdentitySampler([1, 1, 2, 2], 2, 1)


def test_confusions_are_the_nearest_pictures_of_the_nearest_wrong_identities():
    embeddings, pids = torch.randn(30, 4), torch.randint(0, 6, (30,))
    negatives = confusion_negatives(embeddings, pids, k=3)
    for i in range(30):
        nearest = {}
        for pid in set(pids.tolist()) - {int(pids[i])}:
            own = [j for j in range(30) if pids[j] == pid]
            best = min(own, key=lambda j: float((embeddings[i] - embeddings[j]).norm()))
            nearest[best] = float((embeddings[i] - embeddings[best]).norm())
        assert negatives[i].tolist() == sorted(nearest, key=nearest.get)[:3]
    assert confusion_negatives(embeddings, pids, k=99).shape == (30, len(set(pids.tolist())) - 1)
    with pytest.raises(ValueError, match="two identities or more"):
        confusion_negatives(embeddings, torch.zeros(30), k=3)


def test_triplets():
    pids, camids = torch.tensor([1, 1, 1, 2, 2, 3]), torch.tensor([1, 1, 2, 1, 1, 1])
    negatives = confusion_negatives(torch.randn(6, 4), pids, k=2)
    sampler = ConfusionTripletSampler(pids, camids, negatives, anchors=8, batches_per_epoch=20, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 20
    for anchor, positive, negative in torch.cat(batches, dim=1).T.tolist():
        assert pids[anchor] == pids[positive] != pids[negative] and anchor != positive
        assert negative in negatives[anchor]
        assert anchor != 5  # alone
        if pids[anchor] == 1:
            assert camids[anchor] != camids[positive]  # identity 2 has one camera only
    assert all(map(torch.equal, batches, sampler))
    sampler.set_epoch(1)
    assert not all(map(torch.equal, batches, sampler))
    with pytest.raises(ValueError, match="every one has one"):
        ConfusionTripletSampler(torch.arange(3), torch.ones(3), torch.zeros(3, 1), 2, 1)
