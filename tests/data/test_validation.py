"""Which identities qualify for validation, and how their pictures are split."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.data.sample import Sample
from cace_pyg.data.validation import hold_out_identities


def seen(pid: int, *camids: int) -> list[Sample]:
    return [Sample(Path(f"{pid:04d}_c{camid}s1_{i:06d}_00.jpg"), pid, camid) for i, camid in enumerate(camids)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=7), min_size=4, max_size=9), st.integers(0, 99))
def test_every_query_can_be_answered(routes, seed):
    train = [sample for pid, camids in enumerate(routes, 1) for sample in seen(pid, *camids)]
    qualifying = {pid for pid, camids in enumerate(routes, 1) if len(camids) > 2 and len(set(camids)) > 1}
    if len(qualifying) < 2:
        with pytest.raises(ValueError, match=f"of the {len(qualifying)} that have three pictures"):
            hold_out_identities(train, 0.5, seed)
        return
    splits = hold_out_identities(train, 0.5, seed)
    held = {sample.pid for sample in splits.query}
    assert held <= qualifying and len(held) == min(len(qualifying), round(len(routes) / 2))
    assert held == {sample.pid for sample in splits.gallery} and not held & {sample.pid for sample in splits.train}
    assert sorted(splits.train + splits.query + splits.gallery) == sorted(train)
    assert len({(sample.pid, sample.camid) for sample in splits.query}) == len(splits.query)
    for query in splits.query:
        assert any(sample.pid == query.pid and sample.camid != query.camid for sample in splits.gallery)
    shuffled = random.Random(seed).sample(train, len(train))
    assert hold_out_identities(shuffled, 0.5, seed) == splits


def test_a_camera_with_one_picture_does_not_disqualify():
    """Taking both cameras' pictures as queries would leave the first query without a match."""
    train = [sample for pid in range(1, 5) for sample in seen(pid, 1, 1, 1, 2)]
    splits = hold_out_identities(train, 0.5, seed=0)
    assert (len(splits.query), len(splits.gallery)) == (2, 6)


def test_the_choice_depends_on_the_seed():
    train = [sample for pid in range(1, 31) for sample in seen(pid, 1, 1, 2, 2)]
    assert len({hold_out_identities(train, 0.2, seed).query for seed in range(5)}) == 5


def test_fractions_that_leave_too_little():
    train = [sample for pid in range(1, 11) for sample in seen(pid, 1, 1, 2, 2)]
    for fraction in (0.1, 0.95):
        with pytest.raises(
            ValueError,
            match=rf"hold_out {fraction} would hold out .* of 10 training identities.*or 0 for no validation",
        ):
            hold_out_identities(train, fraction, seed=0)
    with pytest.raises(ValueError, match="got -0.1"):
        hold_out_identities(train, -0.1, seed=0)
