"""The whole network on small pictures."""

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import Backbone, CaceNet, ConditionalSettings


def make(**settings) -> CaceNet:
    return CaceNet(
        Backbone("small_cnn"), CorrespondenceAttention, 5, 16, conditional=ConditionalSettings(**settings)
    ).eval()


def test_shapes():
    model = make()
    embedding, clues = model(torch.rand(3, 3, 96, 48))
    assert embedding.shape == (3, 16)
    assert clues.features.shape == (3, 72, 256) and clues.grid == (12, 6)
    a_given_b, b_given_a = model.condition(clues.select(slice(0, 2)), clues.select(slice(1, 3)))
    assert a_given_b.shape == b_given_a.shape == (2, 16)


def test_all_pairs_equal_one_pair_at_a_time():
    model = make()
    torch.nn.init.normal_(model.pair_stage.expansion.weight)
    with torch.no_grad():
        clues = model(torch.rand(3, 3, 48, 24)).clues
        table = model.conditional.all_pairs(model.pair_stage.prepare(clues)).embedding
        for a in range(3):
            for b in range(3):
                embedding, _ = model.condition(clues.select(slice(a, a + 1)), clues.select(slice(b, b + 1)))
                torch.testing.assert_close(table[a, b], embedding[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(table[0, 1], table[0, 2])  # the embedding does depend on the other image


def test_evaluation_mode_uses_the_other_image():
    model = make()
    torch.nn.init.normal_(model.pair_stage.expansion.weight)
    with torch.no_grad():
        embedding, clues = model(torch.rand(2, 3, 48, 24))
        conditional, _ = model.condition(clues.select(slice(0, 1)), clues.select(slice(1, 2)))
    assert not torch.allclose(conditional[0], embedding[0], atol=1e-3)


def test_sides_must_match():
    with pytest.raises(ValueError, match=r"got 2 of \(3, 2\) and 1 of \(3, 2\)"):
        make().condition(Clues(torch.zeros(2, 6, 256), (3, 2)), Clues(torch.zeros(1, 6, 256), (3, 2)))


def test_a_shared_encoder_is_no_part_of_the_pair_branch():
    own, shared = make(), make(own_encoder=False)
    encoder = {id(parameter) for parameter in shared.encoder.parameters()}
    assert encoder and not encoder & {id(parameter) for parameter in shared.pair_branch()}
    assert len(own.pair_branch()) == len(shared.pair_branch()) + len(encoder)


def test_the_pair_branch_can_start_from_the_individual_encoder():
    model = make()
    torch.nn.init.normal_(model.encoder.convolution.weight)
    model.start_conditional_from_individual()
    torch.testing.assert_close(model.pair_stage.encoder.convolution.weight, model.encoder.convolution.weight)
