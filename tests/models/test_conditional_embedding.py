"""The conditional embedding: every backend against a literal reference, the collapse, and its cure."""

import itertools
from typing import get_args

import pytest
import torch

from cace_pyg.graph import (
    Clues,
    CorrespondenceAttention,
    FullyConnected,
    NoAlignment,
    Part,
    TopKSimilarity,
)
from cace_pyg.models import (
    ConditionalEmbedding,
    ConditionalSettings,
    EmbeddingHead,
    VerificationHead,
)
from cace_pyg.models.backends import Backend
from cace_pyg.nn import reference

GRID, N, CHANNELS = (3, 2), 6, 32
BACKENDS = [backend for backend in get_args(Backend) if backend != "fused"]  # CUDA, float32: tests/kernels


def backends_for(node_wise: str) -> list[str]:
    return [backend for backend in BACKENDS if node_wise == "identity" or backend != "pooled_messages"]


def clues(images: int) -> Clues:
    return Clues(torch.rand(images, N, CHANNELS, dtype=torch.float64), GRID)


def make(backend: str = "pooled", builder=None, batch_norm: bool = True, **settings) -> ConditionalEmbedding:
    torch.manual_seed(1)
    builder = builder or CorrespondenceAttention(CHANNELS)
    head = EmbeddingHead(CHANNELS, 4, batch_norm)
    made = ConditionalEmbedding(CHANNELS, builder, head, ConditionalSettings(backend=backend, **settings)).double()
    for name, parameter in made.named_parameters():
        if (
            "expansion" in name or "verification" in name
        ):  # zero at the start of the residual form, which would hide everything
            torch.nn.init.normal_(parameter)
    return made


def literal_adjacency(builder, a: Clues, b: Clues) -> torch.Tensor:
    """Eq. 2–4 for the attention; the other builders are written out in tests/graph."""
    if not isinstance(builder, CorrespondenceAttention):
        return builder(a, b).adjacency()
    if builder.form == "paper":
        weights = builder.intra_weight, builder.inter_weight
        return reference.paper_adjacency(a.features, b.features, *weights)
    return reference.released_adjacency(torch.cat([a.features, b.features], 1), builder.projection.weight)


def literal_convolved(model: ConditionalEmbedding, a: Clues, b: Clues) -> torch.Tensor:
    """φ(L X Θ) of all nodes by the equations written out, ``(pair, 2n, channel)``."""
    settings = model.settings
    adjacency = literal_adjacency(model.builder, a, b)
    blocks = torch.ones(2, 2) if settings.edges == "all" else torch.eye(2)
    blocks = 1 - blocks if settings.edges == "inter" else blocks
    adjacency = adjacency * blocks.repeat_interleave(N, 0).repeat_interleave(N, 1)
    theta, form = model.convolution.lin.weight, (settings.mode, settings.degree_floor)
    y = reference.convolve(torch.cat([a.features, b.features], 1), adjacency, theta, *form)
    return reference.node_wise(y, settings.node_wise, tuple(model.node_wise.parameters()))


def literal_maps(model: ConditionalEmbedding, a: Clues, b: Clues) -> torch.Tensor:
    """Behind f(a|b) and f(b|a), before the pooling: ``(pair, 2n, channel)``."""
    x = torch.cat([a.features, b.features], 1)
    expansion = getattr(model.expansion, "weight", None)
    return reference.expand(literal_convolved(model, a, b), expansion, x if model.settings.residual else None)


def literal(model: ConditionalEmbedding, a: Clues, b: Clues) -> tuple[torch.Tensor, torch.Tensor]:
    """The equations on whole matrices, with D-wide features and no shortcut."""
    pooled = reference.pool(literal_maps(model, a, b))
    return model.encoder(pooled.transpose(0, 1).flatten(0, 1)).chunk(2)


NODE_WISE = ["identity", "relu", "magnitude", "square", "mlp"]
FORMS = list(itertools.product(["discrepancy", "smooth"], [True, False], NODE_WISE, [8, None]))


