"""The contract of every graph builder, from a list that cannot forget one."""

import importlib
import inspect
from pathlib import Path

import pytest
import torch

import cace_pyg.graph
from cace_pyg.graph import (
    Clues,
    CorrespondenceAttention,
    GraphBuilder,
    NoAlignment,
    Part,
    Semantic,
    TopKSimilarity,
)
from cace_pyg.nn import DenseDiscrepancyConv

GRID = (3, 2)
N, CHANNELS = 6, 32

VARIANTS = {
    "CorrespondenceAttention": [
        {"form": "paper"},
        {"form": "released"},
        {"form": "released", "width": 5},
        {"form": "released", "sharpness": 8.0},
        {"form": "paper", "threshold": 0.3, "top_edges": 2},
        {"form": "released", "top_edges": 1},
    ],
    "Part": [{}, {"stripes": 2}],
    "Semantic": [{}, {"background": True}],
    "TopKSimilarity": [{}, {"k": 3}, {"k": 2, "weighted": True}, {"k": 100}],
}
BUILDERS = [
    (builder, arguments)
    for name, builder in vars(cace_pyg.graph).items()
    if inspect.isclass(builder) and issubclass(builder, GraphBuilder) and builder is not GraphBuilder
    for arguments in VARIANTS.get(name, [{}])
]


def clues(images: int) -> Clues:
    return Clues(torch.randn(images, N, CHANNELS, dtype=torch.float64), GRID, torch.randint(3, (images, N)))


def test_the_list_holds_every_class_of_the_folder():
    """A builder that is not exported would be tested by nobody."""
    folder = Path(cace_pyg.graph.__file__).parent
    for file in folder.glob("*.py"):
        importlib.import_module(f"cace_pyg.graph.{file.stem}")
    assert set(GraphBuilder.__subclasses__()) == {builder for builder, _ in BUILDERS}
    assert VARIANTS.keys() <= {builder.__name__ for builder, _ in BUILDERS}


@pytest.fixture(params=BUILDERS, ids=lambda case: f"{case[0].__name__}-{case[1]}")
def builder(request):
    kind, arguments = request.param
    made = kind(CHANNELS, **arguments).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def test_symmetric_and_non_negative(builder):
    adjacency = builder(clues(4), clues(4)).adjacency()
    assert adjacency.shape == (4, 2 * N, 2 * N)
    assert (adjacency >= 0).all() and (adjacency.sum() > 0) == (not isinstance(builder, NoAlignment))
    torch.testing.assert_close(adjacency, adjacency.mT)


def test_one_pair_never_sees_another(builder):
    a, b = clues(4), clues(4)
    together = builder(a, b).adjacency()
    for pair in range(4):
        alone = builder(a.select(slice(pair, pair + 1)), b.select(slice(pair, pair + 1))).adjacency()
        torch.testing.assert_close(alone[0], together[pair])


def test_exchanging_the_images_transposes_inter(builder):
    a, b = builder.prepare(clues(3)), builder.prepare(clues(3))
    torch.testing.assert_close(builder.inter(a, b), builder.inter(b, a).mT)


def test_one_image_a_stands_for_all_pairs(builder):
    single, many = clues(1), clues(3)
    repeated = builder(single.select(torch.zeros(3, dtype=torch.long)), many)
    torch.testing.assert_close(builder(single, many).adjacency(), repeated.adjacency())


@pytest.mark.parametrize("images", [1, 4])
def test_among_is_inter_of_every_pair(builder, images):
    prepared = builder.prepare(clues(images))
    first, second = torch.triu_indices(images, images)
    expected = builder.inter(prepared.select(first), prepared.select(second))
    torch.testing.assert_close(builder.among(prepared), expected)


def test_gradients_reach_the_builder_and_are_finite(builder):
    """Also through clues of zero length, whose attention is zero everywhere."""
    a, b = clues(2), clues(2)
    a.features[0], b.features[1, 0] = 0, 0
    features = [clues_of.features.requires_grad_() for clues_of in (a, b)]
    adjacency = builder(a, b).adjacency()
    if adjacency.requires_grad:
        gradients = torch.autograd.grad(adjacency.square().sum(), [*features, *builder.parameters()])
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)
    else:
        assert not list(builder.parameters())


