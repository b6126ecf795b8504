"""Features of a data set with the people for training, validation and test."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cace_pyg import Features
from cace_pyg.data import Sample, read_market_layout
from cace_pyg.engine.features import KeptFeatures

_SPLIT_SEED = 123
_QUERY_SEED = 5
_MOST_QUERIES = 500


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
    features, labels, _ = _read(file, root)
    if (features.channels, features.grid) != (people.features.channels, people.features.grid):
        raise ValueError(
            f"Expected features of one network (got {features.channels} channels on {features.grid} in {file} and "
            f"{people.features.channels} on {people.features.grid})"
        )
    both = [torch.cat([getattr(part, what) for part in (people.features, features)]) for what in ("embedding", "clues")]
    before = [(0, 0)] * len(people.features)  # so that positions continue
    samples = KeptFeatures.samples(*zip(*before, *labels, strict=True))[len(before) :]
    return replace(people, features=Features(*both, features.grid), elsewhere=(tuple(samples), tuple(samples)))


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
    identities = torch.tensor([sample.pid for sample in train]).unique()
    order = torch.randperm(len(identities), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    chosen = set(identities[order[:held_out]].tolist())
    gallery = [sample for sample in train if sample.pid in chosen]
    drawn = torch.randperm(len(gallery), generator=torch.Generator().manual_seed(_QUERY_SEED))[:_MOST_QUERIES]
    return People(
        features,
        tuple(sample for sample in train if sample.pid not in chosen),
        (tuple(gallery[position] for position in drawn.tolist()), tuple(gallery)),
        (tuple(query), tuple(samples[sum(counts) :])),
    )
