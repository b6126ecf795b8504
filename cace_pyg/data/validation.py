"""A validation query and gallery from training identities."""

import random
from collections import defaultdict
from collections.abc import Sequence

from cace_pyg.data.sample import Sample, Splits


def hold_out_identities(train: Sequence[Sample], fraction: float, seed: int) -> Splits:
    """Keep some training identities for validation, wholly: none of their pictures stays in train.

    For each of them one picture a camera becomes a query, the rest the gallery, as in DukeMTMC-reID. Only identities
    whose every query has a match from another camera are taken.

    Args:
        train: training pictures.
        fraction: share of the identities to keep, in [0, 1); 0 keeps none.
        seed: of the choice.

    Raises:
        ValueError: the fraction is outside [0, 1), or fewer than two identities can be kept, or fewer than two stay.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"Expected data.hold_out in [0, 1) (got {fraction})")
    if fraction == 0:
        return Splits(tuple(train), (), ())
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in train:
        by_pid[sample.pid].append(sample)
    rng = random.Random(seed)
    parts = {pid: part for pid in sorted(by_pid) if (part := _query_and_gallery(by_pid[pid], rng))}
    count = round(fraction * len(by_pid))
    if min(count, len(parts)) < 2 or len(by_pid) - count < 2:
        raise ValueError(
            f"data.hold_out {fraction} of {len(by_pid)} training identities: expected at least 2 to keep (with two "
            f"pictures or more from each of two cameras: {len(parts)} have them) and at least 2 to train on; "
            "change --data.hold_out (0 switches validation off)"
        )
    kept = sorted(rng.sample(sorted(parts), min(count, len(parts))))
    query = [sample for pid in kept for sample in parts[pid][0]]
    gallery = [sample for pid in kept for sample in parts[pid][1]]
    rest = [sample for sample in train if sample.pid not in set(kept)]
    return Splits(*(tuple(sorted(part, key=lambda one: one.path.name)) for part in (rest, query, gallery)))


def _query_and_gallery(samples: list[Sample], rng: random.Random) -> tuple[list[Sample], list[Sample]] | None:
    """One picture a camera, and the rest; None if a query would have no match from another camera."""
    shuffled = rng.sample(sorted(samples), len(samples))
    query = list({sample.camid: sample for sample in reversed(shuffled)}.values())
    gallery = [sample for sample in shuffled if sample not in query]
    cameras = {sample.camid for sample in gallery}
    matched = all(cameras - {sample.camid} for sample in query)
    return (query, gallery) if matched else None
