"""Triplets from the confusions of the individual ranking."""

from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 1024  # anchors compared at a time


def confusion_negatives(embeddings: Tensor, pids: Tensor, k: int) -> Tensor:
    """For each picture the nearest picture of each of its ``k`` nearest wrong identities.

    Args:
        embeddings: individual embeddings, ``(picture, channel)``, compared by Euclidean distance.
        pids: ``(picture,)``.
        k: wrong identities to keep; all of them if there are fewer.

    Returns:
        Picture positions, ``(picture, k)``, nearest first.

    Raises:
        ValueError: there is one identity only, or ``k`` is below 1.
    """
    identities, labels = pids.unique(return_inverse=True)
    if len(identities) < 2 or k < 1:
        raise ValueError(f"Expected two identities or more and k ≥ 1 (got {len(identities)} and k = {k})")
    k = min(k, len(identities) - 1)
    order = labels.argsort(stable=True)  # pictures by identity, so that an identity is a run of columns
    counts = labels.bincount()
    starts = counts.cumsum(0) - counts
    rows = []
    for start in range(0, len(pids), _BLOCK):
        block = slice(start, start + _BLOCK)
        distance = torch.cdist(embeddings[block].float(), embeddings[order].float())
        nearest = torch.full((distance.size(0), len(identities)), torch.inf)
        columns = labels[order].expand_as(distance)
        nearest.scatter_reduce_(1, columns, distance, "amin")
        nearest.scatter_(1, labels[block][:, None], torch.inf)
        wrong = nearest.topk(k, largest=False).indices
        rows.append(torch.stack([_nearest_of(distance, wrong[:, i], starts, counts, order) for i in range(k)], dim=1))
    return torch.cat(rows)


class ConfusionTripletSampler:
    """Yields index triplets ``(3, anchors)``: anchors, their matches, their wrong identities.

    A match comes from another camera where there is one, else from the anchor's own. Pictures without any match are
    never anchors.

    Args:
        pids: ``(picture,)``.
        camids: ``(picture,)``.
        negatives: ``(picture, k)``, see :func:`confusion_negatives`; one is drawn evenly.
        anchors: triplets of a batch.
        batches_per_epoch: ``len()`` of the sampler.
        seed: with the epoch, determines every batch.

    Raises:
        ValueError: no picture has a match.
    """

    def __init__(
        self,
        pids: Tensor,
        camids: Tensor,
        negatives: Tensor,
        anchors: int,
        batches_per_epoch: int,
        seed: int = 0,
    ):
        match = (pids[:, None] == pids[None, :]).fill_diagonal_(False)
        across = match & (camids[:, None] != camids[None, :])
        match = torch.where(across.any(1, keepdim=True), across, match)
        self.matches = [row.nonzero().squeeze(1) for row in match]
        self.candidates = torch.tensor([index for index, row in enumerate(self.matches) if len(row)])
        if not len(self.candidates):
            raise ValueError("Expected identities with several pictures (every one has one): no triplet exists")
        self.negatives = negatives
        self.anchors = anchors
        self.batches = batches_per_epoch
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for _ in range(self.batches):
            anchor = self.candidates[self._draw(len(self.candidates), self.anchors, generator)]
            positive = torch.stack([self.matches[a][self._draw(len(self.matches[a]), 1, generator)[0]] for a in anchor])
            column = self._draw(self.negatives.size(1), self.anchors, generator)
            yield torch.stack([anchor, positive, self.negatives[anchor, column]])

    @staticmethod
    def _draw(below: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(below, (count,), generator=generator)


def _nearest_of(distance: Tensor, identity: Tensor, starts: Tensor, counts: Tensor, order: Tensor) -> Tensor:
    """For each row the picture of one identity that is nearest."""
    column = torch.arange(distance.size(1))
    first, last = starts[identity][:, None], (starts + counts)[identity][:, None]
    own = (column >= first) & (column < last)
    return order[distance.masked_fill(~own, torch.inf).argmin(1)]
