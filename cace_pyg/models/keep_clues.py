"""Fewer clues of an image, each of which stands for several."""

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.pair_operand import Merged, PairOperand

_TOGETHER = 64  # images; the distances of their clues take some megabytes


def keep_clues(prepared: PairOperand, count: int) -> PairOperand:
    """Merge the clues of each image into ``count``, which look most different to the graph (our addition).

    Farthest-point sampling (Gonzalez, 1985) of what the builder compares: the clue that is nearest to their mean comes
    first, then always the one that is farthest from all before. Each clue joins the one of them that is nearest to it,
    then the mean that is nearest to it (one step of Lloyd's k-means). Of each group the mean is kept, of what is
    compared and of what is propagated, and who is in it. Clues that are left out instead would be missed by those of
    the other image, and by the mean over the nodes (docs/gallery_clues.md).

    Edges within images are left out: :meth:`cace_pyg.models.PairStage.keep_clues` knows what to do with them.

    Args:
        prepared: of some images, not merged yet.
        count: clues to keep, from 1 to n; n returns ``prepared`` itself.

    Raises:
        ValueError: another count, or merged clues.
    """
    n = prepared.compared.features.size(1)
    if prepared.merged is not None:
        raise ValueError(f"Expected clues that were not merged yet (got {n} that were)")
    if not 1 <= count <= n:
        raise ValueError(f"Expected gallery_clues from 1 to {n}, the clues of a picture (got {count})")
    if count == n:
        return prepared
    parts = (prepared.compared.features.split(_TOGETHER), prepared.projected.split(_TOGETHER))
    groups, several, moved = [], [], []
    for compared, projected in zip(*parts, strict=True):
        seen = compared.detach()
        mean = _shares(_farthest_groups(seen, count), count, seen.dtype) @ seen
        group = torch.cdist(seen, mean, compute_mode="donot_use_mm_for_euclid_dist").argmin(2)
        groups.append(group.to(torch.uint8 if count <= 256 else torch.int16))
        share = _shares(group, count, compared.dtype)
        several.append(share @ compared)
        moved.append(share @ projected)
    kept = Clues(torch.cat(several), (count, 1))
    none = prepared.projected.new_zeros(len(prepared), 0, 0)
    merged = Merged(torch.cat(groups), prepared.compared.grid)
    return PairOperand(kept, none, torch.cat(moved), prepared.individual, merged)


def _shares(group: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """How much each clue counts in the mean of each group, ``(image, count, n)``; nothing in a group without clues."""
    joined = torch.nn.functional.one_hot(group, count).to(dtype).mT
    return joined / joined.sum(2, keepdim=True).clamp_min(1)


def _farthest_groups(x: Tensor, count: int) -> Tensor:
    """Which of the farthest points each clue of some images is nearest to, ``(image, n)``; ``x`` is (image, n, any)."""
    image = torch.arange(len(x), device=x.device)
    point = (x - x.mean(1, keepdim=True)).square().sum(2).argmin(1)
    nearest, group = x.new_full(x.shape[:2], torch.inf), torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
    for number in range(count):
        distance = (x - x[image, point].unsqueeze(1)).square().sum(2)
        group = torch.where(distance < nearest, number, group)
        nearest = torch.minimum(nearest, distance)
        point = nearest.argmax(1)
    return group
