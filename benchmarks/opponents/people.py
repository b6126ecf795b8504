"""Features of a data set with the people for training, validation and test."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cace_pyg import CameraStatistics, Features
from cace_pyg.data import Sample, read_market_layout
from cace_pyg.engine.features import KeptFeatures

_SPLIT_SEED = 123
_QUERY_SEED = 5
_MOST_QUERIES = 500
_LABELS = "pid", "camid"
_BATCH = 256


@dataclass(frozen=True)
class People:
    """Pictures, given by their positions in ``features``.

    Attributes:
        features: of training pictures, query and gallery, in this order.
        train: pictures of the training people who are not held out.
        held_out: pictures of those who are held out: at most 500 as queries, all as gallery.
        test: the data set's own query and gallery.
        elsewhere: all pictures of another data set, each once as a query, of people and cameras that were never seen.
    """

    features: Features
    train: tuple[Sample, ...]
    held_out: tuple[tuple[Sample, ...], tuple[Sample, ...]]
    test: tuple[tuple[Sample, ...], tuple[Sample, ...]]
    elsewhere: tuple[tuple[Sample, ...], tuple[Sample, ...]] = ((), ())


def read_people(file: Path, root: Path, held_out: int) -> People:
    """A file of ``python -m benchmarks.extraction --keep``, with the labels of a data set in Market-1501's layout.

    Raises:
        FileNotFoundError: there is no such file or no data set.
        ValueError: the features are of other pictures.
    """
    features, labels, counts = _read(file, root)
    return split_people(features, labels, (counts["train"], counts["query"]), held_out)


def add_elsewhere(people: People, file: Path, root: Path) -> People:
    """Add all pictures of another data set.

    Raises:
        FileNotFoundError: there is no such file or no data set.
        ValueError: the features are of other pictures, or from another network.
    """
    people, samples = _append(people, file, root)
    return replace(people, elsewhere=(samples, samples))


def learn_elsewhere(people: People, sources: Sequence[tuple[Path, Path]], held_out: int) -> People:
    """Replace the people for training and validation by those of other data sets, of all their parts.

    Args:
        people: their test stays.
        sources: features and root of each other data set.
        held_out: number of people for validation.

    Raises:
        FileNotFoundError, ValueError: see :func:`add_elsewhere`.
    """
    learned: list[Sample] = []
    for file, root in sources:
        people, samples = _append(people, file, root)
        first_pid, first_camera = (1 + max((getattr(one, what) for one in learned), default=0) for what in _LABELS)
        learned += [
            sample._replace(pid=first_pid + sample.pid, camid=first_camera + sample.camid)
            for sample in samples
            if sample.pid > 0  # 0: distractors, −1: junk
        ]
    train, validation = _hold_out(learned, held_out)
    return replace(people, train=train, held_out=validation)


def on_cameras(people: People, learned: Collection[int] | None, tested: Collection[int] | None) -> People:
    """Train and validate with pictures of some cameras only, and test with those of others; None: all cameras."""
    train, held_out, test = (
        tuple(tuple(sample for sample in part if cameras is None or sample.camid in cameras) for part in parts)
        for parts, cameras in (((people.train,), learned), (people.held_out, learned), (people.test, tested))
    )
    return replace(people, train=train[0], held_out=(held_out[0], held_out[1]), test=(test[0], test[1]))


def standardise_cameras(people: People) -> People:
    """What ``evaluation.standardise_cameras`` does: each part by its own gallery's statistics of each camera.

    All pictures of the gallery count, not only 500 of each camera. The features, some gigabytes, are overwritten.
    """
    features = people.features
    for query, gallery in ((people.train, people.train), people.held_out, people.test, people.elsewhere):
        if not gallery:
            continue
        positions = KeptFeatures.positions(gallery)
        batches = ((features.embedding[at], features.clues[at]) for at in positions.split(_BATCH))
        statistics = CameraStatistics(batches, [sample.camid for sample in gallery])
        every = list(dict.fromkeys((*query, *gallery)))  # some queries are in the gallery, too
        for first in range(0, len(every), _BATCH):
            part = every[first : first + _BATCH]
            at, cameras = KeptFeatures.positions(part), [sample.camid for sample in part]
            features.embedding[at] = statistics.embeddings(features.embedding[at], cameras)
            features.clues[at] = statistics.clues(features.clues[at], cameras)
    return people


def _append(people: People, file: Path, root: Path) -> tuple[People, tuple[Sample, ...]]:
    """Add the features of another data set; its pictures are returned."""
    features, labels, _ = _read(file, root)
    if (features.channels, features.grid) != (people.features.channels, people.features.grid):
        raise ValueError(
            f"Expected features of one network (got {features.channels} channels on {features.grid} in {file} and "
            f"{people.features.channels} on {people.features.grid})"
        )
    both = [torch.cat([getattr(part, what) for part in (people.features, features)]) for what in ("embedding", "clues")]
    before = [(0, 0)] * len(people.features)  # so that positions continue
    samples = KeptFeatures.samples(*zip(*before, *labels, strict=True))[len(before) :]
    return replace(people, features=Features(*both, features.grid)), tuple(samples)


def _read(file: Path, root: Path) -> tuple[Features, list[tuple[int, int]], dict[str, int]]:
    """Features of all parts, pid and camid of each picture, and how many pictures each part has."""
    kept = torch.load(file, weights_only=True, mmap=True)
    splits = read_market_layout(root)
    parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
    counts = {name: len(part) for name, part in parts.items()}
    found = {name: len(part["embedding"]) for name, part in kept.items()}
    if found != counts:
        raise ValueError(f"Expected features of the pictures in {root}, {counts} (got {found}); extract them again")
    embedding, clues = (torch.cat([kept[name][what] for name in parts]) for what in ("embedding", "clues"))
    labels = [(sample.pid, sample.camid) for part in parts.values() for sample in part]
    return Features(embedding, clues, tuple(kept["train"]["grid"])), labels, counts


def split_people(features: Features, labels: list[tuple[int, int]], counts: tuple[int, int], held_out: int) -> People:
    """Hold out some training people, always the same ones.

    Args:
        features: training pictures, then queries, then the gallery.
        labels: pid and camid of each.
        counts: number of training pictures and of queries.
        held_out: number of people.
    """
    pids, camids = zip(*labels, strict=True)
    samples = KeptFeatures.samples(pids, camids)
    train, query = samples[: counts[0]], samples[counts[0] : sum(counts)]
    learned, validation = _hold_out(train, held_out)
    return People(features, learned, validation, (tuple(query), tuple(samples[sum(counts) :])))


def _hold_out(
    train: Sequence[Sample], held_out: int
) -> tuple[tuple[Sample, ...], tuple[tuple[Sample, ...], tuple[Sample, ...]]]:
    """The pictures that are left for training, and query and gallery of the people who are held out."""
    identities = torch.tensor([sample.pid for sample in train]).unique()
    order = torch.randperm(len(identities), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    chosen = set(identities[order[:held_out]].tolist())
    gallery = [sample for sample in train if sample.pid in chosen]
    drawn = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(_QUERY_SEED))[:_MOST_QUERIES]
    query = tuple(gallery[position] for position in drawn.tolist())
    return tuple(sample for sample in train if sample.pid not in chosen), (query, tuple(gallery))
