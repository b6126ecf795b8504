"""Confusions of the individual ranking, and the triplets drawn from them."""

from collections import Counter

import pytest
import torch

from cace_pyg.data.confusion_triplets import (
    ConfusionTripletSampler,
    confusion_negatives,
)


def test_confusions_by_hand():
    embeddings = torch.tensor([[0.0], [1.0], [10.0], [2.5], [11.0], [5.0]])
    pids = torch.tensor([7, 3, 3, 5, 5, 9])
    assert confusion_negatives(embeddings, pids, 2).tolist() == [[1, 3], [0, 3], [4, 5], [1, 0], [2, 5], [3, 1]]


def test_equally_near_pictures_and_identities_stand_in_order():
    pids = torch.tensor([4, 2, 9, 2, 4, 9])
    assert confusion_negatives(torch.zeros(6, 3), pids, 5).tolist() == [
        [1, 2], [0, 2], [1, 0], [0, 2], [1, 2], [1, 0],
    ]  # fmt: skip


def test_confusions_do_not_depend_on_the_blocks(monkeypatch):
    embeddings, pids = torch.randn(90, 8), torch.randint(0, 20, (90,))
    at_once = confusion_negatives(embeddings, pids, 6)
    assert (pids[at_once] != pids[:, None]).all()
    assert all(len(set(row)) == 6 for row in pids[at_once].tolist())  # each identity once
    monkeypatch.setattr("cace_pyg.data.confusion_triplets._BLOCK", 200)
    assert confusion_negatives(embeddings, pids, 6).equal(at_once)


def test_what_is_no_embedding_is_refused():
    pids = torch.arange(4)
    with pytest.raises(ValueError, match=r"pids as \(picture,\) \(got \(3, 2\) and \(4,\)\)"):
        confusion_negatives(torch.zeros(3, 2), pids, 1)
    embeddings = torch.zeros(4, 2)
    embeddings[2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity for picture 2"):
        confusion_negatives(embeddings, pids, 1)
    with pytest.raises(ValueError, match="k = 0"):
        confusion_negatives(torch.zeros(4, 2), pids, 0)


@pytest.fixture
def people():
    pids = torch.arange(8).repeat_interleave(4)
    return pids, torch.tensor([1, 1, 2, 3]).repeat(8), confusion_negatives(torch.randn(32, 5), pids, 4)


def test_anchors_matches_and_negatives_are_drawn_evenly(people):
    pids, camids, negatives = people
    triplets = torch.cat(list(ConfusionTripletSampler(*people, 64, 200, seed=2)), dim=1)
    assert triplets.shape == (3, 64 * 200) and triplets.dtype == torch.int64
    anchors, positives, chosen = triplets
    assert (camids[anchors] != camids[positives]).all() and (pids[anchors] == pids[positives]).all()
    times = Counter(anchors.tolist()).values()  # 400 each, on average
    assert min(times) > 300 and max(times) < 500
    columns = (negatives[anchors] == chosen[:, None]).float().mean(0)
    assert ((columns - 0.25).abs() < 0.03).all()
    of_first = Counter(positives[anchors == 0].tolist())
    assert of_first.keys() == {2, 3} and min(of_first.values()) > 0.35 * of_first.total()


def test_an_epoch_is_a_function_of_seed_and_epoch(people):
    def epoch(seed: int, number: int) -> torch.Tensor:
        sampler = ConfusionTripletSampler(*people, 16, 3, seed)
        sampler.set_epoch(number)
        return torch.stack(list(sampler))

    first = epoch(1, 4)
    torch.manual_seed(9)
    assert epoch(1, 4).equal(first)
    assert not epoch(2, 4).equal(first) and not epoch(1, 5).equal(first)


def test_negatives_of_other_pictures_are_refused(people):
    pids, camids, negatives = people
    with pytest.raises(ValueError, match=r"\(32, k\) pictures of wrong identities \(got \(5, 4\)"):
        ConfusionTripletSampler(pids, camids, negatives[:5], 4, 1)
    with pytest.raises(ValueError, match="one of the right identity"):
        ConfusionTripletSampler(pids, camids, negatives.roll(4, 0), 4, 1)
    with pytest.raises(ValueError, match=r"at least 1 \(got 0, 1\)"):
        ConfusionTripletSampler(*people, 0, 1)
