"""Best matches both ways, weighed by place."""

import pytest
import torch

from benchmarks.opponents.qaconv import QAConv
from cace_pyg.graph import Clues

GRID, PAIRS = (3, 2), 4


def make(seed=0):
    torch.manual_seed(seed)
    matcher = QAConv(5, 6, width=3).double()
    for weight in matcher.parameters():
        torch.nn.init.normal_(weight)
    clues = [Clues(torch.randn(PAIRS, 6, 5, dtype=torch.float64), GRID) for _ in range(2)]
    return matcher, clues


def literal(matcher, a, b):
    """Pair by pair, clue by clue."""
    sides = [], []
    for pair in range(PAIRS):
        unit = [[matcher.projection.weight @ clue for clue in clues.features[pair]] for clues in (a, b)]
        unit_a, unit_b = ([clue / clue.square().sum().sqrt() for clue in side] for side in unit)
        sides[0].append(torch.stack([torch.stack([u @ v for v in unit_b]).max() for u in unit_a]))
        sides[1].append(torch.stack([torch.stack([u @ v for u in unit_a]).max() for v in unit_b]))
    matches = torch.stack([torch.stack(side) for side in sides])
    scores = torch.zeros(PAIRS, dtype=torch.float64)
    for side in normalised(matches, matcher.match_norm):
        scores = scores + torch.stack([row @ matcher.weight.weight[0] + matcher.weight.bias[0] for row in side])
    return normalised(scores, matcher.score_norm)


def normalised(values, norm):
    mean = values.sum() / values.numel()
    deviation = ((values - mean).square().sum() / values.numel() + norm.eps).sqrt()
    return (values - mean) / deviation * norm.weight + norm.bias


def test_it_equals_a_literal_loop_values_and_gradients():
    matcher, (a, b) = make()
    found, expected = matcher(matcher.keys(a), matcher.keys(b)), literal(matcher, a, b)
    torch.testing.assert_close(found, expected)
    weights, towards = list(matcher.parameters()), torch.randn(PAIRS, dtype=torch.float64)
    of_found, of_expected = (torch.autograd.grad((scores * towards).sum(), weights) for scores in (found, expected))
    torch.testing.assert_close(of_found, of_expected)


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_same_whichever_picture_comes_first(training):
    matcher, clues = make()
    a, b = (matcher.train(training).keys(side) for side in clues)
    torch.testing.assert_close(matcher(a, b), matcher(b, a))


def test_one_picture_stands_for_all_pairs():
    matcher, (a, b) = make()
    query, many = matcher.eval().keys(a)[:1], matcher.keys(b)
    torch.testing.assert_close(matcher(query, many), matcher(query.expand(PAIRS, -1, -1), many))


def test_a_picture_matches_itself_best():
    torch.manual_seed(0)
    matcher = QAConv(5, 6, width=3).double().eval()
    keys = matcher.keys(Clues(torch.randn(PAIRS, 6, 5, dtype=torch.float64), GRID))
    assert (matcher(keys[:1], keys).argmax() == 0).all()
