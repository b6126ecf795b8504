"""A validation query and gallery from training identities."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from cace_pyg.data.sample import Sample, Splits


def hold_out_identities(
    train: Sequence[Sample],
    fraction: float,
    seed: int,
    same_camera: Literal["remove", "keep"] = "remove",
    called: str = "data.hold_out",
) -> Splits:
    """Hold out some training identities for validation, with all their pictures.

    For each of them one picture per camera becomes a query, as in DukeMTMC-reID, but only while every query keeps a
    match from another camera; the rest is the gallery. Identities with fewer than three pictures, or with one camera
    unless ``same_camera`` is ``"keep"``, are never held out, even if there are then fewer than asked for. The split
    depends on names, not on the order of ``train``.

    Args:
        train: training pictures.
        fraction: share of all training identities to hold out, in [0, 1); 0 holds out none.
        seed: of the choice.
        same_camera: see :func:`cace_pyg.retrieval.evaluate`; ``"keep"``: the cameras of matches do not matter.
        called: the name of ``fraction`` in error messages.

    Raises:
        ValueError: the fraction is outside [0, 1), fewer than two identities can be held out, or fewer than two remain.
    """
    if not train:
        raise ValueError(
            "Expected training pictures (got none): query and gallery alone are enough to evaluate a checkpoint or a "
            "published network, not to train"
        )
    if not 0 <= fraction < 1:
        raise ValueError(f"Expected {called} in [0, 1) (got {fraction})")
    if fraction == 0:
        return Splits(tuple(train), (), ())
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in train:
        by_pid[sample.pid].append(sample)
    rng = random.Random(seed)
    parts = {pid: part for pid in sorted(by_pid) if (part := _query_and_gallery(by_pid[pid], rng, same_camera))}
    count = round(fraction * len(by_pid))
    cameras = " from two cameras" if same_camera == "remove" else ""
    if min(count, len(parts)) < 2 or len(by_pid) - count < 2:
        raise ValueError(
            f"{called} {fraction} would hold out {count} of {len(by_pid)} training identities: expected at least "
            f"2 held out, of the {len(parts)} that have three pictures or more{cameras}, and at least 2 to "
            f"train on; give {called} {max(0.1, min(0.5, round(3 / len(by_pid), 2)))}, or 0 for no validation"
        )
    kept = sorted(rng.sample(sorted(parts), min(count, len(parts))))
    query = [sample for pid in kept for sample in parts[pid][0]]
    gallery = [sample for pid in kept for sample in parts[pid][1]]
    held_out = set(kept)
    rest = [sample for sample in train if sample.pid not in held_out]
    return Splits(*(tuple(sorted(part, key=lambda sample: sample.path.name)) for part in (rest, query, gallery)))


def every_identity(samples: Sequence[Sample], seed: int, same_camera: Literal["remove", "keep"] = "remove") -> Splits:
    """A query and a gallery of all people, as :func:`hold_out_identities` makes them, without training pictures.

    The gallery also has the pictures of people without a query, and distractors.

    Args:
        samples: labelled pictures.
        seed: of the choice of queries.
        same_camera: see :func:`hold_out_identities`.

    Raises:
        ValueError: fewer than two people have three pictures or more, from two cameras.
    """
    samples = [sample._replace(track="") for sample in samples]  # single pictures are queries, not tracks
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.pid > 0:
            by_pid[sample.pid].append(sample)
    rng = random.Random(seed)
    parts = [part for pid in sorted(by_pid) if (part := _query_and_gallery(by_pid[pid], rng, same_camera))]
    if len(parts) < 2:
        cameras = " from two cameras" if same_camera == "remove" else ""
        raise ValueError(
            f"Expected at least 2 people with three pictures or more{cameras} (got {len(parts)} of {len(by_pid)}); "
            "label more pictures of each"
        )
    query = {sample for part, _ in parts for sample in part}
    gallery = [sample for sample in samples if sample not in query]
    return Splits((), *(tuple(sorted(part, key=lambda sample: sample.path.name)) for part in (query, gallery)))


def _query_and_gallery(
    samples: list[Sample], rng: random.Random, same_camera: str
) -> tuple[list[Sample], list[Sample]] | None:
    """At most one picture per camera, and the rest; None if the identity does not qualify."""
    shuffled = rng.sample(sorted(samples, key=lambda sample: sample.path.name), len(samples))
    if len(samples) < 3 or (same_camera == "remove" and len({sample.camid for sample in samples}) < 2):
        return None
    query: list[Sample] = []
    for sample in shuffled:
        if sample.camid in {chosen.camid for chosen in query}:
            continue
        wider = {*query, sample}
        left = {other.camid for other in shuffled if other not in wider}
        answered = left if same_camera == "keep" else all(left - {asked.camid} for asked in wider)
        if answered:
            query.append(sample)
    queries = set(query)
    return query, [sample for sample in shuffled if sample not in queries]
