"""The fused kernel against the block put together; on a GPU, and in Triton's interpreter (test_in_interpreter.py)."""

import copy
import os

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.kernels import (
    ReluGram,
    relu_gram_products,
    relu_gram_products_reference,
    runs_on,
)
from cace_pyg.models import (
    CaceNet,
    ConditionalEmbedding,
    ConditionalSettings,
    EmbeddingHead,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if not INTERPRETED and not runs_on(DEVICE):
    pytest.skip("no GPU here; test_in_interpreter.py runs this file on the CPU", allow_module_level=True)

SIZES = [  # pairs, n_a, n_b, channels: tiles of 16 (interpreter) or 64 (GPU), met exactly, missed, and alone
    (1, 1, 1, 1), (1, 5, 40, 3), (2, 40, 5, 70), (2, 16, 32, 16), (2, 33, 17, 31), (1, 40, 70, 20),
]  # fmt: skip
FORMS = [(1.0, 0.0), (1.0, 0.3), (3.0, 0.0), (16.0, 1e-4)]
# every size in every form on a GPU; the interpreter, which is slow, takes every size in the second form
CASES = [
    (size, shared_a, form)
    for size, shared_a in [*((size, False) for size in SIZES), ((3, 20, 18, 9), True)]
    for form in FORMS
    if not INTERPRETED or form == FORMS[1] or size == SIZES[4]
]


def draw(pairs: int, n_a: int, n_b: int, channels: int, shared_a: bool = False) -> list[torch.Tensor]:
    """Unit clues that mostly agree, some without any edge, vectors of both signs; float32."""
    x_a, x_b = torch.randn(1 if shared_a else pairs, n_a, channels), torch.randn(pairs, n_b, channels)
    x_a, x_b = (torch.nn.functional.normalize(x + 0.7, dim=-1) for x in (x_a, x_b))
    x_a[:, : n_a // 4] = -x_a[:, : n_a // 4].abs()
    x_b[:, n_b // 2 :] = x_b[:, n_b // 2 :].abs()  # so that a quarter of a is isolated from half of b
    x_b[0, : n_b // 5] = 0
    drawn = x_a, x_b, torch.randn(pairs, n_a), torch.randn(pairs, n_b)
    return [tensor.to(DEVICE) for tensor in drawn]


def both_passes(products, operands: list[torch.Tensor], form: tuple[float, float], dtype: torch.dtype) -> list:
    """Products and gradients of the four operands, in float64; computed with clues in ``dtype``, vectors in float32."""
    wide = torch.promote_types(dtype, torch.float32)
    leaves = [
        tensor.to(kind).requires_grad_() for tensor, kind in zip(operands, (dtype, dtype, wide, wide), strict=True)
    ]
    out = products(ReluGram(*leaves[:2], *form), *leaves[2:])
    torch.manual_seed(5)
    weights = [torch.randn(tensor.shape).to(tensor) for tensor in out]
    loss = sum((tensor * weight).sum() for tensor, weight in zip(out, weights, strict=True))
    return [tensor.detach().double() for tensor in (*out, *torch.autograd.grad(loss, leaves))]


@pytest.mark.parametrize(("size", "shared_a", "form"), CASES, ids=str)
def test_values_and_gradients_are_those_of_the_block(size, shared_a, form):
    operands = draw(*size, shared_a)
    edges = ReluGram(*(x.double() for x in operands[:2]), form[0]).block()
    assert ((edges - form[1]).abs() > 1e-6 * form[1]).logical_or(edges == 0).all()  # else rounding may cut it
    wanted = both_passes(relu_gram_products_reference, operands, form, torch.float64)
    got = both_passes(relu_gram_products, operands, form, torch.float32)
    for actual, expected in zip(got, wanted, strict=True):
        assert (actual - expected).norm() <= 1e-5 * expected.norm() + 1e-6
    assert wanted[0].any() or size == (1, 1, 1, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("form", "size"),
    [((1.0, 0.0), (2, 33, 17, 31)), ((16.0, 1e-4), (2, 33, 17, 31)), ((1.0, 0.0), (1, 20, 18, 128))],
    ids=str,
)
def test_low_precision_is_at_most_twice_as_far_off_as_plain_torch(size, form, dtype):
    operands = draw(*size)
    exact = both_passes(relu_gram_products_reference, operands, form, torch.float32)
    plain = both_passes(relu_gram_products_reference, operands, form, dtype)
    fused = both_passes(relu_gram_products, operands, form, dtype)
    for wanted, plain_result, fused_result in zip(exact, plain, fused, strict=True):
        assert (fused_result - wanted).norm() <= 2 * (plain_result - wanted).norm()
        assert (plain_result - wanted).norm() > 0


def test_any_strides_and_nothing_of_the_callers_is_changed():
    x_a, x_b, left, right = draw(3, 20, 18, 12)
    wanted = relu_gram_products(ReluGram(x_a, x_b), left, right)
    spread = torch.stack([x_b, torch.full_like(x_b, 9.0)], -1)[..., 0]
    odd = ReluGram(x_a.mT.contiguous().mT, spread)
    wide = torch.cat([right, right], 1)
    before = [tensor.clone() for tensor in (*odd[:2], left, wide)]
    got = relu_gram_products(odd, left.T.contiguous().T, wide[:, : right.size(1)])
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    assert all(torch.equal(tensor, other) for tensor, other in zip(before, (*odd[:2], left, wide), strict=True))


def test_the_same_numbers_every_time():
    operands = draw(2, 40, 20, 20)
    first, second = (both_passes(relu_gram_products, operands, (1.0, 0.0), torch.float32) for _ in range(2))
    assert all(torch.equal(tensor, other) for tensor, other in zip(first, second, strict=True))


def test_no_edge_anywhere_gives_zeros():
    x_a, x_b, left, right = draw(2, 17, 19, 8)
    found = both_passes(relu_gram_products, [x_a.abs(), -x_b.abs(), left, right], (1.0, 0.0), torch.float32)
    assert not any(tensor.any() for tensor in found)


@pytest.mark.parametrize("size", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)], ids=str)
def test_inputs_of_size_zero_give_zeros(size):
    pairs, n_a, n_b, channels = size
    clues = torch.ones(pairs, n_a, channels, device=DEVICE), torch.ones(pairs, n_b, channels, device=DEVICE)
    by_row, by_column = relu_gram_products(ReluGram(*clues), *(x.new_ones(pairs, x.size(1)) for x in clues))
    assert by_row.shape == (pairs, n_a) and by_column.shape == (pairs, n_b)
    assert not by_row.any() and not by_column.any()


def test_vectors_without_gradient_and_clues_without_gradient():
    x_a, x_b, left, right = draw(2, 17, 19, 8)
    out = relu_gram_products(ReluGram(x_a.requires_grad_(), x_b), left, right)
    sum(tensor.sum() for tensor in out).backward()
    wanted = relu_gram_products_reference(ReluGram(x_a, x_b), left, right)
    expected = torch.autograd.grad(sum(tensor.sum() for tensor in wanted), x_a)[0]
    torch.testing.assert_close(x_a.grad, expected, rtol=1e-4, atol=1e-5)
    assert x_b.grad is None


@pytest.mark.parametrize("form", [(1.0, 0.0), (3.0, 0.1)], ids=str)
def test_nan_stays_nan(form):
    x_a, x_b, left, right = draw(1, 20, 18, 8)
    x_a[0, 7, 3] = torch.nan
    wanted = relu_gram_products_reference(ReluGram(x_a, x_b, *form), left, right)
    got = relu_gram_products(ReluGram(x_a, x_b, *form), left, right)
    assert wanted[0].isnan().sum() == 1
    for actual, expected in zip(got, wanted, strict=True):
        assert torch.equal(actual.isnan(), expected.isnan())


def test_second_derivatives_are_refused():
    x_a, x_b, left, right = draw(1, 17, 19, 8)
    out = relu_gram_products(ReluGram(x_a.requires_grad_(), x_b), left, right)[0]
    slope = torch.autograd.grad(out.square().sum(), x_a, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_autocast_takes_the_clues_in_its_precision():
    x_a, x_b, left, right = draw(2, 17, 19, 8)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        found = relu_gram_products(ReluGram(x_a, x_b), left, right)
    torch.testing.assert_close(found, relu_gram_products(ReluGram(x_a.bfloat16(), x_b.bfloat16()), left, right))
    assert found[0].dtype == torch.float32


@pytest.mark.parametrize(("mode", "degree_floor"), [("discrepancy", "released"), ("smooth", "textbook")])
@pytest.mark.parametrize(
    "graph", [{"form": "paper"}, {"form": "released"}, {"sharpness": 4.0}, {"threshold": 0.1}], ids=str
)
def test_the_backend_fused_is_the_backend_pooled(graph, degree_floor, mode):
    images = torch.rand(3, 3, 32, 16, device=DEVICE)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 40, 8, 8), torch.nn.ReLU())  # a clue of small_cnn has 256 numbers
    network.channels = 40
    found = []
    for backend in ("pooled", "fused"):
        torch.manual_seed(0)
        settings = ConditionalSettings(mode, node_wise="identity", degree_floor=degree_floor, backend=backend)
        model = CaceNet(
            copy.deepcopy(network), lambda channels: CorrespondenceAttention(channels, **graph), 2, 16, False, settings
        ).to(DEVICE)
        stage = model.pair_stage
        torch.nn.init.normal_(stage.expansion.weight)
        prepared = stage.prepare(model(images)[1])
        one_for_all = stage.distance(prepared.select(slice(1)), prepared.select(slice(1, None)))
        embedding, distance = stage.all_pairs(prepared)
        loss = embedding.square().sum() + distance.sum() + one_for_all.sum()
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        within, between = stage.density
        found.append([embedding, distance, one_for_all, *gradients])
        assert 0 < within <= 1 and 0 < between <= 1
    for actual, expected in zip(*found, strict=True):
        assert (actual - expected).norm() <= 1e-3 * expected.norm() + 1e-5
    assert found[0][1].any()


def test_auto_does_not_take_the_kernel_before_it_has_run_on_a_gpu():
    clues = Clues(torch.rand(2, 6, 32, device=DEVICE).bfloat16(), (3, 2))
    settings = ConditionalSettings(node_wise="identity")
    model = ConditionalEmbedding(32, CorrespondenceAttention(32), EmbeddingHead(32, 4, False), settings).to(DEVICE)
    prepared = model.bfloat16().eval().prepare(clues)
    model.distance(prepared, prepared)
    assert model.backend == "pooled"


def test_training_in_mixed_precision():
    """Values and gradients under autocast, as near to those in float32 as plain torch's."""
    torch.manual_seed(0)
    features = torch.rand(3, 12, 64, device=DEVICE)
    head, builder = EmbeddingHead(64, 8, False), CorrespondenceAttention(64, width=20)
    found = {}
    for backend, precision in (("pooled", None), ("pooled", torch.bfloat16), ("fused", torch.bfloat16)):
        settings = ConditionalSettings(node_wise="identity", backend=backend)
        model = ConditionalEmbedding(64, copy.deepcopy(builder), copy.deepcopy(head), settings).to(DEVICE)
        torch.manual_seed(1)
        for layer in (model.expansion, model.convolution.lin):
            torch.nn.init.normal_(layer.weight, std=0.2)
        with torch.autocast(DEVICE.type, precision, enabled=precision is not None):
            embedding = model.all_pairs(model.prepare(Clues(features, (4, 3)))).embedding
        gradients = torch.autograd.grad(embedding.float().square().sum(), list(model.parameters()))
        found[backend, precision] = [tensor.float() for tensor in (embedding, *gradients)]
    for exact, plain, fused in zip(*found.values(), strict=True):
        assert (fused - exact).norm() <= 2 * (plain - exact).norm() + 1e-4 * exact.norm()
        assert exact.any()
