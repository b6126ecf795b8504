"""The pair stage's distances of chosen pairs, on one process or several."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

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
    pairs_per_batch: int,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    title: str = "second stage",
    progress: bool = True,
) -> Tensor:
    """The distance of each image of ``first`` to those of ``second`` in its list, see :meth:`PairStage.distance`.

    Image by image, so that one is paired with many and nothing of it is copied. On several ranks the images of
    ``first`` travel, and each rank measures the pairs of those images of ``second`` that it has.

    Args:
        stage: in evaluation mode, on ``device``.
        first: of the images that have a list.
        second: of the images in the lists.
        lists: int64 positions in ``second``, one list an image of ``first``, of any length.
        pairs_per_batch: pairs a forward pass.
        device: where pairs are measured.
        ranks: of the processes that share the work.
        title: of the progress bar.
        progress: show a bar, on the first rank.

    Returns:
        All distances in the order of the lists, ``(pair,)``, on the CPU.
    """
    measured = torch.zeros(sum(map(len, lists)))
    rows = measured.split([len(one) for one in lists])
    bar = progress_bar(lists, desc=title, unit="picture", leave=False, disable=ranks.rank > 0 or not progress)
    for near, row, one in zip(bar, rows, every_image(first, ranks), strict=True):
        here = second.holds(near)
        if here.any():
            one, chunks = one.to(device), (near[here] - second.first).split(pairs_per_batch)
            pairs = [stage.distance(one, second.prepared.select(chunk).to(device)).cpu() for chunk in chunks]
            row[here] = torch.cat(pairs)
    return torch.stack(ranks.gather_objects(measured)).sum(0)  # each pair was measured once, and is 0 elsewhere


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
