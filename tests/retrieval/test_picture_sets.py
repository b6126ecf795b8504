"""Sets of pictures: merged, thinned out to views, and compared, beside literal references in float64."""

import math

import numpy as np
import pytest
import torch

from cace_pyg.retrieval.picture_sets import choose_views, form_sets, merge_embeddings, set_distance


def unit(pictures, channels=5):
    return torch.nn.functional.normalize(torch.randn(pictures, channels, dtype=torch.float64), dim=1)


def literal_set_distance(distances, softness):
    """Of one pair of sets."""
    if softness == 0:
        return min(distances)
    return -softness * math.log(sum(math.exp(-distance / softness) for distance in distances) / len(distances))


def literal_views(points, k, quality):
    mean = sum(q * x for q, x in zip(quality, points, strict=True))
    best = [i for i in range(len(points)) if quality[i] == max(quality)]
    chosen = [max(best, key=lambda i: (round(points[i] @ mean / np.linalg.norm(mean), 6), -i))]
    while len(chosen) < min(k, len(points)):
        worth = {
            i: quality[i] * min(np.linalg.norm(points[i] - points[j]) for j in chosen)
            for i in range(len(points))
            if i not in chosen
        }
        chosen.append(max(worth, key=lambda i: (worth[i], -i)))
    return chosen


def test_the_mean_is_weighted_by_quality_and_of_unit_length():
    points, quality = unit(4), torch.tensor([0.2, 1.0, 0.0, 3.0], dtype=torch.float64)
    sums = np.zeros(5)
    for weight, point in zip(quality.tolist(), points.numpy(), strict=True):
        sums += weight * point
    expected = sums / math.sqrt(sum(value**2 for value in sums))
    np.testing.assert_allclose(merge_embeddings(points, quality), expected, rtol=1e-12)
    np.testing.assert_allclose(merge_embeddings(points), merge_embeddings(points, torch.full((4,), 0.7)), rtol=1e-12)
    assert merge_embeddings(torch.eye(2), torch.tensor([3.0, 4.0])).tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("k", [1, 2, 4, 9, 20])
@pytest.mark.parametrize("with_quality", [False, True])
def test_views_are_those_that_a_literal_farthest_point_search_chooses(k, with_quality):
    points = unit(9)
    quality = torch.rand(9, dtype=torch.float64) if with_quality else None
    expected = literal_views(points.numpy(), k, [1.0] * 9 if quality is None else quality.tolist())
    assert choose_views(points, k, quality).tolist() == expected


def test_copies_of_a_picture_are_the_last_to_be_chosen():
    points = torch.eye(3)[[0, 0, 0, 1, 2]]
    assert sorted(choose_views(points, 3).tolist()[:3]) == [0, 3, 4]
    assert len(set(choose_views(points, 5).tolist())) == 5


def test_a_picture_of_no_quality_is_no_view_while_there_is_another():
    points = torch.eye(4)
    assert 2 not in choose_views(points, 3, torch.tensor([1.0, 0.5, 0.0, 0.5])).tolist()


@pytest.mark.parametrize("softness", [0.0, 0.05, 0.7, 50.0])
def test_set_distance_is_the_literal_one_with_its_gradient(softness):
    distance = torch.rand(12, dtype=torch.float64, requires_grad=True)
    pair = torch.tensor([0, 2, 0, 1, 2, 2, 0, 2, 3, 3, 0, 2])
    found = set_distance(distance, pair, 4, softness)
    values = distance.detach().tolist()
    groups = [[i for i in range(12) if pair[i] == number] for number in range(4)]
    expected = [literal_set_distance([values[i] for i in group], softness) for group in groups]
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-12)
    (gradient,) = torch.autograd.grad((found * torch.arange(1.0, 5.0)).sum(), distance)
    for i, value in enumerate(values):
        group = [values[j] for j in groups[pair[i]]]
        if softness == 0:
            share = float(value == min(group))
        else:
            share = math.exp(-value / softness) / sum(math.exp(-distance / softness) for distance in group)
        assert float(gradient[i]) == pytest.approx((int(pair[i]) + 1) * share, abs=1e-12)