def test_equivariant_under_a_permutation_of_the_pixels(builder):
    if builder.positional:
        pytest.skip("this builder looks at positions")
    a, b, order = clues(2), clues(2), torch.randperm(N)
    moved_a, moved_b = (Clues(clues_of.features[:, order], GRID, clues_of.parts[:, order]) for clues_of in (a, b))
    before, after = builder(a, b), builder(moved_a, moved_b)
    for block, moved in zip(before, after, strict=True):
        torch.testing.assert_close(moved, block[:, order][:, :, order])


def test_paper_attention_is_equations_2_to_4():
    builder = CorrespondenceAttention(CHANNELS, form="paper").double()
    torch.nn.init.normal_(builder.intra_weight)
    torch.nn.init.normal_(builder.inter_weight)
    a, b = clues(1), clues(1)
    w, w_inter = builder.intra_weight.diag(), builder.inter_weight.diag()
    x_a, x_b = a.features[0], b.features[0]
    s = torch.cat(
        [
            torch.cat([x_a @ w @ x_a.T, x_a @ w_inter @ x_b.T], 1),
            torch.cat([x_b @ w_inter @ x_a.T, x_b @ w @ x_b.T], 1),
        ]
    )
    torch.testing.assert_close(builder(a, b).adjacency()[0], s.clamp(min=0))


