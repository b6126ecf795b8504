"""One set of pictures as query and gallery: the same as a gallery without the query, query by query."""

import numpy as np
import pytest
import torch

from cace_pyg.retrieval import (
    choose_fusion_weight,
    euclidean_distance,
    evaluate,
    evaluate_single_shot,
    k_reciprocal_distance,
    top_k,
)

IMAGES = 24


@pytest.fixture(params=range(4))
def seeded(request):
    """Embeddings, pids with junk and distractors in the gallery alone, and camids; some distances are level."""
    rng = np.random.default_rng(request.param)
    pids = np.r_[rng.integers(1, 6, IMAGES - 4), 0, 0, -1, -1]
    camids = rng.integers(0, 3, IMAGES)
    embeddings = torch.nn.functional.normalize(torch.from_numpy(rng.integers(-2, 3, (IMAGES, 5)) + 0.1), dim=1)
    return embeddings, pids, camids


def without(row, values):
    return np.delete(values, row, axis=-1)


def brute_force(distance, queries, pids, camids, **options):
    """Average precision by query, each against the gallery without itself."""
    found = {}
    for row in queries:
        labels = pids[row : row + 1], without(row, pids), camids[row : row + 1], without(row, camids)
        try:
            found[row] = evaluate(without(row, distance[row : row + 1]), *labels, **options)
        except ValueError as error:
            assert "no query has a match" in str(error)
    return found


@pytest.mark.parametrize("same_camera", ["remove", "keep"])
def test_metrics_are_those_of_a_gallery_without_the_query(seeded, same_camera):
    embeddings, pids, camids = seeded
    queries = np.flatnonzero(pids > 0)
    distance = euclidean_distance(embeddings, embeddings).numpy()
    expected = brute_force(distance, queries, pids, camids, same_camera=same_camera)
    labels = pids[queries], pids, camids[queries], camids
    found = evaluate(distance[queries], *labels, same_camera=same_camera, own_position=queries)
    assert found.query_index.tolist() == [list(queries).index(row) for row in expected]
    assert found.mAP == pytest.approx(np.mean([metrics.mAP for metrics in expected.values()]))
    assert found.mINP == pytest.approx(np.mean([metrics.mINP for metrics in expected.values()]))
    assert found.cmc == pytest.approx(np.mean([metrics.cmc for metrics in expected.values()], axis=0))
    assert found.left_out_absent + found.left_out_same_camera == len(queries) - len(expected)
    assert f"the query itself: left out of the gallery ({len(queries)} times)" in found.policy


def test_a_picture_is_never_its_own_match():
    """Two people with two pictures each, all of one camera, each nearest to the other person's."""
    pids, camids = [1, 1, 2, 2], [1, 1, 1, 1]
    places = np.array([0.0, 2.0, 0.5, 2.5])
    distance = np.abs(places[:, None] - places)
    alone = evaluate(distance, pids, pids, camids, camids, same_camera="keep")
    assert alone.rank1 == 1  # each finds itself
    left_out = evaluate(distance, pids, pids, camids, camids, same_camera="keep", own_position=range(4))
    assert left_out.rank1 == 0 and left_out.mAP == pytest.approx(np.mean([1 / 2, 1 / 3, 1 / 3, 1 / 2]))
    with pytest.raises(ValueError, match=r"a position from 0 to 3, or -1, for each of 4 queries"):
        evaluate(distance, pids, pids, camids, camids, own_position=[0, 1, 2, 4])
    once = evaluate(distance[:2], [1, 3], pids, [1, 1], camids, same_camera="keep", own_position=[0, -1])
    assert (once.left_out_absent, once.num_queries) == (1, 1)
    with pytest.raises(ValueError, match="2 whose identity is absent"):
        evaluate(np.ones((2, 2)), [1, 2], [1, 2], [1, 1], [1, 1], same_camera="keep", own_position=[0, 1])


def test_k_reciprocal_neighbours_are_those_of_a_gallery_without_the_query(seeded):
    _, pids, _ = seeded
    embeddings = torch.from_numpy(np.random.default_rng(pids.sum()).normal(size=(IMAGES, 5)))  # no ties
    original = euclidean_distance(embeddings, embeddings) + 3
    queries = torch.tensor([0, 5, 23])
    for given in (None, original):
        found = k_reciprocal_distance(
            embeddings[queries], embeddings, 6, 3, 0.3, None if given is None else given[queries], own_position=queries
        )
        for row, query in enumerate(queries.tolist()):
            others = [i for i in range(IMAGES) if i != query]
            direct = None if given is None else given[query : query + 1, others]
            expected = k_reciprocal_distance(embeddings[query : query + 1], embeddings[others], 6, 3, 0.3, direct)
            torch.testing.assert_close(found[row, others], expected[0])


def test_k_reciprocal_with_some_queries_in_the_gallery_and_some_not(seeded):
    embeddings = torch.from_numpy(np.random.default_rng(1).normal(size=(IMAGES, 5)))
    gallery = embeddings[4:]
    plain = k_reciprocal_distance(embeddings[:4], gallery, 6, 3)
    mixed = k_reciprocal_distance(
        torch.cat([gallery[:1], embeddings[:4]]), gallery, 6, 3, own_position=[0, -1, -1, -1, -1]
    )
    torch.testing.assert_close(mixed[1:], plain)


def test_a_fusion_weight_and_single_shot_leave_the_query_out(seeded):
    embeddings, pids, camids = seeded
    queries = np.flatnonzero(pids > 0)
    labels = pids[queries], pids, camids[queries], camids
    distance = euclidean_distance(embeddings, embeddings)[queries]
    index = top_k(distance, 5)
    conditional = torch.rand(index.shape, generator=torch.Generator().manual_seed(0))
    options = {"same_camera": "keep", "own_position": torch.from_numpy(queries)}
    choice = choose_fusion_weight(distance, index, conditional, *labels, weights=(0.0,), **options)
    assert choice.curve[0][1] == pytest.approx(evaluate(distance, *labels, **options).mAP)
    own_camera = np.arange(IMAGES)  # nothing is removed for its camera but the query itself, which it is anyway
    everywhere = pids[queries], pids, own_camera[queries], own_camera
    assert (
        evaluate_single_shot(distance, *everywhere, repeats=5).cmc
        == evaluate_single_shot(distance, *everywhere, repeats=5, own_position=queries).cmc
    ).all()
    strange = pids[queries], pids, own_camera[queries] + 99, own_camera
    assert (
        evaluate_single_shot(distance, *everywhere, repeats=5).cmc
        == evaluate_single_shot(distance, *strange, repeats=5, own_position=queries).cmc
    ).all()
