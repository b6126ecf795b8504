"""The conditional embedding: every engine against a literal reference, the collapse, and its cure."""

import itertools

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention, FullyConnected
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead

GRID, N, CHANNELS = (3, 2), 6, 32
ENGINES = ["pooled", "dense", "message_passing"]


def clues(images: int) -> Clues:
    return Clues(torch.rand(images, N, CHANNELS, dtype=torch.float64), GRID)


def make(engine: str = "pooled", builder=None, batch_norm: bool = True, **settings) -> ConditionalEmbedding:
    torch.manual_seed(1)
    builder = builder or CorrespondenceAttention(CHANNELS)
    head = EmbeddingHead(CHANNELS, 4, batch_norm)
    made = ConditionalEmbedding(CHANNELS, builder, head, ConditionalSettings(engine=engine, **settings)).double()
    for name, parameter in made.named_parameters():
        if "expansion" in name:  # zero at the start of the residual form, which would hide everything
            torch.nn.init.normal_(parameter)
    return made


def literal(model: ConditionalEmbedding, a: Clues, b: Clues) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations on whole matrices, one pair at a time, with D-wide features and no shortcut."""
    settings, pooled = model.settings, []
    for pair in range(len(a)):
        one = slice(pair, pair + 1)
        adjacency = model.builder(a.select(one), b.select(one)).adjacency()[0]
        x = torch.cat([a.features[pair], b.features[pair]])
        degree = adjacency.sum(1)
        root = torch.diag(torch.where(degree > 0, degree, 1.0) ** -0.5 * (degree > 0))
        smooth = root @ adjacency @ root
        operator = torch.eye(2 * N).double() + (smooth if settings.mode == "smooth" else -smooth)
        y = operator @ x @ model.convolution.lin.weight.T
        y = {"identity": y, "relu": y.clamp(min=0), "magnitude": y.abs()}[settings.node_wise]
        for own, features in ((y[:N], x[:N]), (y[N:], x[N:])):
            out = model.expansion(own.mean(0))
            pooled.append(features.mean(0) + out if settings.residual else out)
    both = torch.stack(pooled)
    embedded = model.encoder(torch.cat([both[0::2], both[1::2]]))
    return embedded.chunk(2)


FORMS = list(itertools.product(["discrepancy", "smooth"], [True, False], ["identity", "relu", "magnitude"], [8, None]))


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize(("mode", "residual", "node_wise", "width"), FORMS)
def test_every_engine_gives_the_numbers_and_gradients_of_the_equations(mode, residual, node_wise, width, form, pairs):
    a, b = clues(pairs), clues(pairs)
    probe = torch.randn(2, pairs, 4, dtype=torch.float64)
    settings = {"mode": mode, "residual": residual, "node_wise": node_wise, "width": width}
    reference = make(builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
    expected = torch.stack(literal(reference, a, b))
    wanted = torch.autograd.grad((expected * probe).sum(), list(reference.parameters()))
    for engine in ENGINES:
        model = make(engine, builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
        model.load_state_dict(reference.state_dict())
        out = torch.stack(model(model.prepare(a), model.prepare(b)))
        torch.testing.assert_close(out, expected)
        got = torch.autograd.grad((out * probe).sum(), list(model.parameters()))
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_literal_form_collapses_on_a_complete_graph(engine):
    """Eq. 7 to the letter: f(a|b) = −f(b|a), whoever is on the pictures, and zero for equal means."""
    literal_form = {"residual": False, "width": None, "node_wise": "identity", "batch_norm": False}
    model = make(engine, FullyConnected(CHANNELS), **literal_form)
    torch.nn.init.zeros_(model.encoder.convolution.bias)
    a, b = clues(3), clues(3)
    a_given_b, b_given_a = model(model.prepare(a), model.prepare(b))
    torch.testing.assert_close(a_given_b, -b_given_a)
    assert a_given_b.norm() > 0.01
    same_mean = Clues(a.features.flip(1), GRID)
    collapsed, _ = model(model.prepare(a), model.prepare(same_mean))
    torch.testing.assert_close(collapsed, torch.zeros_like(collapsed))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_residual_and_the_magnitude_do_not_collapse(engine):
    a, b = clues(3), clues(3)
    for settings in (
        {"residual": True, "node_wise": "identity"},
        {"residual": False, "node_wise": "magnitude"},
    ):
        model = make(engine, FullyConnected(CHANNELS), batch_norm=False, **settings)
        a_given_b, b_given_a = model(model.prepare(a), model.prepare(b))
        cosine = torch.nn.functional.cosine_similarity(a_given_b, b_given_a)
        assert (cosine > -0.9).all()


def test_the_residual_form_starts_as_the_individual_embedding():
    head = EmbeddingHead(CHANNELS, 4)
    model = ConditionalEmbedding(CHANNELS, CorrespondenceAttention(CHANNELS), head, ConditionalSettings()).double()
    model.eval()
    a, b = clues(2), clues(2)
    a_given_b, b_given_a = model(model.prepare(a), model.prepare(b))
    torch.testing.assert_close(a_given_b, head(a.features.mean(1)))
    torch.testing.assert_close(b_given_a, head(b.features.mean(1)))


def test_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="'pooled' or 'dense' or 'message_passing'.*got 'sparse'"):
        make("sparse")
