"""Pictures joined into people: against the definition, written out on small graphs."""

from itertools import combinations

import numpy as np
import pytest

from cace_pyg.retrieval.cluster_metrics import evaluate_clusters
from cace_pyg.retrieval.clustering import agglomerate


def by_definition(images, pairs, log_odds, together=(), apart=(), known=None, unlisted=None):
    """Look at every two groups again and again, and join those with the highest mean above 0."""
    told = {frozenset(pair): log_odd for pair, log_odd in zip(map(tuple, pairs), log_odds, strict=True)}
    known = [-1] * images if known is None else list(known)
    groups = [{image} for image in range(images)]
    same = [set(pair) for pair in map(tuple, together)]
    same += [{a, b} for a, b in combinations(range(images), 2) if known[a] == known[b] >= 0]
    for pair in same:
        joined = set().union(*(group for group in groups if group & pair))
        groups = [group for group in groups if not group & pair] + [joined]

    def mean(group_a, group_b):
        people = {known[image] for image in group_a | group_b} - {-1}
        if len(people) > 1 or any({a, b} <= group_a | group_b for a, b in map(tuple, apart)):
            return -np.inf
        between = [frozenset((a, b)) for a in group_a for b in group_b]
        if not any(pair in told for pair in between):
            return -np.inf
        return np.mean([told.get(pair, unlisted) for pair in between if pair in told or unlisted is not None])

    while len(groups) > 1:
        best, group_a, group_b = max(
            ((mean(*two), *two) for two in combinations(groups, 2)), key=lambda found: found[0]
        )
        if best <= 0:
            break
        groups = [group for group in groups if group not in (group_a, group_b)] + [group_a | group_b]
    return [min(next(group for group in groups if image in group)) for image in range(images)]


def some_graph(rng, images=14, listed=0.5):
    pairs = np.array([pair for pair in combinations(range(images), 2) if rng.random() < listed])
    person = rng.integers(0, 4, images)
    same = person[pairs[:, 0]] == person[pairs[:, 1]]
    return pairs, np.where(same, 1.5, -1.5) + 2 * rng.standard_normal(len(pairs))


@pytest.mark.parametrize("unlisted", [None, -0.5, -3.0, 0.0])
@pytest.mark.parametrize("seed", range(12))
def test_groups_are_those_of_the_definition(seed, unlisted):
    rng = np.random.default_rng(seed)
    pairs, log_odds = some_graph(rng, listed=rng.choice([0.2, 0.5, 1.0]))
    expected = by_definition(14, pairs, log_odds, unlisted=unlisted)
    assert agglomerate(14, pairs, log_odds, unlisted=unlisted).tolist() == expected and len(set(expected)) > 1
    turned = np.where(rng.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])
    order = rng.permutation(len(pairs))
    assert agglomerate(14, turned[order], log_odds[order], unlisted=unlisted).tolist() == expected


@pytest.mark.parametrize("seed", range(30))
def test_constraints_are_obeyed_as_the_definition_obeys_them(seed):
    rng = np.random.default_rng(seed)
    pairs, log_odds = some_graph(rng)
    person = rng.integers(0, 5, 14)
    some = np.array(list(combinations(range(14), 2)))[rng.permutation(91)[:20]]
    same = person[some[:, 0]] == person[some[:, 1]]
    together, apart = some[same][:4], some[~same][:8]
    known = np.where(rng.random(14) < 0.3, person, -1)
    unlisted = rng.choice([None, -1.0])
    found = agglomerate(14, pairs, log_odds, together, apart, known, unlisted)
    assert found.tolist() == by_definition(14, pairs, log_odds, together, apart, known, unlisted)
    assert (found[together[:, 0]] == found[together[:, 1]]).all()
    assert (found[apart[:, 0]] != found[apart[:, 1]]).all()
    told = known >= 0
    assert len(set(zip(found[told], known[told], strict=True))) == len(set(known[told])) == len(set(found[told]))


def test_the_example_of_the_docstring():
    pairs, log_odds = [(0, 1), (1, 2), (0, 2)], [3, 1, -4]
    assert agglomerate(3, pairs, log_odds).tolist() == [0, 0, 2]
    assert agglomerate(3, pairs, log_odds, apart=[(0, 1)]).tolist() == [0, 1, 1]
    assert agglomerate(3, pairs, log_odds, together=[(2, 0)]).tolist() == [0, 0, 0]
    assert agglomerate(3, pairs, log_odds, known=[-1, 7, 7]).tolist() == [0, 1, 1]


