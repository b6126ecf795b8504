"""Measures the pair stage's distances of given pairs, in one process or several."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from cace_pyg.engine.clue_store import keep_where_it_fits
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import PairOperand, PairStage
from cace_pyg.progress import progress_bar
from cace_pyg.retrieval.picture_sets import set_distance


@torch.no_grad()
def measure_lists(
    stage: PairStage,
    first: Extraction,
    second: Extraction,
    lists: Sequence[Tensor],
    pairs_per_batch: int | None,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    title: str = "second stage",
    progress: bool = True,
) -> Tensor:
    """The distance of each image of ``first`` to those of ``second`` in its list, see :meth:`PairStage.distance`.

    A CPU measures one image of ``first`` at a time, which is paired with many without being copied. A GPU measures the
    pairs of several images at once, because one image does not fill it, and the clues of ``second`` stay in its memory
    if they fit. With several ranks, the images of ``first`` are sent to all, and each rank measures the pairs with its
    own images of ``second``.

    Tracks are compared by all pairs of their views (:func:`cace_pyg.retrieval.picture_sets.set_distance`).

    Args:
        stage: in evaluation mode, on ``device``.
        first: of the images that have a list.
        second: of the images in the lists.
        lists: int64 positions in ``second``, a list of any length for each image of ``first``.
        pairs_per_batch: pairs per forward pass; None: 64 on a CPU, 2048 on a GPU.
        device: where pairs are measured.
        ranks: the processes that share the work.
        title: of the progress bar.
        progress: show a bar on the first rank.

    Returns:
        All distances in the order of the lists, ``(pair,)``, on the CPU.
    """
    if first.views is not None or second.views is not None:
        ask = partial(measure_lists, stage, pairs_per_batch=pairs_per_batch, device=device, ranks=ranks, title=title)
        return _measure_sets(partial(ask, progress=progress), first, second, lists)
    device = torch.device(device)
    on_cpu = device.type in _CPU
    pairs_per_batch = pairs_per_batch or (_ON_A_CPU if on_cpu else _ON_A_GPU)
    measured = torch.zeros(sum(map(len, lists)))
    candidates = keep_where_it_fits(second.prepared, device)
    done = start = 0
    hidden = ranks.rank > 0 or not progress
    with progress_bar(total=len(lists), desc=title, unit="picture", leave=False, disable=hidden) as bar:
        for images in every_image(first, ranks, 1 if on_cpu else _TOGETHER_ON_A_GPU):
            several = lists[done : done + len(images)]
            near, lengths = torch.cat([*several]), torch.tensor([*map(len, several)])
            here = second.holds(near)
            image = torch.arange(len(images)).repeat_interleave(lengths)[here]
            found = _measure(stage, images.to(device), image, candidates, near[here] - second.first, pairs_per_batch)
            measured[start : start + len(near)][here] = found
            done, start = done + len(images), start + len(near)
            bar.update(len(images))
    return torch.stack(ranks.gather_objects(measured)).sum(0)  # one rank measured each pair, the others have 0


def _measure_sets(
    ask: Callable[[Extraction, Extraction, list[Tensor]], Tensor],
    first: Extraction,
    second: Extraction,
    lists: Sequence[Tensor],
) -> Tensor:
    """:func:`measure_lists` of tracks, by the pairs of their pictures."""
    of_first, of_second = (_views(images) for images in (first, second))
    nothing = torch.empty(0, dtype=torch.long)
    wanted, pair = [nothing] * len(first.prepared), [nothing] * len(first.prepared)
    start = 0
    for image, near in enumerate(lists):
        there = of_second[near] >= 0
        for view in of_first[image].tolist():
            if view >= 0:
                wanted[view] = of_second[near][there]
                pair[view] = start + there.nonzero()[:, 0]
        start += len(near)
    distance = ask(replace(first, views=None), replace(second, views=None), wanted)
    return set_distance(distance, torch.cat(pair), start)


def _views(images: Extraction) -> Tensor:
    """Positions of each image's views, ``(image, k)``; a picture is its own view."""
    return torch.arange(len(images.embedding))[:, None] if images.views is None else images.views


_CPU = ("cpu",)
_ON_A_CPU = 64
_ON_A_GPU = 2048
_TOGETHER_ON_A_GPU = 1024


def _measure(
    stage: PairStage, images: PairOperand, image: Tensor, candidates: PairOperand, near: Tensor, pairs_per_batch: int
) -> Tensor:
    """Distances of pairs, given by positions of image and candidate; a single image is not copied for each pair."""
    device, kept_on = images.individual.device, candidates.individual.device
    image, near = image.to(device), near.to(kept_on)
    found = []
    for of_image, of_candidate in zip(image.split(pairs_per_batch), near.split(pairs_per_batch), strict=True):
        a = images if len(images) == 1 else images.select(of_image)
        found.append(stage.distance(a, candidates.select(of_candidate).to(device)).float())
    return torch.cat(found).cpu() if len(near) else torch.zeros(0)


_TOGETHER = 16  # images sent at once, a few megabytes each


def every_image(images: Extraction, ranks: Ranks, together: int) -> Iterator[PairOperand]:
    """The clues of all images, ``together`` at a time, on every rank; each rank sends those that it has."""
    parts = ranks.gather_objects(range(images.first, images.first + len(images.prepared)))
    for sender, part in enumerate(parts):
        for start in range(0, len(part), max(_TOGETHER, together)):
            own = None
            if sender == ranks.rank:
                # not a slice: a view would send all the memory behind it
                wanted = torch.arange(start, min(start + max(_TOGETHER, together), len(part)))
                own = images.prepared.select(wanted)
            sent = ranks.send(own, sender)
            for position in range(0, len(sent), together):
                yield sent.select(slice(position, position + together))