def test_released_attention_is_the_cosine_without_self_loops():
    builder = CorrespondenceAttention(CHANNELS).double()
    a, b = clues(1), clues(1)
    p = builder.projection.weight
    cosine = torch.nn.functional.cosine_similarity
    inter = cosine((a.features[0] @ p.T)[:, None], (b.features[0] @ p.T)[None], dim=-1).clamp(min=0)
    intra = cosine((a.features[0] @ p.T)[:, None], (a.features[0] @ p.T)[None], dim=-1).clamp(min=0)
    blocks = builder(a, b)
    torch.testing.assert_close(blocks.inter[0], inter)
    torch.testing.assert_close(blocks.intra_a[0], intra.fill_diagonal_(0))
    assert p.shape == (CHANNELS // 16, CHANNELS)


def test_sharpness_is_a_power_of_the_released_weights():
    plain, sharp = CorrespondenceAttention(CHANNELS).double(), CorrespondenceAttention(CHANNELS, sharpness=16).double()
    sharp.load_state_dict(plain.state_dict())
    a, b = clues(2), clues(2)
    power = plain(a, b).adjacency() ** 16
    torch.testing.assert_close(sharp(a, b).adjacency(), power * (power > 1e-4))
    assert (power > 1e-4).any() and ((power > 0) & (power <= 1e-4)).any()
    x, y = (torch.randn(1, N, CHANNELS, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: sharp(Clues(x, GRID), Clues(y, GRID)).adjacency(), (x, y))


@pytest.mark.parametrize("sharpness", [2.0, 3.0, 2.5])
@pytest.mark.parametrize("threshold", [0.0, 0.2])
def test_any_power_and_cut_have_the_values_and_gradients_of_the_formula(sharpness, threshold):
    plain = CorrespondenceAttention(CHANNELS).double()
    sharp = CorrespondenceAttention(CHANNELS, sharpness=sharpness, threshold=threshold).double()
    sharp.load_state_dict(plain.state_dict())
    x, y = (torch.randn(2, N, CHANNELS, dtype=torch.float64, requires_grad=True) for _ in range(2))
    power = plain(Clues(x, GRID), Clues(y, GRID)).inter ** sharpness
    power = torch.where(power > max(threshold, 1e-4), power, 0.0)
    found = sharp(Clues(x, GRID), Clues(y, GRID)).inter
    torch.testing.assert_close(found, power)
    gradients = [torch.autograd.grad(adjacency.square().sum(), [x, y]) for adjacency in (found, power)]
    torch.testing.assert_close(*gradients)
    with torch.no_grad():
        torch.testing.assert_close(sharp(Clues(x, GRID), Clues(y, GRID)).inter, power)


def test_gradients_stay_finite_however_sharp():
    torch.manual_seed(3)
    builder, convolution = CorrespondenceAttention(CHANNELS, sharpness=16), DenseDiscrepancyConv(CHANNELS, 4)
    a, b = (Clues(torch.randn(64, N, CHANNELS), GRID) for _ in range(2))
    blocks = builder(a, b)
    adjacency = blocks._replace(intra_a=0 * blocks.intra_a, intra_b=0 * blocks.intra_b).adjacency()
    assert (adjacency.sum(-1) == 0).any()  # clues without a counterpart
    convolution(torch.cat([a.features, b.features], 1), adjacency).square().mean().backward()
    assert builder.projection.weight.grad.abs().max() < 1e3


def test_part_alignment_joins_equal_locations():
    same = Part(CHANNELS)(clues(1), clues(1)).adjacency()[0]
    torch.testing.assert_close(same, torch.eye(N, dtype=torch.float64).repeat(2, 2))
    stripes = Part(CHANNELS, stripes=2)(clues(1), clues(1)).inter[0]
    rows = torch.tensor([0, 0, 0, 0, 1, 1])  # stripes of two rows and of one, two columns each
    torch.testing.assert_close(stripes, (rows[:, None] == rows).double())
    with pytest.raises(ValueError, match=r"rows, 3 \(got 4\)"):
        Part(CHANNELS, stripes=4)(clues(1), clues(1))


def test_semantic_alignment_joins_equal_parts_without_the_background():
    a, b = clues(1), clues(1)
    blocks = Semantic(CHANNELS)(a, b)
    for block, left, right in ((blocks.inter, a, b), (blocks.intra_a, a, a)):
        for i in range(N):
            for j in range(N):
                assert block[0, i, j] == (left.parts[0, i] == right.parts[0, j] != 0)
    with pytest.raises(ValueError, match="parts=None"):
        Semantic(CHANNELS)(Clues(a.features, GRID), b)


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_joins_a_clue_with_its_most_similar_ones_from_either_end(k):
    a, b = clues(1), clues(1)
    blocks = TopKSimilarity(CHANNELS, k)(a, b)
    for block, left, right in ((blocks.inter, a, b), (blocks.intra_a, a, a)):
        cosine = torch.nn.functional.cosine_similarity(left.features[0][:, None], right.features[0][None], dim=-1)
        if left is right:
            cosine.fill_diagonal_(-2)
        for i in range(N):
            for j in range(N):
                chosen = (cosine[i] > cosine[i, j]).sum() < k or (cosine[:, j] > cosine[i, j]).sum() < k
                assert block[0, i, j] == (chosen and cosine[i, j] > -2)


@pytest.mark.parametrize("arguments", [{"threshold": 0.0}, {"top_edges": N}, {"top_edges": 10 * N}])
@pytest.mark.parametrize("form", ["paper", "released"])
def test_neutral_cuts_change_nothing(form, arguments):
    whole, cut = CorrespondenceAttention(CHANNELS, form), CorrespondenceAttention(CHANNELS, form, **arguments)
    cut.load_state_dict(whole.state_dict())
    a, b = clues(2), clues(2)
    assert torch.equal(whole.double()(a, b).adjacency(), cut.double()(a, b).adjacency())


def test_cuts_lower_the_density():
    a, b = clues(2), clues(2)
    densities = [
        CorrespondenceAttention(CHANNELS, "paper", **cut).double()(a, b).density()
        for cut in ({}, {"threshold": 0.1}, {"top_edges": 1}, {"threshold": 1e9})
    ]
    within, between = zip(*densities, strict=True)
    assert between[0] > between[1] > 0 and between[0] > between[2] > 0 and between[3] == within[3] == 0
    blocks = CorrespondenceAttention(CHANNELS, "paper", threshold=0.1).double()(a, b)
    assert between[1] == int(blocks.inter.count_nonzero()) / blocks.inter.numel()


def test_wrong_arguments_are_refused():
    for arguments, words in (({"threshold": -1.0}, "got -1.0"), ({"top_edges": 0}, "top_edges of at least 1")):
        with pytest.raises(ValueError, match=words):
            CorrespondenceAttention(CHANNELS, **arguments)
    with pytest.raises(ValueError, match="graph.k of at least 1"):
        TopKSimilarity(CHANNELS, k=0)
    with pytest.raises(ValueError, match="stripes of at least 1"):
        Part(CHANNELS, stripes=0)
    with pytest.raises(ValueError, match="got 'cosine'"):
        CorrespondenceAttention(CHANNELS, form="cosine")
    for form, sharpness in (("released", 0.5), ("released", float("nan")), ("paper", 2.0)):
        with pytest.raises(ValueError, match="sharpness of at least 1, and 1 with form 'paper'"):
            CorrespondenceAttention(CHANNELS, form, sharpness=sharpness)
    with pytest.raises(ValueError, match="no width with form 'paper'"):
        CorrespondenceAttention(CHANNELS, form="paper", width=3)
    with pytest.raises(ValueError, match=r"n = 3·2 \(got \(1, 5, 4\)\)"):
        Clues(torch.zeros(1, 5, 4), GRID)
