"""Triplets from the confusions of the individual ranking."""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

_BLOCK = 2**22  # distances in memory at once


def confusion_negatives(embeddings: Tensor, pids: Tensor, k: int) -> Tensor:
    """For each picture the nearest picture of each of its ``k`` nearest wrong identities.

    Args:
        embeddings: individual embeddings, ``(picture, channel)``, compared by Euclidean distance.
        pids: ``(picture,)``.
        k: wrong identities to keep; all of them if there are fewer.

    Returns:
        Picture positions, int64 ``(picture, min(k, identities − 1))``, nearest first; among equally near pictures the
        first, among equally near identities the one with the smaller pid.

    Raises:
        ValueError: the shapes do not fit, an embedding is not finite, there is only one identity, or ``k`` is below 1.
    """
    if embeddings.dim() != 2 or pids.shape != embeddings.shape[:1]:
        raise ValueError(
            "Expected embeddings as (picture, channel) and pids as (picture,) "
            f"(got {tuple(embeddings.shape)} and {tuple(pids.shape)})"
        )
    identities, labels = pids.unique(return_inverse=True)
    if len(identities) < 2 or k < 1:
        raise ValueError(f"Expected two identities or more and k ≥ 1 (got {len(identities)} and k = {k})")
    if not embeddings.isfinite().all():
        picture = int((~embeddings.isfinite()).any(1).nonzero()[0])
        raise ValueError(
            f"Expected finite embeddings (got NaN or infinity for picture {picture}); lower the learning rate"
        )
    embeddings = embeddings.float()
    rows = max(1, _BLOCK // len(pids))
    blocks = zip(embeddings.split(rows), labels.split(rows), strict=True)
    return torch.cat([_nearest_wrong(part, own, embeddings, labels, k) for part, own in blocks])


def _nearest_wrong(part: Tensor, own: Tensor, embeddings: Tensor, labels: Tensor, k: int) -> Tensor:
    """The rows of :func:`confusion_negatives` for some pictures of the labels ``own``."""
    distance = torch.cdist(part, embeddings)
    columns = labels.expand_as(distance)
    shape = len(part), int(labels.max()) + 1
    nearest = distance.new_full(shape, torch.inf).scatter_reduce(1, columns, distance, "amin")
    position = torch.arange(len(labels), device=labels.device).expand_as(distance)
    position = position.masked_fill(distance > nearest.gather(1, columns), len(labels))
    picture = position.new_full(shape, len(labels)).scatter_reduce(1, columns, position, "amin")
    nearest.scatter_(1, own[:, None], torch.inf)
    wrong = nearest.argsort(dim=1, stable=True)[:, : min(k, shape[1] - 1)]
    return picture.gather(1, wrong)


class ConfusionTripletSampler:
    """Yields index triplets ``(3, anchors)``: anchors, their matches, their wrong identities.

    A match comes from another camera if there is one, else from the anchor's own. Pictures without any match are
    never anchors.

    Args:
        pids: ``(picture,)``.
        camids: ``(picture,)``.
        negatives: ``(picture, k)``, see :func:`confusion_negatives`; one is drawn uniformly.
        anchors: triplets in a batch.
        batches_per_epoch: ``len()`` of the sampler.
        seed: with the epoch, determines every batch.

    Raises:
        ValueError: no picture has a match, ``negatives`` do not fit, or a number is below 1.
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
        pids, camids = torch.as_tensor(pids), torch.as_tensor(camids)
        self.matches = _matches(pids.tolist(), camids.tolist())
        self.candidates = torch.tensor([index for index, row in enumerate(self.matches) if len(row)])
        if not len(self.candidates):
            raise ValueError("Expected identities with several pictures (every one has one): no triplet exists")
        if min(anchors, batches_per_epoch) < 1:
            raise ValueError(
                f"Expected anchors and batches_per_epoch of at least 1 (got {anchors}, {batches_per_epoch})"
            )
        if negatives.dim() != 2 or len(negatives) != len(pids) or (pids[negatives] == pids[:, None]).any():
            raise ValueError(
                f"Expected negatives as ({len(pids)}, k) pictures of wrong identities (got {tuple(negatives.shape)}, "
                "or one of the right identity); make them with confusion_negatives from the same pids"
            )
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


def _matches(pids: list[int], camids: list[int]) -> list[Tensor]:
    """The possible matches of each picture; identity by identity, since picture × picture is large."""
    by_pid: dict[int, list[int]] = defaultdict(list)
    for index, pid in enumerate(pids):
        by_pid[pid].append(index)
    matches = []
    for index, pid in enumerate(pids):
        others = [other for other in by_pid[pid] if other != index]
        across = [other for other in others if camids[other] != camids[index]]
        matches.append(torch.tensor(across or others, dtype=torch.long))
    return matches
