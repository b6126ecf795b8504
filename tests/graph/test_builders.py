"""The contract of every graph builder, from a list that cannot forget one."""

import inspect

import pytest
import torch

import cace_pyg.graph
from cace_pyg.graph import Clues, CorrespondenceAttention, GraphBuilder

GRID = (3, 2)
N, CHANNELS = 6, 32

VARIANTS = {"CorrespondenceAttention": [{"form": "paper"}, {"form": "released"}, {"form": "released", "width": 5}]}
BUILDERS = [
    (builder, arguments)
    for name, builder in vars(cace_pyg.graph).items()
    if inspect.isclass(builder) and issubclass(builder, GraphBuilder) and builder is not GraphBuilder
    for arguments in VARIANTS.get(name, [{}])
]


def clues(images: int) -> Clues:
    return Clues(torch.randn(images, N, CHANNELS, dtype=torch.float64), GRID)


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
    assert (adjacency >= 0).all() and adjacency.sum() > 0
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


def test_equivariant_under_a_permutation_of_the_pixels(builder):
    if builder.positional:
        pytest.skip("this builder looks at positions")
    a, b, order = clues(2), clues(2), torch.randperm(N)
    moved_a, moved_b = Clues(a.features[:, order], GRID), Clues(b.features[:, order], GRID)
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


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="got 'cosine'"):
        CorrespondenceAttention(CHANNELS, form="cosine")
    with pytest.raises(ValueError, match="no width with form 'paper'"):
        CorrespondenceAttention(CHANNELS, form="paper", width=3)
    with pytest.raises(ValueError, match=r"n = 3·2 \(got \(1, 5, 4\)\)"):
        Clues(torch.zeros(1, 5, 4), GRID)