def test_the_soft_minimum_goes_from_the_nearest_pair_to_the_mean():
    distance, pair = torch.tensor([0.3, 0.9, 0.6], dtype=torch.float64), torch.zeros(3, dtype=torch.long)
    grid = [float(set_distance(distance, pair, 1, softness)) for softness in (0.0, 0.01, 0.1, 1.0, 1000.0)]
    assert grid == sorted(grid) and grid[0] == 0.3 and grid[-1] == pytest.approx(0.6, abs=1e-3)
    for softness in (0.0, 0.2):
        assert float(set_distance(distance[:1], pair[:1], 1, softness)) == pytest.approx(0.3, abs=1e-15)


def test_sets_come_in_the_order_in_which_they_first_occur():
    points = unit(6)
    sets = form_sets(3 * points, ["b", "a", "b", "c", "a", "b"], views=2)
    assert [members.tolist() for members in sets.members] == [[0, 2, 5], [1, 4], [3]]
    assert len(sets) == 3 and sets.views.shape == (3, 2) and sets.views[2].tolist() == [3, -1]
    for number, pictures in enumerate(sets.members):
        torch.testing.assert_close(sets.embedding[number], merge_embeddings(points[pictures]))
        expected = pictures[choose_views(points[pictures], 2)].tolist()
        assert [view for view in sets.views[number].tolist() if view >= 0] == expected


def test_views_are_chosen_among_candidates_and_the_mean_is_that_of_all():
    points = unit(8)
    candidates = torch.tensor([True, False, True, True, False, False, True, True])
    sets = form_sets(points, [0] * 7 + [1], views=3, candidates=candidates)
    allowed = torch.tensor([0, 2, 3, 6])
    assert sets.views[0].tolist() == allowed[choose_views(points[allowed], 3)].tolist()
    torch.testing.assert_close(sets.embedding[0], merge_embeddings(points[:7]))
    assert form_sets(points, range(8)).select([5, 2]).members == (torch.tensor([5]), torch.tensor([2]))
    with pytest.raises(ValueError, match="a picture that may be a view in each set"):
        form_sets(points, [0, 1, 1, 1, 1, 0, 0, 0], candidates=torch.tensor([True] + 7 * [False]))


def test_kept_views_are_numbered_among_themselves():
    sets = form_sets(unit(6), ["b", "a", "b", "c", "a", "b"], views=2)
    kept, numbered = sets.kept()
    assert torch.equal(kept, sets.views[sets.views >= 0])
    for row, expected in zip(numbered.tolist(), sets.views.tolist(), strict=True):
        assert [int(kept[member]) if member >= 0 else -1 for member in row] == expected


def test_a_set_in_which_a_quality_is_not_known_weighs_its_pictures_alike():
    points, nan = unit(4), float("nan")
    sets = form_sets(points, [0, 0, 1, 1], torch.tensor([3.0, 1.0, 5.0, nan], dtype=torch.float64))
    torch.testing.assert_close(sets.embedding[0], merge_embeddings(points[:2], torch.tensor([3.0, 1.0])))
    torch.testing.assert_close(sets.embedding[1], merge_embeddings(points[2:]))


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: form_sets(torch.eye(3), [1, 2]), r"a label for each \(got \(3, 3\) and 2 labels\)"),
        (lambda: form_sets(torch.eye(3), [1, 2, 3], torch.ones(2)), "a quality for each of 3 pictures"),
        (lambda: form_sets(torch.eye(2), [1, 1], views=0), r"at least one view of a set \(got 0\)"),
        (lambda: merge_embeddings(torch.eye(2), torch.tensor([1.0, -1.0])), "qualities of 0 or more"),
        (lambda: form_sets(torch.eye(2), [1, 1], torch.zeros(2)), "one of them above 0"),
        (lambda: form_sets(torch.eye(2), [1, 1], torch.tensor([1.0, math.inf])), "qualities of 0 or more"),
        (lambda: set_distance(torch.ones(2), torch.tensor([0, 2]), 3), "for each of 3 pairs of sets"),
        (lambda: set_distance(torch.ones(2), torch.tensor([0, 3]), 3), "for each of 3 pairs of sets"),
        (lambda: set_distance(torch.ones(2), torch.tensor([0, 1]), 2, -1), "a softness of 0 or more"),
        (lambda: set_distance(torch.ones(2), torch.tensor([0, 1]), 2, math.inf), "a softness of 0 or more"),
    ],
)
def test_what_is_refused(refused, message):
    with pytest.raises(ValueError, match=message):
        refused()
