"""Neighbours that the pair stage decides: each pair asked once, and the ranking that a literal way gives."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cace_pyg.config import KReciprocalSettings, PropagationSettings, from_yaml
from cace_pyg.data import hold_out_identities
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import labels_of
from cace_pyg.engine.evaluation import evaluate_model, evaluate_two_stage
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.neighbour_rows import NeighbourChoice, choose_neighbours, neighbour_rows, search_choice
from cace_pyg.engine.neighbours import SecondStage, ask_pair_stage, find_neighbours
from cace_pyg.evaluate import main as evaluate
from cace_pyg.graph import Clues
from cace_pyg.models import PairOperand
from cace_pyg.retrieval import evaluate as evaluate_ranking
from cace_pyg.retrieval import evaluate_blocks
from tests.forkserver import on_ranks
from tests.random_checkpoint import make_checkpoint
from tests.retrieval.test_k_reciprocal import literal_of_squared

QUERIES, IMAGES = 6, 24


@pytest.fixture
def embeddings():
    draw = torch.Generator().manual_seed(3)
    centres = torch.randn(5, 4, generator=draw, dtype=torch.float64)
    images = centres[torch.randint(5, (IMAGES,), generator=draw)]
    images = images + 0.5 * torch.randn(IMAGES, 4, generator=draw, dtype=torch.float64)
    return torch.nn.functional.normalize(images, dim=1)


@pytest.fixture
def pair_distance():
    """Of any two images, symmetric."""
    drawn = torch.rand(IMAGES, IMAGES, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return (drawn + drawn.T).float()


class Asked:
    """Answers from the matrix of pair distances, and remembers what it was asked."""

    def __init__(self, pair_distance, places):
        self.pair_distance, self.places, self.pairs = pair_distance, places, []

    def __call__(self, first, other, lists):
        found = []
        for position, near in enumerate(lists):
            for image in near.tolist():
                a, b = self.places[id(first)][position], self.places[id(other)][image]
                self.pairs.append(frozenset((int(a), int(b))))
                found.append(self.pair_distance[a, b])
        return torch.stack(found)


def ask(embeddings, pair_distance, own=None, candidates=5, mutual=False, top_k=4):
    """The first images are the queries; those at ``own`` stand in the gallery, and so are not among the first."""
    if own is None:
        of_query, of_gallery = torch.arange(QUERIES), torch.arange(QUERIES, IMAGES)
        own_position = None
    else:
        of_query, of_gallery = torch.as_tensor(own), torch.arange(IMAGES)
        own_position = of_query
    query, gallery = (Extraction((), embeddings[places], None) for places in (of_query, of_gallery))
    asked = Asked(pair_distance, {id(query): of_query, id(gallery): of_gallery})
    individual = torch.cdist(query.embedding, gallery.embedding)
    if own is not None:
        individual[torch.arange(len(of_query)), of_query] = torch.inf
    index = individual.topk(top_k, largest=False).indices
    second = SecondStage(index, pair_distance[of_query[:, None], of_gallery[index]])
    near = find_neighbours(query.embedding, gallery.embedding, own_position, max(12, candidates))
    return ask_pair_stage(near, query, gallery, second, candidates, mutual, asked), asked, second


@pytest.mark.parametrize("own", [None, range(IMAGES), [3, 9, 20]])
@pytest.mark.parametrize("mutual", [False, True])
def test_each_pair_is_asked_once_and_none_that_is_known(embeddings, pair_distance, own, mutual):
    found, asked, second = ask(embeddings, pair_distance, own, mutual=mutual)
    near = found.graph.index[:, 1:6].tolist()
    wanted = {frozenset((a, b)) for a in range(IMAGES) for b in near[a] if not mutual or a in near[b]}
    queries = torch.arange(QUERIES) if own is None else torch.as_tensor(own)
    first = QUERIES if own is None else 0
    known = {frozenset((int(q), int(g) + first)) for q, row in zip(queries, second.index, strict=True) for g in row}
    assert len(asked.pairs) == len(set(asked.pairs)) and set(asked.pairs) == wanted - known
    for a in range(IMAGES):
        told = [float(pair_distance[a, b]) for b in near[a] if frozenset((a, b)) in wanted]
        mean = np.mean(told or [0])
        expected = [float(pair_distance[a, b]) if frozenset((a, b)) in wanted else mean for b in near[a]]
        assert found.conditional[a].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("mutual", [False, True])
def test_the_ranking_is_the_literal_one_on_lists_that_are_ranked_again(embeddings, pair_distance, mutual):
    """k-reciprocal of the authors' algorithm, given a matrix whose rows are ranked again on their own scale."""
    fusion, weight, settings = 0.4, 0.25, KReciprocalSettings(8, 3, 0.3)
    found, _, second = ask(embeddings, pair_distance, mutual=mutual)
    individual = torch.cdist(embeddings, embeddings).numpy()
    np.fill_diagonal(individual, 0)
    order = np.argsort(individual, axis=1, kind="stable")
    placed = individual.copy()
    for a in range(IMAGES):
        near = order[a, 1:6]
        asked = np.array([not mutual or a in order[b, 1:6] for b in near])
        pairs = pair_distance[a, near].double().numpy()
        pairs[~asked] = pairs[asked].mean() if asked.any() else 0
        fused = (1 - fusion) * individual[a, near] + fusion * pairs
        again = near[np.argsort(fused, kind="stable")]
        placed[a, again] = individual[a, near]
    original = individual[:QUERIES, QUERIES:].copy()
    for row in range(QUERIES):
        top = second.index[row].numpy()
        fused = (1 - weight) * original[row, top] + weight * second.conditional[row].numpy()
        original[row, top[np.argsort(fused, kind="stable")]] = np.sort(original[row, top])
    original = (original / individual[:QUERIES].max(1, keepdims=True)) ** 2
    expected = literal_of_squared(placed**2, QUERIES, 8, 3, 0.3, original)
    np.testing.assert_allclose(found.ranking(settings, fusion, weight).whole(), expected, rtol=1e-6)