@pytest.mark.parametrize(("form", "pairs"), [("paper", 3), ("released", 1), ("released", 3)])
@pytest.mark.parametrize(("mode", "residual", "node_wise", "width"), FORMS)
def test_every_backend_gives_the_numbers_and_gradients_of_the_equations(mode, residual, node_wise, width, form, pairs):
    a, b = clues(pairs), clues(pairs)
    probe = torch.randn(2, pairs, 4, dtype=torch.float64)
    settings = {"mode": mode, "residual": residual, "node_wise": node_wise, "width": width}
    written = make(builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
    expected = torch.stack(literal(written, a, b))
    wanted = torch.autograd.grad((expected * probe).sum(), list(written.parameters()))
    for backend in backends_for(node_wise):
        model = make(backend, builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
        model.load_state_dict(written.state_dict())
        out = torch.stack(model(model.prepare(a), model.prepare(b)))
        torch.testing.assert_close(out, expected)
        got = torch.autograd.grad((out * probe).sum(), list(model.parameters()))
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("edges", ["all", "intra", "inter"])
@pytest.mark.parametrize("node_wise", ["identity", "magnitude"])
@pytest.mark.parametrize("kind", [FullyConnected, NoAlignment, Part, TopKSimilarity])
def test_every_backend_on_other_graphs_and_with_blocks_switched_off(kind, node_wise, edges):
    a, b = clues(3), clues(3)
    expected = torch.stack(literal(make(builder=kind(CHANNELS), node_wise=node_wise, edges=edges), a, b))
    for backend in backends_for(node_wise):
        model = make(backend, builder=kind(CHANNELS), node_wise=node_wise, edges=edges)
        torch.testing.assert_close(torch.stack(model(model.prepare(a), model.prepare(b))), expected)


@pytest.mark.parametrize("form", ["textbook", "released"])
@pytest.mark.parametrize("node_wise", ["identity", "mlp"])
def test_nan_stays_nan_in_its_own_pair_with_every_backend(node_wise, form):
    """A degree that is not a number was taken for an isolated node."""
    a, b = clues(3), clues(3)
    a.features[1, 2, 3] = torch.nan
    for backend in backends_for(node_wise):
        model = make(backend, node_wise=node_wise, degree_floor=form).eval()
        assert model.distance(model.prepare(a), model.prepare(b)).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("width", [2, 8, None])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("node_wise", NODE_WISE)
def test_conditional_maps_are_what_the_conditional_embeddings_are_the_average_of(node_wise, residual, width):
    a, b = clues(1), clues(3)
    model = make("auto", node_wise=node_wise, residual=residual, width=width)
    maps = model.conditional_maps(a, b)
    repeated = a.select(torch.zeros(3, dtype=torch.long))
    torch.testing.assert_close(torch.cat(maps, 1), literal_maps(model, repeated, b))
    assert maps[0].shape == maps[1].shape == (3, N, CHANNELS)
    expected = torch.cat(model(model.prepare(a), model.prepare(b)))
    torch.testing.assert_close(model.encoder(torch.cat([feature_map.mean(1) for feature_map in maps])), expected)


@pytest.mark.parametrize("width", [2, 8])
@pytest.mark.parametrize("node_wise", ["identity", "magnitude"])
def test_one_image_stands_for_all_pairs(node_wise, width):
    single, many = clues(1), clues(4)
    repeated = single.select(torch.zeros(4, dtype=torch.long))
    for backend in backends_for(node_wise):
        model = make(backend, node_wise=node_wise, width=width)
        expected = torch.stack(model(model.prepare(repeated), model.prepare(many)))
        torch.testing.assert_close(torch.stack(model(model.prepare(single), model.prepare(many))), expected)


@pytest.mark.parametrize("images", [1, 4])
@pytest.mark.parametrize("edges", ["all", "intra"])
@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("node_wise", ["identity", "magnitude"])
def test_all_pairs_of_a_batch_give_the_numbers_and_gradients_of_single_ones(node_wise, form, edges, images):
    batch = clues(images)
    first, second = torch.cartesian_prod(torch.arange(images), torch.arange(images)).T
    probe = torch.randn(images, images, 4, dtype=torch.float64)
    settings = {"node_wise": node_wise, "edges": edges, "batch_norm": False}
    written = make(builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
    expected = literal(written, batch.select(first), batch.select(second))[0].view(images, images, 4)
    unused = {"allow_unused": True, "materialize_grads": True}  # W' where there are no inter edges
    wanted = torch.autograd.grad((expected * probe).sum(), list(written.parameters()), **unused)
    for backend in backends_for(node_wise):
        model = make(backend, builder=CorrespondenceAttention(CHANNELS, form=form), **settings)
        model.load_state_dict(written.state_dict())
        out = model.all_pairs(model.prepare(batch)).embedding
        torch.testing.assert_close(out, expected)
        got = torch.autograd.grad((out * probe).sum(), list(model.parameters()), **unused)
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("width", [3, 8])
@pytest.mark.parametrize("node_wise", NODE_WISE)
def test_the_verification_is_added_to_the_distance_whatever_the_backend(node_wise, width, pairs):
    a, b = clues(pairs), clues(pairs)
    written = make(node_wise=node_wise, width=width, compare="verification").eval()
    embedded = literal(written, a, b)
    unit_a, unit_b = (vectors / vectors.norm(dim=1, keepdim=True) for vectors in embedded)
    pooled = reference.pool(literal_convolved(written, a, b)).unbind(1)
    head = written.verification
    features = torch.cat([pooled[0] + pooled[1], (pooled[0] - pooled[1]).abs()], 1)
    expected = (unit_a - unit_b).norm(dim=1) + head.layers(head.batch_norm(features)).squeeze(1)
    wanted = torch.autograd.grad(expected.sum(), list(written.parameters()))
    for backend in backends_for(node_wise):
        model = make(backend, node_wise=node_wise, width=width, compare="verification").eval()
        model.load_state_dict(written.state_dict())
        out = model.distance(model.prepare(a), model.prepare(b))
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(out, model.distance(model.prepare(b), model.prepare(a)))
        torch.testing.assert_close(torch.autograd.grad(out.sum(), list(model.parameters())), wanted)


def test_a_fresh_verification_changes_no_distance():
    torch.manual_seed(1)
    head = VerificationHead(5)
    assert torch.equal(head(torch.rand(3, 5), torch.rand(3, 5)), torch.zeros(3))
    assert any(parameter.requires_grad for parameter in head.parameters())


def test_all_pairs_have_the_distances_of_single_ones():
    model, batch = make(compare="verification").eval(), clues(3)
    prepared = model.prepare(batch)
    found = model.all_pairs(prepared).distance
    for a, b in itertools.product(range(3), range(3)):
        distance = model.distance(prepared.select(slice(a, a + 1)), prepared.select(slice(b, b + 1)))
        torch.testing.assert_close(found[a, b], distance[0])


def test_all_pairs_are_normalised_together():
    model, batch = make(), clues(3)
    first, second = torch.triu_indices(3, 3)
    prepared = model.prepare(batch)
    forward, backward = model(prepared.select(first), prepared.select(second))
    table = model.all_pairs(prepared).embedding
    torch.testing.assert_close(table[first, second], forward)
    torch.testing.assert_close(table[second, first][first != second], backward[first != second])


def test_auto_says_what_it_picked_and_training_measures_the_density():
    model = make("auto")
    assert model.backend == "auto" and model.density is None
    prepared = model.prepare(clues(3))
    model(prepared, prepared)
    assert model.backend in BACKENDS and model.backend != "auto" and "density" in model.backend_reason
    blocks = model.builder(clues(1), clues(1))
    within, between = model.density
    inter = model.blocks(prepared, prepared).inter
    assert between == pytest.approx(float((inter > 0).double().mean()))
    assert 0 < within < 1 and 0 < blocks.density()[0] < 1
    model.eval()
    model.density = None
    model(prepared, prepared)
    assert model.density is None  # it would cost time where every pair counts


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_literal_form_collapses_on_a_complete_graph(backend):
    """Eq. 7 to the letter: f(a|b) = −f(b|a), whoever is on the pictures, and zero for equal means."""
    literal_form = {"residual": False, "width": None, "node_wise": "identity", "batch_norm": False}
    model = make(backend, FullyConnected(CHANNELS), **literal_form)
    torch.nn.init.zeros_(model.encoder.convolution.bias)
    a, b = clues(3), clues(3)
    a_given_b, b_given_a = model(model.prepare(a), model.prepare(b))
    torch.testing.assert_close(a_given_b, -b_given_a)
    assert a_given_b.norm() > 0.01
    same_mean = Clues(a.features.flip(1), GRID)
    collapsed, _ = model(model.prepare(a), model.prepare(same_mean))
    torch.testing.assert_close(collapsed, torch.zeros_like(collapsed))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_residual_and_the_magnitude_do_not_collapse(backend):
    a, b = clues(3), clues(3)
    for settings in (
        {"residual": True, "node_wise": "identity"},
        {"residual": False, "node_wise": "magnitude"},
    ):
        if backend not in backends_for(settings["node_wise"]):
            continue
        model = make(backend, FullyConnected(CHANNELS), batch_norm=False, **settings)
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


def test_backends_that_cannot_do_it_are_refused():
    with pytest.raises(ValueError, match="'auto', 'pooled', .*got 'sparse'"):
        make("sparse")
    with pytest.raises(ValueError, match="exact with node_wise identity only.*got 'magnitude'"):
        make("pooled_messages")


def test_what_is_kept_between_batches_of_pairs_follows_the_weights():
    """E·U is made once while nothing is trained, and again as soon as a weight has changed, however it did."""
    model = make(node_wise="magnitude", width=8).eval()
    a, b = model.prepare(clues(2)), model.prepare(clues(2))
    start = {name: values.clone() for name, values in model.state_dict().items()}

    def distance():
        with torch.no_grad():
            kept = model.distance(a, b), model.distance(a, b)
        assert torch.equal(*kept) and torch.equal(kept[0], model.distance(a, b).detach())  # with gradients: made anew
        return kept[0]

    before = distance()
    with torch.no_grad():
        model.expansion.weight.mul_(2)
    assert not torch.equal(distance(), before)
    torch.optim.SGD([model.encoder.convolution.weight], 0.1).zero_grad()
    model.encoder.convolution.weight.grad = torch.ones_like(model.encoder.convolution.weight)
    between = distance()
    torch.optim.SGD([model.encoder.convolution.weight], 0.1).step()
    assert not torch.equal(distance(), between)
    model.load_state_dict(start)
    assert torch.equal(distance(), before)
