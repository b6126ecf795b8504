"""Fewer clues of gallery pictures: what stands for a group is its mean, and a pair is what it is with all of them."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from cace_pyg.graph import Clues, CorrespondenceAttention, FullyConnected, TopKSimilarity
from cace_pyg.models import (
    ClueAlignment,
    ConditionalEmbedding,
    ConditionalSettings,
    EmbeddingHead,
    PairOperand,
    keep_clues,
)
from cace_pyg.nn import reference
from cace_pyg.nn.node_wise import NodeWiseForm

GRID, N, CHANNELS, WIDTH = (4, 3), 12, 10, 6


def drawn(images: int, grid: tuple[int, int] = GRID) -> Clues:
    return Clues(torch.randn(images, grid[0] * grid[1], CHANNELS, dtype=torch.float64), grid)


def make(builder=None, kind=ConditionalEmbedding, **settings):
    torch.manual_seed(1)
    settings = ConditionalSettings(**{"edges": "inter", "node_wise": "mlp", "width": WIDTH, **settings})
    builder = builder or CorrespondenceAttention(CHANNELS, width=4, sharpness=4.0)
    if kind is ClueAlignment:
        return kind(builder, settings).double().eval()
    made = kind(CHANNELS, builder, EmbeddingHead(CHANNELS, 5), settings).double().eval()
    torch.nn.init.normal_(made.expansion.weight)
    if made.verification is not None:
        torch.nn.init.normal_(made.verification.layers[-1].weight)
    return made


def written_out(x: torch.Tensor, count: int) -> list[list[int]]:
    """Farthest points among the clues of one image, (n, any), one after another, then a step of Lloyd; the groups."""
    points = [int((x - x.mean(0)).norm(dim=1).argmin())]
    while len(points) < count:
        points.append(int(torch.stack([(x - x[point]).norm(dim=1) for point in points]).amin(0).argmax()))
    nearest = torch.stack([(x - x[point]).norm(dim=1) for point in points]).argmin(0)
    means = torch.stack([x[nearest == number].mean(0) for number in range(count)])
    nearest = torch.stack([(x - mean).norm(dim=1) for mean in means]).argmin(0)
    return [(nearest == number).nonzero().flatten().tolist() for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_each_kept_clue_is_the_mean_of_those_that_are_nearest_to_a_farthest_point(count):
    stage, clues = make(), drawn(3)
    prepared = stage.prepare(clues)
    kept = keep_clues(prepared, count)
    assert kept.compared.features.shape == (3, count, 4) and kept.projected.shape == (3, count, WIDTH)
    assert torch.equal(kept.individual, prepared.individual)
    for image in range(3):
        for number, group in enumerate(written_out(prepared.compared.features[image], count)):
            assert (kept.merged.group[image] == number).nonzero().flatten().tolist() == group
            for found, whole in (
                (kept.compared.features, prepared.compared.features),
                (kept.projected, prepared.projected),
            ):
                torch.testing.assert_close(found[image, number], whole[image, group].mean(0))


def literal_distance(stage: ConditionalEmbedding, a: PairOperand, b: PairOperand) -> torch.Tensor:
    """Of one pair, by the equations on whole matrices; every clue of b is there, with what was kept for it."""
    inter = (a.compared.features[0] @ b.compared.features[0].T).relu() ** stage.builder.sharpness
    inter = inter * (inter > 1e-4)
    zero = torch.zeros(N, N, dtype=torch.float64)
    adjacency = torch.cat([torch.cat([zero, inter], 1), torch.cat([inter.T, zero], 1)])
    nodes = torch.cat([a.projected[0], b.projected[0]])
    moved = reference.propagation(adjacency, stage.settings.mode) @ nodes
    y = reference.node_wise(moved, stage.settings.node_wise, tuple(stage.node_wise.parameters()))
    pooled = y[:N].mean(0), y[N:].mean(0)
    if pooled[0].size(0) != 5:  # else the clues were projected to the embedding beforehand
        tail = stage.encoder.convolution.weight @ stage.expansion.weight
        moved_a, moved_b = (tail @ vector for vector in pooled)
    else:
        moved_a, moved_b = pooled
    embedded = [stage.encoder.batch_norm(x.individual + moved) for x, moved in ((a, moved_a), (b, moved_b))]
    unit = [torch.nn.functional.normalize(vectors[0], dim=0) for vectors in embedded]
    distance = (unit[0] - unit[1]).norm()
    return distance if stage.verification is None else distance + stage.verification(*(x[None] for x in pooled))[0]


@pytest.mark.parametrize("count", [1, 3, 7, N])
@pytest.mark.parametrize("compare", ["embeddings", "verification"])
@pytest.mark.parametrize("node_wise", get_args(NodeWiseForm))
def test_a_pair_with_fewer_clues_is_the_literal_pair_in_which_each_clue_is_replaced_by_the_mean_of_its_group(
    node_wise, compare, count
):
    stage = make(node_wise=node_wise, compare=compare)
    a, b = stage.prepare(drawn(1)), stage.prepare(drawn(4))
    replaced = b.projected.clone(), b.compared.features.clone()
    for image in range(4):
        for group in written_out(b.compared.features[image], count):
            for values in replaced:
                values[image, group] = values[image, group].mean(0)
    literal = replace(b, projected=replaced[0], compared=Clues(replaced[1], GRID))
    expected = torch.stack([literal_distance(stage, a, literal.select([image])) for image in range(4)])
    with torch.no_grad():
        assert stage.takes_merged
        torch.testing.assert_close(stage.distance(a, stage.keep_clues(b, count)), expected)
        several = a.select(torch.zeros(4, dtype=torch.long))
        torch.testing.assert_close(stage.distance(several, stage.keep_clues(b, count)), expected)


@pytest.mark.parametrize("mode", ["discrepancy", "smooth"])
def test_both_images_may_have_fewer_clues(mode):
    stage = make(mode=mode)
    a, b = (stage.keep_clues(stage.prepare(drawn(images)), 5) for images in (1, 4))
    torch.testing.assert_close(stage.distance(a, b), stage.distance(a.expanded(), b.expanded()))
    torch.testing.assert_close(stage.distance(b, a.select([0] * 4)), stage.distance(a, b))


OTHERS = {
    "edges within images": {"edges": "all"},
    "the released floor": {"degree_floor": "released"},
    "a backend on edges": {"backend": "message_passing"},
    "cut edges": {"builder": CorrespondenceAttention(CHANNELS, width=4, top_edges=3)},
    "the paper's form": {"builder": CorrespondenceAttention(CHANNELS, form="paper")},
    "top k": {"builder": TopKSimilarity(CHANNELS, k=2)},
    "aligned clues": {"kind": ClueAlignment},
}


@pytest.mark.parametrize("other", OTHERS)
def test_every_stage_ranks_by_what_was_kept(other):
    stage = make(**OTHERS[other])
    a, b = stage.prepare(drawn(1)), stage.prepare(drawn(4))
    kept = keep_clues(b, 5).expanded()
    literal = stage.restore(kept.compared, kept.projected, kept.individual)
    with torch.no_grad():
        found = stage.distance(a, stage.keep_clues(b, 5))
        torch.testing.assert_close(found, stage.distance(a, literal))
        assert not torch.allclose(found, stage.distance(a, b))


def test_all_clues_are_the_prepared_ones_themselves():
    stage = make()
    prepared = stage.prepare(drawn(2))
    assert stage.keep_clues(prepared, N) is prepared


def test_equal_clues_are_one_group_and_nothing_is_lost():
    stage = make()
    few = torch.randn(2, 3, CHANNELS, dtype=torch.float64)
    order = torch.arange(N) % 3
    a, b = stage.prepare(drawn(1)), stage.prepare(Clues(few[:, order], GRID))
    for count in (3, 8):  # of eight points five have no clue of their own
        torch.testing.assert_close(stage.distance(a, stage.keep_clues(b, count)), stage.distance(a, b))


def test_gradients_are_those_of_the_expanded_clues():
    stage, a, b = make(), drawn(1).features.requires_grad_(), drawn(3).features.requires_grad_()
    found = []
    for expand in (False, True):
        prepared = [stage.prepare(Clues(features, GRID)) for features in (a, b)]
        kept = stage.keep_clues(prepared[1], 5)
        distance = stage.distance(prepared[0], kept.expanded() if expand else kept)
        wanted = [a, b, *stage.convolution.parameters(), *stage.builder.parameters(), *stage.node_wise.parameters()]
        found.append(torch.autograd.grad(distance.square().sum(), wanted))
    for merged, expanded in zip(*found, strict=True):
        torch.testing.assert_close(merged, expanded)


def test_images_are_chosen_moved_and_joined_with_their_groups():
    stage = make()
    kept = stage.keep_clues(stage.prepare(drawn(5)), 4)
    again = PairOperand.concatenate([kept.select(slice(2)), kept.select(torch.tensor([2, 3, 4])).to("cpu")])
    assert torch.equal(again.merged.group, kept.merged.group) and again.merged.grid == GRID
    torch.testing.assert_close(again.expanded().projected, kept.expanded().projected)
    large = stage.prepare(drawn(1, (20, 16)))
    many = stage.keep_clues(large, 300)
    torch.testing.assert_close(many.expanded().projected[0, 100], many.projected[0, int(many.merged.group[0, 100])])


def test_what_is_seen_in_a_pair_is_seen_in_every_clue():
    stage = make()
    a, b = stage.prepare(drawn(1)), stage.keep_clues(stage.prepare(drawn(1)), 5)
    blocks = stage.blocks(a, b)
    assert blocks.inter.shape == (1, N, N) and stage.discrepancy(a, b).shape == (1, 2, N)
    torch.testing.assert_close(stage.distance_of(blocks, a, b), stage.distance(a, b))


def test_bad_numbers_of_clues_are_refused():
    stage = make()
    prepared = stage.prepare(drawn(2))
    for count in (0, N + 1, 2.5, True):
        with pytest.raises(ValueError, match=rf"from 1 to 12, the clues of a picture \(got {count}\); leave it out"):
            stage.keep_clues(prepared, count)
    with pytest.raises(ValueError, match="not merged yet"):
        stage.keep_clues(stage.keep_clues(prepared, 5), 3)
    stage = make(FullyConnected(CHANNELS))
    with pytest.raises(ValueError, match=r"a graph that compares clues .* \(got FullyConnected"):
        stage.keep_clues(stage.prepare(drawn(2)), 5)
