"""Merges the clues of an image into fewer, each of which stands for several."""

from numbers import Integral

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models.pair_operand import Merged, PairOperand

_TOGETHER = 64  # images at once; the distances of their clues take a few megabytes


def keep_clues(prepared: PairOperand, count: int) -> PairOperand:
    """Merge the clues of each image into ``count`` groups, and keep the mean of each group (our addition).

    The groups come from farthest-point sampling (Gonzalez, 1985) of the features that the builder compares. The first
    point is the clue nearest to the mean of all clues; each further point is the clue farthest from all points so far.
    Each clue joins the nearest point, and then the nearest mean (one step of Lloyd's k-means). For each group, the
    means of the compared and of the propagated features are kept, and for each clue its group. To drop clues instead
    is worse: clues of the other image lose their counterparts, and the mean over the nodes changes
    (docs/gallery_clues.md).

    The result has no edges within images; :meth:`cace_pyg.models.PairStage.keep_clues` adds them.

    Args:
        prepared: some images with all their clues.
        count: number of clues to keep, from 1 to n; n returns ``prepared`` itself.

    Raises:
        ValueError: the count is out of range, or clues were merged before.
    """
    n = prepared.compared.features.size(1)
    if prepared.merged is not None:
        raise ValueError(f"Expected clues that were not merged yet (got {n} that were)")
    if not (isinstance(count, Integral) and not isinstance(count, bool) and 1 <= count <= n):
        raise ValueError(
            f"Expected gallery_clues as a whole number from 1 to {n}, the clues of a picture (got {count!r}); leave it "
            "out for all"
        )
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
    """The weight of each clue in the mean of each group, ``(image, count, n)``; all 0 for a group without clues."""
    joined = torch.nn.functional.one_hot(group, count).to(dtype).mT
    return joined / joined.sum(2, keepdim=True).clamp_min(1)


def _farthest_groups(x: Tensor, count: int) -> Tensor:
    """The number of the farthest point nearest to each clue, ``(image, n)``, from clues ``x``, ``(image, n, any)``."""
    image = torch.arange(len(x), device=x.device)
    point = (x - x.mean(1, keepdim=True)).square().sum(2).argmin(1)
    nearest, group = x.new_full(x.shape[:2], torch.inf), torch.zeros(x.shape[:2], dtype=torch.long, device=x.device)
    for number in range(count):
        distance = (x - x[image, point].unsqueeze(1)).square().sum(2)
        group = torch.where(distance < nearest, number, group)
        nearest = torch.minimum(nearest, distance)
        point = nearest.argmax(1)
    return group
