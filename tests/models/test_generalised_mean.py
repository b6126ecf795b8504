"""Generalised-mean pooling of the individual branch."""

import pytest
import torch

from cace_pyg.graph import CorrespondenceAttention
from cace_pyg.models import Backbone, CaceNet, ConditionalSettings
from cace_pyg.models.generalised_mean import GeneralisedMean, generalised_mean


def make(pooling, published=False, **settings):
    torch.manual_seed(0)
    conditional = ConditionalSettings(**settings)
    identities = None if published else 5
    return CaceNet(
        Backbone("small_cnn"), CorrespondenceAttention, identities, 16, True, conditional, published, pooling
    ).eval()


def test_it_is_the_average_at_one_and_nears_the_maximum():
    """Worked by hand: the cubes of 1, 2 and 3 have the mean 12."""
    clues = torch.tensor([[[1.0], [2.0], [3.0]]])
    for exponent, expected in ((1.0, 2.0), (3.0, 12 ** (1 / 3)), (60.0, 3 * 3 ** (-1 / 60))):
        assert generalised_mean(clues, torch.tensor([exponent])).item() == pytest.approx(expected, rel=1e-5)
    assert generalised_mean(-clues, torch.tensor([3.0])).item() == pytest.approx(1e-6, rel=1e-4)


def test_the_exponent_is_three_at_first_and_learned():
    pooling = GeneralisedMean()
    assert pooling.exponent.tolist() == [3.0]
    pooling(torch.tensor([[[1.0], [2.0], [3.0]]])).sum().backward()
    nearby = [generalised_mean(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([p])).item() for p in (2.99, 3.01)]
    assert pooling.exponent.grad.item() == pytest.approx((nearby[1] - nearby[0]) / 0.02, rel=1e-2)


def test_it_changes_the_individual_embedding_and_conditional_ones_average_as_before():
    mean, generalised = make("mean"), make("generalised_mean")
    missing, unknown = generalised.load_state_dict(mean.state_dict(), strict=False)
    assert missing == ["pooling.exponent"] and not unknown
    images = torch.rand(2, 3, 48, 24)
    with torch.no_grad():
        (averaged, clues), (changed, others) = mean(images), generalised(images)
        pooled = clues.features.pow(3).mean(1).pow(1 / 3)
        assert torch.allclose(changed, mean.encoder(pooled), atol=1e-4)
        assert (averaged - changed).abs().max() > 1e-3
        pairs = [(clues_of.select(slice(0, 1)), clues_of.select(slice(1, 2))) for clues_of in (clues, others)]
        assert torch.equal(mean.condition(*pairs[0])[0], generalised.condition(*pairs[1])[0])


def test_settings_that_do_not_fit_it_are_refused():
    with pytest.raises(ValueError, match="Expected pooling mean, generalised_mean"):
        make("max")
    with pytest.raises(ValueError, match="Expected conditional.own_encoder true with embedding.pooling"):
        make("generalised_mean", own_encoder=False)
    with pytest.raises(ValueError, match="got embedding.kind published"):
        make("generalised_mean", published=True)


def test_the_pair_phase_leaves_the_exponent_alone():
    model = make("generalised_mean")
    assert id(model.pooling.exponent) not in {id(parameter) for parameter in model.pair_branch()}
