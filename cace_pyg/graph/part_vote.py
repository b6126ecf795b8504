"""From label maps to the body part of each clue, as a network for maps of one size."""

import torch
from torch import Tensor

_LABELS = 256  # that uint8 maps can have


class PartVote(torch.nn.Module):
    """The exportable twin of :func:`~cace_pyg.graph.clue_parts.clue_parts`: no loop over the labels that are there.

    Every pixel under a clue votes for its label; what wins is said there, and the answers are the same.

    Args:
        size: (height, width) of the label maps.
        grid: (H, W) of the feature map.

    Shapes: uint8 ``(image, height, width)`` to int64 ``(image, H·W)``.
    """

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        rows, columns = (_cells(*lengths) for lengths in zip(size, grid, strict=True))
        voters = [
            torch.tensor([row * size[1] + column for row in of_row for column in of_column])
            for of_row in rows
            for of_column in columns
        ]
        # cells differ in size where sizes do not divide; the missing pixels are one behind the map, with a label apart
        outside = size[0] * size[1]
        self.register_buffer("voters", torch.nn.utils.rnn.pad_sequence(voters, True, outside), persistent=False)

    def forward(self, part_maps: Tensor) -> Tensor:
        """Return the part of each clue."""
        labels = torch.nn.functional.pad(part_maps.flatten(1).long(), (0, 1), value=_LABELS)
        chosen = labels[:, self.voters]
        votes = torch.zeros(*chosen.shape[:2], _LABELS + 1, device=chosen.device)
        votes = votes.scatter_add(2, chosen, torch.ones_like(chosen, dtype=votes.dtype))
        most, part = votes[..., 1:_LABELS].max(-1)  # the first, so the smallest, of equals
        return torch.where(votes[..., 0] > most, 0, part + 1)


def _cells(length: int, cells: int) -> list[range]:
    """The pixels of each cell of adaptive average pooling, along one side."""
    return [range(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
