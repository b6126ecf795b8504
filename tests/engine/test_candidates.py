"""The second stage goes where what it finds leads."""

import functools

import pytest
import torch

from cace_pyg import Features, FittedPairStage, rerank_features
from cace_pyg.config import from_yaml
from cace_pyg.data import read_market_layout
from cace_pyg.data.validation import every_identity
from cace_pyg.engine.candidates import follow_neighbours, nearest_in_gallery
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.evaluation import evaluate_model
from cace_pyg.engine.held_out import calibrate_on, validate_pairs
from cace_pyg.graph import CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead
from cace_pyg.retrieval import euclidean_distance, top_k


def drawn(queries=5, gallery=60, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = (
        torch.nn.functional.normalize(torch.randn(count, channels, generator=generator).double(), dim=1)
        for count in (queries, gallery)
    )
    return *embeddings, torch.rand(queries, gallery, generator=generator)


def measure_from(conditional):
    return lambda lists: torch.cat([row[near] for row, near in zip(conditional, lists, strict=True)])


def step_by_step(individual, conditional, nearest, neighbours, weight, at_a_time):
    """One query, written out."""
    fused = (1 - weight) * individual + weight * conditional.double()
    looked = []
    while len(looked) < len(nearest):
        wanted = min(len(looked) + at_a_time, len(nearest))
        for found in sorted(list(looked), key=lambda position: float(fused[position])):
            for position in neighbours[found].tolist():
                if position not in looked and len(looked) < wanted:
                    looked.append(position)
        for position in nearest.tolist():
            if position not in looked and len(looked) < wanted:
                looked.append(position)
    return looked


@pytest.mark.parametrize(("wanted", "at_a_time"), [(1, 1), (9, 3), (25, 7), (60, 10), (150, 15)])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_it_is_the_search_written_out_step_by_step(wanted, at_a_time, count, weight):
    query, gallery, conditional = drawn(gallery=200)
    individual = euclidean_distance(query, gallery)
    nearest, neighbours = top_k(individual, wanted), nearest_in_gallery(gallery, count)
    index, found = follow_neighbours(query, gallery, nearest, neighbours, weight, measure_from(conditional))
    for row in range(len(query)):
        written_out = step_by_step(individual[row], conditional[row], nearest[row], neighbours, weight, at_a_time)
        assert index[row].tolist() == written_out
    assert torch.equal(found, conditional.gather(1, index))


def test_in_the_whole_gallery_nothing_is_left_out():
    query, gallery, conditional = drawn()
    nearest = top_k(euclidean_distance(query, gallery), 1000)
    index, _ = follow_neighbours(
        query, gallery, nearest, nearest_in_gallery(gallery, 5), 0.5, measure_from(conditional)
    )
    assert torch.equal(index.sort(1).values, torch.arange(len(gallery)).expand(len(query), -1))


def test_a_chain_of_pictures_is_followed_where_the_query_does_not_see_its_end():
    angle = torch.linspace(0, 1.5, 40).double()  # of one person, who turns; further on strangers stand between
    chain = torch.stack([angle.cos(), angle.sin(), torch.zeros(40)], 1)
    strangers = torch.tensor([[0.6, 0.0, 0.8]]).double().expand(40, -1) + 1e-3 * torch.randn(40, 3).double()
    gallery = torch.nn.functional.normalize(torch.cat([chain, strangers]), dim=1)
    query, is_stranger = gallery[:1], torch.arange(80) >= 40
    nearest = top_k(euclidean_distance(query, gallery), 40)
    assert is_stranger[nearest].sum() > 10
    conditional = is_stranger.float()[None]
    index, _ = follow_neighbours(
        query, gallery, nearest, nearest_in_gallery(gallery, 25), 0.9, measure_from(conditional)
    )
    assert is_stranger[index].sum() < is_stranger[nearest].sum() / 4


def test_the_picture_of_the_query_itself_is_not_gone_to():
    query, gallery, conditional = drawn(queries=3)
    query = gallery[:3]
    individual = euclidean_distance(query, gallery)
    individual[torch.arange(3), torch.arange(3)] = 3.0
    own = torch.tensor([0, -1, 2])
    nearest, neighbours = top_k(individual, 30), nearest_in_gallery(gallery, 6)
    index, _ = follow_neighbours(query, gallery, nearest, neighbours, 0.5, measure_from(conditional), own)
    found = (index == torch.arange(3)[:, None]).any(1)
    assert found.tolist() == [False, True, False]


def test_neighbours_are_the_nearest_without_the_picture_itself():
    _, gallery, _ = drawn()
    gallery = torch.cat([gallery, gallery[:2]])  # a copy is a neighbour, the picture itself is not
    distance = torch.cdist(gallery, gallery).fill_diagonal_(torch.inf)
    torch.testing.assert_close(distance.gather(1, nearest_in_gallery(gallery, 7)), distance.sort(1).values[:, :7])
    assert nearest_in_gallery(gallery, 1)[0].item() == 60 and nearest_in_gallery(gallery, 1)[61].item() == 1
    assert nearest_in_gallery(gallery, 1000).shape == (62, 61)
    assert nearest_in_gallery(gallery[:1], 5).shape == (1, 0)


def test_an_evaluation_that_looks_at_everybody_is_the_same_and_one_that_does_not_goes_elsewhere(trained, tiny):
    state = load_checkpoint(trained.best)
    splits, found = read_market_layout(tiny), {}
    for looked_at, count in ((1000, 0), (1000, 3), (5, 0), (5, 3)):
        options = f"--evaluation.top_k={looked_at}", f"--evaluation.gallery_neighbours={count}"
        config = from_yaml(state["config"], *options, "--evaluation.fusion=0.5")
        model, _ = load_model(trained.best, config)
        found[looked_at, count] = evaluate_model(model, splits.query, splits.gallery, config).distances
    everybody = found[1000, 0].two_stage(0.5)
    torch.testing.assert_close(found[1000, 3].two_stage(0.5), everybody, rtol=1e-5, atol=1e-5)
    assert not torch.equal(found[5, 3].index.sort(1).values, found[5, 0].index.sort(1).values)
    fused = everybody.gather(1, found[5, 3].index)
    torch.testing.assert_close(found[5, 3].fused(0.5), fused, rtol=1e-5, atol=1e-5)


def test_features_are_ranked_in_the_same_way():
    query, gallery, _ = drawn(4, 40, 16)
    features = [
        Features(
            embedding.float(),
            torch.rand(len(embedding), 8, 6, generator=torch.Generator().manual_seed(len(embedding))),
            (4, 2),
        )
        for embedding in (query, gallery)
    ]
    torch.manual_seed(0)
    stage = ConditionalEmbedding(
        6, CorrespondenceAttention(6, width=4), EmbeddingHead(6, 8, batch_norm=False), ConditionalSettings()
    ).eval()
    torch.nn.init.normal_(stage.expansion.weight)
    fitted = FittedPairStage(stage, 0.5, 6)
    ask = functools.partial(rerank_features, *features, fitted, device="cpu", progress=False)
    everybody = ask(top_k=40)
    torch.testing.assert_close(ask(top_k=40, gallery_neighbours=3), everybody)
    assert not torch.equal(ask(top_k=20, gallery_neighbours=3), ask(top_k=20))
    with pytest.raises(ValueError, match=r"gallery_neighbours as a whole number of at least 0 \(got -1\)"):
        ask(gallery_neighbours=-1)


def test_a_calibration_is_learned_from_the_pairs_that_a_search_looks_at(trained, tiny):
    state, splits, found = load_checkpoint(trained.best), read_market_layout(tiny), {}
    for count in (0, 3):
        options = "--evaluation.top_k=5", f"--evaluation.gallery_neighbours={count}", "--evaluation.fusion=0.5"
        config = from_yaml(state["config"], *options)
        model, _ = load_model(trained.best, config)
        of_train = every_identity(splits.train, 0)
        validated = validate_pairs(model, of_train.query, of_train.gallery, config, "cpu").calibration
        calibrated = calibrate_on(model, of_train.query, of_train.gallery, config, 0.5, "cpu")
        assert validated == calibrated
        found[count] = validated
    assert found[0].matches != found[3].matches
