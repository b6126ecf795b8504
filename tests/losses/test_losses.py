"""The losses against their formulas, written out."""

import math

import pytest
import torch

from cace_pyg.losses import (
    CaceLoss,
    LossSettings,
    batch_hard_triplet_loss,
    identity_loss,
    mixup_identity_loss,
    triplet_loss,
)


def cross_entropy(logits, label):
    return -(logits[label] - torch.logsumexp(logits, 0))


def test_identity_loss_by_hand():
    logits, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    expected = sum(cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)) / 3
    torch.testing.assert_close(identity_loss(logits, labels), expected)


def test_label_smoothing_by_hand():
    logits = torch.randn(1, 4, dtype=torch.float64)
    spread = sum(cross_entropy(logits[0], c) for c in range(4)) / 4
    expected = 0.9 * cross_entropy(logits[0], 2) + 0.1 * spread
    torch.testing.assert_close(identity_loss(logits, torch.tensor([2]), 0.1), expected)


def test_mixup_identity_loss_is_equation_8():
    logits, own, given = (
        torch.randn(3, 4, dtype=torch.float64),
        torch.tensor([0, 1, 2]),
        torch.tensor([3, 3, 2]),
    )
    expected = sum(
        0.7 * cross_entropy(row, a) + 0.3 * cross_entropy(row, b) for row, a, b in zip(logits, own, given, strict=True)
    )
    torch.testing.assert_close(mixup_identity_loss(logits, own, given, alpha=0.7), expected / 3)
    torch.testing.assert_close(mixup_identity_loss(logits, own, given, alpha=1.0), identity_loss(logits, own))
    with pytest.raises(ValueError, match=r"alpha in \[0, 1\] \(got 1.5\)"):
        mixup_identity_loss(logits, own, given, alpha=1.5)


def test_triplet_loss_by_hand():
    loss = triplet_loss(torch.tensor([0.5, 0.1]), torch.tensor([0.6, 1.0]), margin=0.3)
    assert loss.item() == pytest.approx((0.2 + 0.0) / 2)


def test_batch_hard_triplet_loss_by_hand():
    labels = torch.tensor([0, 0, 1, 1])
    distance = torch.tensor([[0, 0.4, 0.3, 0.9], [0.4, 0, 0.8, 0.5], [0.3, 0.8, 0, 0.2], [0.9, 0.5, 0.2, 0]])
    hardest = [0.4 - 0.3, 0.4 - 0.5, 0.2 - 0.3, 0.2 - 0.5]
    expected = sum(max(0.0, 0.3 + difference) for difference in hardest) / 4
    assert batch_hard_triplet_loss(distance, labels, 0.3).item() == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 0, 1]])
def test_a_batch_without_triplets_is_refused(labels):
    with pytest.raises(ValueError, match="at least two images of every identity"):
        batch_hard_triplet_loss(torch.zeros(3, 3), torch.tensor(labels))


def test_pairwise_losses_over_all_ordered_pairs():
    labels, logits = torch.tensor([0, 0, 1, 1]), torch.randn(4, 4, 2, dtype=torch.float64)
    distance = torch.rand(4, 4, dtype=torch.float64)
    terms = CaceLoss(LossSettings(alpha=0.8, pairwise_weight=0.5)).pairwise(logits, distance, labels)
    expected = sum(
        0.8 * cross_entropy(logits[a, b], labels[a]) + 0.2 * cross_entropy(logits[a, b], labels[b])
        for a in range(4)
        for b in range(4)
    )
    torch.testing.assert_close(terms["pair_identity"], 0.5 * expected / 16)
    torch.testing.assert_close(terms["pair_triplet"], 0.5 * batch_hard_triplet_loss(distance, labels, 0.3))


def test_uniform_logits_cost_the_logarithm_of_the_classes():
    assert identity_loss(torch.zeros(2, 7), torch.tensor([1, 5])).item() == pytest.approx(math.log(7))


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (4,), (4, 5), (1, 4, 4)])
def test_distances_of_other_images_than_the_labels_are_refused(shape):
    with pytest.raises(ValueError, match=r"Expected distances \(image, image\) and labels \(image,\)"):
        batch_hard_triplet_loss(torch.rand(shape), torch.tensor([0, 0, 1, 1]))


@pytest.mark.parametrize("shapes", [((3,), (1,)), ((3, 1), (3,)), ((3,), ()), ((0,), (0,))])
def test_a_triplet_has_two_distances(shapes):
    """Broadcast, (3, 1) against (3,) would be the mean over nine triplets that nobody drew."""
    with pytest.raises(ValueError, match=r"a positive and a negative distance for each anchor, both \(anchor,\)"):
        triplet_loss(*(torch.rand(shape) for shape in shapes))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (2, 3), (1, 3)])
def test_no_loss_hides_nan(place):
    labels = torch.tensor([0, 0, 1, 1])
    distance, logits = torch.rand(4, 4), torch.rand(4, 4)
    distance[place] = logits[place] = torch.nan
    if place[0] != place[1]:  # the distance of an image to itself is no triplet's
        assert batch_hard_triplet_loss(distance, labels).isnan()
    assert identity_loss(logits, labels).isnan() and mixup_identity_loss(logits, labels, labels.flip(0)).isnan()