def test_the_mean_decides_where_the_sum_would_not():
    pairs = [(0, 1), (2, 3), (0, 2), (0, 3), (1, 2), (1, 3), (3, 4)]
    log_odds = [9, 8, 1, 1, 1, 1, 3.5]
    found = agglomerate(5, pairs, log_odds, apart=[(0, 4)])
    assert found.tolist() == [0, 0, 2, 2, 2]  # 4 joins at 3.5 before the other four pairs of 1, which sum to 4


def test_many_images_in_a_chain_are_no_recursion():
    images = 20_000
    pairs = np.stack([np.arange(images - 1), np.arange(1, images)], 1)
    assert set(agglomerate(images, pairs, np.ones(images - 1)).tolist()) == {0}
    assert len(set(agglomerate(images, pairs, -np.ones(images - 1)).tolist())) == images


def test_nothing_to_join():
    assert agglomerate(0, [], []).tolist() == []
    assert agglomerate(3, [], []).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("pairs", "log_odds", "constraints", "message"),
    [
        ([(0, 1)], [1, 2], {}, "log-odds of each of 1 pairs"),
        ([(0, 1)], [np.inf], {}, "finite log-odds"),
        ([(0, 1), (1, 0)], [1, 1], {}, "each pair once"),
        ([(0, 3)], [1], {}, "pairs of images 0 to 2"),
        ([(-1, 2)], [1], {}, "pairs of images 0 to 2"),
        ([(1, 1)], [1], {}, "image 1 twice"),
        ([(0.5, 1)], [1], {}, "whole numbers"),
        ([], [], {"together": [(0, 1), (1, 2)], "apart": [(0, 2)]}, "images 0 and 2 must be apart"),
        ([], [], {"known": [4, 4, -1], "apart": [(0, 1)]}, "images 0 and 1 must be apart"),
        ([], [], {"known": [4, -1, 5], "together": [(0, 1), (1, 2)]}, "the known people 4 and 5; give both"),
        ([], [], {"unlisted": 0.1}, "unlisted as log-odds of at most 0"),
        ([], [], {"known": [4, 5]}, "known as a whole number for each of 3 images"),
    ],
)
def test_what_cannot_be_joined_is_refused(pairs, log_odds, constraints, message):
    with pytest.raises(ValueError, match=message):
        agglomerate(3, pairs, log_odds, **constraints)


def metrics_by_definition(found, true):
    both = list(combinations(range(len(found)), 2))
    joined = {pair for pair in both if found[pair[0]] == found[pair[1]]}
    same = {pair for pair in both if true[pair[0]] == true[pair[1]]}
    precision = len(joined & same) / len(joined) if joined else 1
    recall = len(joined & same) / len(same) if same else 1
    shares = []
    for image in range(len(found)):
        mine = {other for other in range(len(found)) if found[other] == found[image]}
        theirs = {other for other in range(len(found)) if true[other] == true[image]}
        shares.append((len(mine & theirs) / len(mine), len(mine & theirs) / len(theirs)))
    bcubed = np.mean(shares, axis=0)

    def f1(a, b):
        return 2 * a * b / (a + b) if a + b else 0

    return [precision, recall, f1(precision, recall), *bcubed, f1(*bcubed), len(set(found)), len(set(true))]


@pytest.mark.parametrize("seed", range(20))
def test_every_metric_is_that_of_its_definition(seed):
    rng = np.random.default_rng(seed)
    found, true = rng.integers(0, rng.integers(1, 9), 25), rng.integers(0, rng.integers(1, 9), 25)
    assert list(vars(evaluate_clusters(found, true)).values()) == pytest.approx(metrics_by_definition(found, true))


def test_metrics_by_hand_and_at_their_ends():
    found = evaluate_clusters([0, 0, 1, 1], [0, 0, 0, 1])
    assert (found.precision, found.recall, found.f1) == pytest.approx((1 / 2, 1 / 3, 0.4))
    assert (found.bcubed_precision, found.bcubed_recall) == pytest.approx((3 / 4, (2 / 3 + 2 / 3 + 1 / 3 + 1) / 4))
    assert (found.found, found.true) == (2, 2)
    right = evaluate_clusters(["b", "a", "a"], [7, 2, 2])
    assert list(vars(right).values()) == [1, 1, 1, 1, 1, 1, 2, 2]
    alone = evaluate_clusters([0, 1, 2], [5, 5, 5])
    assert (alone.precision, alone.recall, alone.f1, alone.bcubed_precision) == (1, 0, 0, 1)
    for found, true in (([], []), ([1, 2], [1]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="a found and a true label"):
            evaluate_clusters(found, true)