def test_weight_zero_is_the_ranking_without_the_pair_stage(embeddings, pair_distance):
    found, _, _ = ask(embeddings, pair_distance)
    for settings in (KReciprocalSettings(8, 3), PropagationSettings(8, 3)):
        alone = find_neighbours(embeddings[:QUERIES], embeddings[QUERIES:], None, 8).ranking(settings)
        assert torch.equal(found.ranking(settings).whole(), alone.whole())
        assert not torch.equal(found.ranking(settings, 0.5, 0.5).whole(), alone.whole())


def test_the_search_takes_what_is_best_and_what_is_configured_where_nothing_is_better(embeddings, pair_distance):
    found, _, _ = ask(embeddings, pair_distance)
    pids = torch.arange(IMAGES) % 4
    labels = pids[:QUERIES], pids[QUERIES:], torch.zeros(QUERIES), torch.ones(IMAGES - QUERIES)
    measure = partial(
        evaluate_blocks,
        query_pids=labels[0],
        gallery_pids=labels[1],
        query_camids=labels[2],
        gallery_camids=labels[3],
    )
    configured = NeighbourChoice(KReciprocalSettings(8, 3), KReciprocalSettings(8, 3), 0.4)
    chosen, reached = search_choice(found, configured, 0.25, measure)
    before, after = (
        {row.name: row.metrics.mAP for row in neighbour_rows(found, choice, 0.25, measure)}
        for choice in (configured, chosen)
    )
    assert before.keys() == after.keys() == {"k_reciprocal", "two_stage_k_reciprocal"}
    assert all(after[name] >= before[name] for name in before) and after != before
    assert [*after.values()] == pytest.approx([reached["individual"], reached["two_stage"]])
    assert chosen.individual.k1 < IMAGES and chosen.two_stage.k1 < IMAGES
    perfect = replace(measure(iter([torch.ones(QUERIES, IMAGES - QUERIES)])), mAP=1.0)
    assert search_choice(found, configured, 0.25, lambda blocks: (list(blocks), perfect)[1])[0] == configured


NEAR = {
    "k_reciprocal.k1": 5,
    "k_reciprocal.k2": 2,
    "propagation.k1": 5,
    "propagation.k2": 2,
    "neighbours.candidates": 6,
}


def model_of(tiny, tmp_path, **options):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"data.workers": 0, **NEAR, **options})
    config = from_yaml(load_checkpoint(checkpoint)["config"])
    return load_model(checkpoint, config)[0].eval(), config, read_market_layout(tiny)


