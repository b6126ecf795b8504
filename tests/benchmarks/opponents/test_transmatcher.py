"""Layers of query-key similarity with a prior, and the sum of their scores."""

import pytest
import torch

from benchmarks.opponents.transmatcher import TransMatcher
from cace_pyg.graph import Clues

GRID, PAIRS, WIDTH = (3, 2), 4, 3


def make(layers=2):
    torch.manual_seed(0)
    matcher = TransMatcher(5, 6, WIDTH, layers).double()
    for weight in matcher.parameters():
        torch.nn.init.normal_(weight)
    return matcher, [Clues(torch.randn(PAIRS, 6, 5, dtype=torch.float64), GRID) for _ in range(2)]


def literal(matcher, a, b):
    """Pair by pair, clue by clue; what an encoder layer makes of a level is torch's own."""
    levels = []
    for clues in (a, b):
        first = torch.stack([torch.stack([unit_clue(matcher, clue) for clue in image]) for image in clues.features])
        levels.append([first])
        for layer in matcher.encoder:
            levels[-1].append(layer(levels[-1][-1]))
    scores = torch.zeros(PAIRS, dtype=torch.float64)
    for layer, of_a, of_b in zip(matcher.decoder, *levels, strict=True):
        sides = [], []
        for clues_a, clues_b in zip(of_a, of_b, strict=True):
            table = [[similarity(layer, q, k, i, j) for j, k in enumerate(clues_b)] for i, q in enumerate(clues_a)]
            sides[0].append(torch.stack([torch.stack(row).max() for row in table]))
            sides[1].append(torch.stack([torch.stack(column).max() for column in zip(*table, strict=True)]))
        matches = normalised(torch.stack([torch.stack(side) for side in sides]), layer.match_norm, (0, 1, 2))
        hidden = torch.stack(
            [torch.stack([layer.hidden.weight @ row + layer.hidden.bias for row in s]) for s in matches]
        )
        hidden = normalised(hidden, layer.hidden_norm, (0, 1)).clamp(min=0)
        each = torch.stack(
            [torch.stack([layer.last.weight[0] @ row + layer.last.bias[0] for row in s]) for s in hidden]
        )
        scores = scores + normalised(each[0] + each[1], layer.score_norm, (0,))
    return normalised(scores, matcher.score_norm, (0,))


def unit_clue(matcher, clue):
    projected = matcher.projection.weight @ clue + matcher.projection.bias
    return projected / projected.square().sum().sqrt()


def similarity(layer, clue_a, clue_b, i, j):
    query, key = (layer.projection.weight @ clue + layer.projection.bias for clue in (clue_a, clue_b))
    return query @ key / (1 + (-(layer.prior[i, j] + layer.prior[j, i]) / 2).exp())


def normalised(values, norm, over):
    mean = values.mean(over, keepdim=True)
    deviation = ((values - mean).square().mean(over, keepdim=True) + norm.eps).sqrt()
    return (values - mean) / deviation * norm.weight + norm.bias


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_equals_a_literal_loop_values_and_gradients(layers):
    matcher, (a, b) = make(layers)
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


def test_a_prior_takes_counterparts_away_from_where_it_is_low():
    matcher, (a, b) = make(layers=1)
    keys_a, keys_b = (matcher.eval().keys(clues) for clues in (a, b))
    layer = matcher.decoder[0]
    torch.nn.init.constant_(layer.prior, -1000.0)
    nothing = matcher(keys_a, keys_b)
    torch.testing.assert_close(nothing, nothing[:1].expand(PAIRS))  # no similarity is left
    with torch.no_grad():
        layer.prior.fill_diagonal_(1000.0)
    changed = matcher(keys_a, keys_b.flip(1))
    assert not torch.allclose(changed, matcher(keys_a, keys_b))  # it looks at where a clue is
