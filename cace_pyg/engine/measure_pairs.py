"""The pair stage's distances of chosen pairs, on one process or several."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cace_pyg.engine.clue_store import keep_where_it_fits
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import PairOperand, PairStage
from cace_pyg.progress import progress_bar


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

    On a CPU image by image, so that one is paired with many and nothing of it is copied. On a GPU the pairs of several
    images are measured at once, for one image alone would not fill it, and what is kept of ``second`` is there where it
    fits. On several ranks the images of ``first`` travel, and each rank measures the pairs of those images of
    ``second`` that it has.

    Args:
        stage: in evaluation mode, on ``device``.
        first: of the images that have a list.
        second: of the images in the lists.
        lists: int64 positions in ``second``, one list an image of ``first``, of any length.
        pairs_per_batch: pairs a forward pass; none: 64 on a CPU, 2048 on a GPU.
        device: where pairs are measured.
        ranks: of the processes that share the work.
        title: of the progress bar.
        progress: show a bar, on the first rank.

    Returns:
        All distances in the order of the lists, ``(pair,)``, on the CPU.
    """
    device = torch.device(device)
    measured = torch.zeros(sum(map(len, lists)))
    starts = torch.tensor([0, *map(len, lists)]).cumsum(0)
    candidates = keep_where_it_fits(second.prepared, device)
    pairs_per_batch = pairs_per_batch or (_ON_A_CPU if device.type == "cpu" else _ON_A_GPU)
    enough = 1 if device.type in _ONE_BY_ONE else pairs_per_batch
    images: list[PairOperand] = []
    wanted: list[Tensor] = []  # positions in ``measured``, and in ``second``
    bar = progress_bar(lists, desc=title, unit="picture", leave=False, disable=ranks.rank > 0 or not progress)
    for near, start, one in zip(bar, starts[:-1], every_image(first, ranks), strict=True):
        here = second.holds(near)
        if here.any():
            images.append(one)
            wanted.append(torch.stack([start + here.nonzero().flatten(), near[here] - second.first]))
        if sum(pairs.size(1) for pairs in wanted) >= enough:
            _measure(stage, images, wanted, candidates, pairs_per_batch, device, measured)
            images, wanted = [], []
    if images:
        _measure(stage, images, wanted, candidates, pairs_per_batch, device, measured)
    return torch.stack(ranks.gather_objects(measured)).sum(0)  # each pair was measured once, and is 0 elsewhere


_ONE_BY_ONE = ("cpu",)
_ON_A_CPU = 64
_ON_A_GPU = 2048


def _measure(
    stage: PairStage,
    images: list[PairOperand],
    wanted: list[Tensor],
    candidates: PairOperand,
    pairs_per_batch: int,
    device: torch.device,
    measured: Tensor,
) -> None:
    """Write the distances of a few images to their candidates where they are wanted."""
    first = PairOperand.concatenate(images).to(device)
    image = torch.arange(len(images)).repeat_interleave(torch.tensor([pairs.size(1) for pairs in wanted]))
    place, near = torch.cat(wanted, dim=1)
    for pairs in torch.arange(len(near)).split(pairs_per_batch):
        a = first if len(images) == 1 else first.select(image[pairs].to(device))
        b = candidates.select(near[pairs].to(candidates.individual.device)).to(device)
        measured[place[pairs]] = stage.distance(a, b).float().cpu()


_TOGETHER = 16  # images sent at a time: some megabytes each


def every_image(images: Extraction, ranks: Ranks) -> Iterator[PairOperand]:
    """The clues of each image in turn, the same on all ranks; the rank that has them sends them to the others."""
    parts = ranks.gather_objects(range(images.first, images.first + len(images.prepared)))
    for sender, part in enumerate(parts):
        for start in range(0, len(part), _TOGETHER):
            own = None
            if sender == ranks.rank:
                wanted = torch.arange(start, min(start + _TOGETHER, len(part)))  # a slice would send all of them
                own = images.prepared.select(wanted)
            sent = ranks.send(own, sender)
            for position in range(len(sent)):
                yield sent.select(slice(position, position + 1))