@pytest.mark.parametrize("compare", ["embeddings", "verification", "aligned_clues"])
@pytest.mark.parametrize("edges", ["inter", "all"])
def test_the_distance_of_a_pair_is_the_same_from_either_side(compare, edges, tiny, tmp_path):
    """So that each unordered pair is measured once."""
    model, _, _ = model_of(tiny, tmp_path, **{"conditional.compare": compare, "conditional.edges": edges})
    with torch.no_grad():
        a, b = (model.pair_stage.prepare(Clues(torch.randn(5, 18, 256), (6, 3))) for _ in range(2))
        forward, backward = model.pair_stage.distance(a, b), model.pair_stage.distance(b, a)
    assert forward.std() > 1e-4
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["k_reciprocal", "propagation"])
def test_rows_are_those_of_the_stages_own_distances(method, tiny, tmp_path):
    """Every pair measured for itself, from whole matrices."""
    model, config, splits = model_of(tiny, tmp_path, **{"neighbours.method": method})
    query, gallery = splits.query, splits.gallery
    found = evaluate_two_stage(model, query, gallery, config, 0.4, "cpu")
    names = [method, f"two_stage_{method}"]
    assert [row.name for row in found.neighbours] == names and list(found.stages())[2:] == names
    assert [row.name for row in evaluate_two_stage(model, query, gallery, config, 0.0, "cpu").neighbours] == [method]
    images = torch.cat([found.query.embedding, found.gallery.embedding])
    operand = PairOperand.concatenate([found.query.prepared, found.gallery.prepared])
    with torch.no_grad():
        every = torch.stack(
            [model.pair_stage.distance(operand.select(slice(i, i + 1)), operand) for i in range(len(images))]
        )
    settings = getattr(config, method)
    near = find_neighbours(found.query.embedding, found.gallery.embedding, None, 6)
    second = SecondStage(found.distances.index, found.distances.conditional)
    asked = replace(near, second_stage=second, conditional=every.gather(1, near.graph.index[:, 1:7]))
    expected = asked.ranking(settings, 0.4, 0.4).whole()
    torch.testing.assert_close(found.neighbours[1].ranking.whole(), expected, atol=1e-5, rtol=1e-5)
    metrics = evaluate_ranking(found.neighbours[1].ranking.whole(), **labels_of(query, gallery))
    assert found.neighbours[1].metrics.mAP == pytest.approx(metrics.mAP)
    assert "by both stages among the 6 nearest, fusion weight 0.4" in found.neighbours[1].metrics.policy


def test_the_rows_of_several_processes_are_those_of_one(tiny, tmp_path):
    options = {"data.workers": 0, "evaluation.batch_size": 4, **NEAR}
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **options)
    command = ["--checkpoint", str(checkpoint), "--conditional.backend=pooled", "--device=cpu", "--k_reciprocal"]
    command.append("--output")
    on_ranks(3, tmp_path, evaluate, [*command, str(tmp_path / "many.json")])
    assert evaluate([*command, str(tmp_path / "alone.json")]) == 0
    many, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("many", "alone"))
    assert many["two_stage_k_reciprocal"] == alone["two_stage_k_reciprocal"] != alone["k_reciprocal"]


def test_numbers_are_chosen_on_held_out_people_and_said(tiny, tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"data.workers": 0, **NEAR})
    command = ["--checkpoint", str(checkpoint), "--device=cpu", "--neighbours.method=k_reciprocal"]
    written = tmp_path / "metrics.json"
    assert evaluate([*command, "--neighbours.tune=true", "--output", str(written)]) == 0
    model, config, splits = model_of(tiny, tmp_path, **{"neighbours.method": "k_reciprocal"})
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    capsys.readouterr()
    choice = choose_neighbours(model, held_out.query, held_out.gallery, config, 0.5, "cpu")
    said = "".join(capsys.readouterr())
    found = evaluate_two_stage(model, held_out.query, held_out.gallery, config, 0.5, "cpu", choice=choice)
    for stage, row in zip(("individual", "two_stage"), found.neighbours, strict=True):
        gains = row.metrics.mAP > getattr(found, stage).mAP
        assert (f"do not help the {stage} ranking: {100 * row.metrics.mAP:.1f} mAP" in said) is not gains
    rows = json.loads(written.read_text())
    for name, of in (("k_reciprocal", choice.individual), ("two_stage_k_reciprocal", choice.two_stage)):
        said = f"k-reciprocal: k1 {of.k1}, k2 {of.k2}, original weight {of.original_weight:g};"
        assert rows[name]["policy"].startswith(said)
    assert f"fusion weight {choice.fusion:.2g}" in rows["two_stage_k_reciprocal"]["policy"]
    tuned = replace(config, neighbours=replace(config.neighbours, tune=True))
    again = evaluate_model(model, splits.query, splits.gallery, tuned, 0.5, held_out=held_out)
    assert again.neighbours[1].metrics.mAP == pytest.approx(rows["two_stage_k_reciprocal"]["mAP"])
    with pytest.raises(ValueError, match="there are none .data.hold_out 0.; leave it out, and give the settings"):
        evaluate_model(model, splits.query, splits.gallery, tuned, 0.5)


def test_wrong_options_are_refused_before_anything_is_computed(tiny, tmp_path, capsys):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"data.workers": 0})
    command = ["--checkpoint", str(checkpoint)]
    for options, words in (
        (["--k_reciprocal", "--neighbours.method=propagation"], "short for --neighbours.method k_reciprocal: give one"),
        (["--neighbours.method=propagation", "--propagation.k1=9999"], "Expected propagation.k1 below the number of"),
        (["--neighbours.method=propagate"], "neighbours.method"),
        (["--neighbours.tune=true"], "neighbours.method with neighbours.tune, which chooses its settings (got null)"),
        (["--propagation.k2=30"], "k2 of at most propagation.k1 (got k1 26, k2 30)"),
        (["--neighbours.candidates=0"], "neighbours.candidates"),
    ):
        assert evaluate([*command, *options]) == 2
        said = capsys.readouterr()
        assert words in said.err and "extract" not in said.err
