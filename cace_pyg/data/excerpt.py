"""A few pictures that can stand for a data set in a trial run."""

from collections import defaultdict
from collections.abc import Sequence

from cace_pyg.data.sample import Sample, Splits

_PICTURES = 8  # of one identity


def excerpt(splits: Splits, identities: int) -> Splits:
    """At most 8 pictures of each of a few identities; every query keeps matches from another camera where it has any.

    Args:
        splits: whole data set; query and gallery may be empty.
        identities: so many training identities, and as many queries of different identities.
    """
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in splits.train:
        by_pid[sample.pid].append(sample)
    several = sorted(by_pid, key=lambda pid: len(by_pid[pid]) < 2)[:identities]  # a triplet needs two pictures
    train = [sample for pid in several for sample in by_pid[pid][:_PICTURES]]
    query, gallery = _with_matches(splits.query, splits.gallery, identities)
    return Splits(tuple(train), query, gallery)


def _with_matches(
    query: Sequence[Sample], gallery: Sequence[Sample], identities: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in gallery:
        by_pid[sample.pid].append(sample)
    chosen: dict[int, Sample] = {}
    matches: list[Sample] = []
    for one in query:
        others = [sample for sample in by_pid[one.pid] if sample.camid != one.camid]
        if len(chosen) < identities and one.pid not in chosen and others:
            chosen[one.pid] = one
            matches += others[:_PICTURES]
    strangers = [sample for sample in gallery if sample.pid not in chosen][:_PICTURES]
    return tuple(chosen.values()) or tuple(query[:identities]), tuple(matches + strangers)
