"""What every epoch of P × K batches keeps, whatever the data."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.data.sampler import RandomIdentitySampler


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.data())
def test_batches(counts, data):
    counts[0] = max(counts[0], 2)
    pids = [pid for pid, count in enumerate(counts) for _ in range(count)]
    num_identities = data.draw(st.integers(2, len(counts)))
    num_instances = data.draw(st.integers(2, 5))
    wanted = data.draw(st.none() | st.integers(1, 12))
    sampler = RandomIdentitySampler(pids, num_identities, num_instances, 0, wanted)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler) == (wanted or -(-len(pids) // (num_identities * num_instances)))
        for batch in batches:
            drawn = Counter(draw.index for draw in batch)
            people = Counter(pids[draw.index] for draw in batch)
            assert len(people) == num_identities and set(people.values()) == {num_instances}
            for index, times in drawn.items():  # repeated only as far as there are too few
                assert times <= -(-num_instances // counts[pids[index]])


def test_an_epoch_is_a_function_of_seed_and_epoch():
    pids = [index // 5 for index in range(60)]

    def epoch(seed: int, number: int) -> list:
        sampler = RandomIdentitySampler(pids, 3, 4, seed)
        sampler.set_epoch(number)
        return list(sampler)

    torch.manual_seed(1)
    first = epoch(1, 4)
    torch.manual_seed(2)
    assert epoch(1, 4) == first
    assert epoch(2, 4) != first and epoch(1, 5) != first
    assert len({draw.seed for batch in first for draw in batch}) == 60  # each picture is augmented its own way


def test_no_picture_starves():
    pids = [0] * 20 + [1] * 3 + [2] * 7
    sampler = RandomIdentitySampler(pids, 2, 4, seed=0, batches_per_epoch=60)
    times = Counter(draw.index for batch in sampler for draw in batch)
    assert set(times) == set(range(30))
    assert max(times[index] for index in range(20)) - min(times[index] for index in range(20)) <= 1


def test_pids_may_be_a_tensor():
    pids = torch.tensor([1, 1, 2, 2, 3, 3])
    assert list(RandomIdentitySampler(pids, 2, 2)) == list(RandomIdentitySampler(pids.tolist(), 2, 2))


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match=r"batches_per_epoch of at least 1.*\(got 0\)"):
        RandomIdentitySampler([1, 1, 2, 2], 2, 2, batches_per_epoch=0)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_the_identities_of_every_batch(ranks):
    pids = [pid for pid in range(10) for _ in range(3)]
    whole = list(RandomIdentitySampler(pids, 4, 2, seed=3))
    shares = [RandomIdentitySampler(pids, 4, 2, seed=3, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1
    for together, *batches in zip(whole, *shares, strict=True):
        assert [draw for batch in batches for draw in batch] == together
        people = [{pids[draw.index] for draw in batch} for batch in batches]
        assert sum(map(len, people)) == len(set.union(*people)) == 4


def test_ranks_that_cannot_share_a_batch():
    with pytest.raises(ValueError, match="multiple of the 3 ranks"):
        RandomIdentitySampler([0, 0, 1, 1, 2, 2, 3, 3], 4, 2, ranks=3)
