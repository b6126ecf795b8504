"""Clues that are each other's nearest."""

import torch

from benchmarks.opponents.mutual_nearest import MutualNearest
from cace_pyg.graph import Clues

GRID, PAIRS, N = (3, 2), 4, 6


def literal(matcher, a, b):
    """Pair by pair, clue by clue."""
    scores = []
    for pair in range(PAIRS):
        unit = [[matcher.projection.weight @ clue for clue in clues.features[pair]] for clues in (a, b)]
        unit_a, unit_b = ([clue / clue.square().sum().sqrt() for clue in side] for side in unit)
        total = torch.zeros((), dtype=torch.float64)
        for i, u in enumerate(unit_a):
            j = max(range(N), key=lambda j: (u @ unit_b[j]).item())
            if max(range(N), key=lambda other: (unit_a[other] @ unit_b[j]).item()) == i:
                total = total + u @ unit_b[j]
        scores.append(total / N)
    return torch.stack(scores)


def test_it_equals_a_literal_loop_values_and_gradients_and_is_symmetric():
    matcher = MutualNearest(5, width=3).double()
    a, b = (Clues(torch.randn(PAIRS, N, 5, dtype=torch.float64), GRID) for _ in range(2))
    found, expected = matcher(matcher.keys(a), matcher.keys(b)), literal(matcher, a, b)
    assert (found > 0).any()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(matcher(matcher.keys(b), matcher.keys(a)), found)
    weights, towards = list(matcher.parameters()), torch.randn(PAIRS, dtype=torch.float64)
    of_found, of_expected = (torch.autograd.grad((scores * towards).sum(), weights) for scores in (found, expected))
    torch.testing.assert_close(of_found, of_expected)


def test_a_picture_and_itself_match_in_every_clue():
    keys = MutualNearest(5, width=3).keys(Clues(torch.randn(2, N, 5), GRID))
    torch.testing.assert_close(MutualNearest(5, width=3)(keys, keys), torch.ones(2))
