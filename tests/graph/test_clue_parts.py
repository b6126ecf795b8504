"""Label maps to the parts of clues against a loop."""

import math

import pytest
import torch

from cace_pyg.graph import Clues
from cace_pyg.graph.clues import clue_parts


def literal(part_map, grid):
    """Count the pixels of each cell; cells are those of adaptive pooling."""
    (height, width), (rows, columns) = part_map.shape, grid
    parts = []
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, math.ceil((row + 1) * height / rows)
            left, right = column * width // columns, math.ceil((column + 1) * width / columns)
            counts = part_map[top:bottom, left:right].flatten().bincount(minlength=4).tolist()
            best = max(range(1, 4), key=lambda part: counts[part])
            parts.append(best if counts[best] >= counts[0] and counts[best] else 0)
    return torch.tensor(parts)


@pytest.mark.parametrize("grid", [(3, 2), (1, 1), (12, 6), (5, 2), (3, 4), (7, 5), (13, 8)])  # some divide 12 × 6
def test_the_most_frequent_part_wins(grid):
    maps = torch.randint(4, (20, 12, 6), dtype=torch.uint8)
    maps[0], maps[1] = 0, 3
    got = clue_parts(maps, grid)
    assert torch.equal(got, torch.stack([literal(part_map.long(), grid) for part_map in maps]))
    assert got.dtype == torch.int64 and not got[0].any() and (got[1] == 3).all()


def test_ties_go_to_the_smaller_part_and_against_the_background():
    assert clue_parts(torch.tensor([[[2, 1], [0, 0]]]), (1, 1)).item() == 0
    assert clue_parts(torch.tensor([[[2, 1], [2, 1]]]), (1, 1)).item() == 1
    assert clue_parts(torch.tensor([[[0, 0], [1, 1]]]), (1, 1)).item() == 1


def test_any_label_counts_and_other_maps_are_refused():
    assert clue_parts(torch.tensor([[[255, 0, 7]], [[255, 7, 7]]], dtype=torch.uint8), (1, 1)).tolist() == [[7], [7]]
    for wrong in (torch.zeros(2, 0, dtype=torch.uint8), torch.zeros(2, 4, 4), torch.zeros(2, 1, 4, 4).long()):
        with pytest.raises(
            ValueError, match=r"integers \(image, height, width\) \(got torch.*ReidDataset\(parts=True\)"
        ):
            clue_parts(wrong, (2, 2))


def test_clues_take_their_parts_from_maps_of_any_size():
    maps = torch.randint(4, (2, 12, 6))
    clues = Clues.from_map(torch.randn(2, 5, 3, 2), maps)
    assert torch.equal(clues.parts, clue_parts(maps, (3, 2)))
    both = Clues.concatenate([clues, clues.select(slice(0, 1))])
    assert torch.equal(both.parts, clues.parts[[0, 1, 0]])
