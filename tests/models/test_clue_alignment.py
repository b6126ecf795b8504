"""The second stage without a convolution."""

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention, Part
from cace_pyg.models import Backbone, CaceNet, ConditionalSettings

ALIGNED = ConditionalSettings(compare="aligned_clues")


def make(graph=CorrespondenceAttention) -> CaceNet:
    return CaceNet(Backbone("small_cnn"), graph, num_identities=3, embedding_channels=8, conditional=ALIGNED).eval()


def test_distance_is_that_of_the_clues_at_the_same_place():
    model = make(Part)
    a, b = (Clues(torch.randn(2, 6, 256), (3, 2)) for _ in range(2))
    unit = torch.nn.functional.normalize
    expected = (unit(a.features, dim=-1) - unit(b.features, dim=-1)).square().sum(-1).mean(-1).sqrt()
    torch.testing.assert_close(
        model.pair_stage.distance(model.pair_stage.prepare(a), model.pair_stage.prepare(b)), expected
    )
    far = model.pair_stage.discrepancy(model.pair_stage.prepare(a), model.pair_stage.prepare(b))
    assert far.shape == (2, 2, 6)
    torch.testing.assert_close((2 * far).mean(-1).sqrt(), expected[:, None].expand(2, 2))


def test_the_attention_learns_and_one_image_stands_for_all_pairs():
    model = make()
    single, many = (model.pair_stage.prepare(Clues(torch.rand(images, 6, 256), (3, 2))) for images in (1, 3))
    distance = model.pair_stage.distance(single, many)
    repeated = single.select(torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(distance, model.pair_stage.distance(repeated, many))
    (gradient,) = torch.autograd.grad(distance.sum(), model.pair_branch())
    assert gradient.abs().sum() > 0


def test_there_are_no_conditional_embeddings():
    model = make()
    clues = Clues(torch.rand(2, 6, 256), (3, 2))
    with pytest.raises(ValueError, match="use pair_stage.distance"):
        model.condition(clues, clues)
    with pytest.raises(ValueError, match="use pair_stage.distance"):
        model.conditional.all_pairs(model.pair_stage.prepare(clues))
    with pytest.raises(ValueError, match="needs inter edges"):
        settings = ConditionalSettings(compare="aligned_clues", edges="intra")
        CaceNet(Backbone("small_cnn"), Part, 3, conditional=settings)
