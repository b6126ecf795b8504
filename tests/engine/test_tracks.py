"""Tracks as entries of query and gallery: what both stages measure of them, beside loops over pictures."""

import math
from dataclasses import replace

import pytest
import torch

from cace_pyg import Features, fit_pair_stage, rerank_features
from cace_pyg.config import KReciprocalSettings, PairPhaseSettings
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead
from cace_pyg.retrieval import choose_views, euclidean_distance, merge_embeddings
from cace_pyg.retrieval.picture_sets import SOFTNESS


@pytest.fixture
def stage():
    settings = ConditionalSettings(node_wise="mlp", width=4, edges="inter", compare="verification")
    made = ConditionalEmbedding(6, CorrespondenceAttention(6, width=4, sharpness=16.0), EmbeddingHead(6, 8), settings)
    torch.nn.init.normal_(made.expansion.weight)
    return made.eval().double()


def entries(stage, views, pictures):
    prepared = stage.prepare(Clues(torch.rand(pictures, 6, 6, dtype=torch.float64), (3, 2)))
    count = pictures if views is None else len(views)
    return Extraction((), torch.rand(count, 8), prepared, views=views)


def literal(distances):
    """The soft minimum of the distances of all pairs of views."""
    return -SOFTNESS * math.log(sum(math.exp(-distance / SOFTNESS) for distance in distances) / len(distances))


FIRST, SECOND = torch.tensor([[0, 2], [1, -1]]), torch.tensor([[3, 0, 1], [2, -1, -1], [4, 5, -1]])


@pytest.mark.parametrize(("first", "second"), [(FIRST, SECOND), (FIRST, None), (None, SECOND)])
@torch.no_grad()
def test_tracks_are_as_far_apart_as_the_soft_minimum_over_their_views_says(stage, first, second):
    a, b = entries(stage, first, 3), entries(stage, second, 6)
    lists = [torch.tensor([2, 0]), torch.tensor([], dtype=torch.long), torch.tensor([1])][: len(a.embedding)]
    found = measure_lists(stage, a, b, lists, None, "cpu", progress=False)

    def views(images, entry):
        return [entry] if images.views is None else [view for view in images.views[entry].tolist() if view >= 0]

    expected = []
    for entry, near in enumerate(lists):
        for other in near.tolist():
            pairs = [
                float(stage.distance(a.prepared.select(slice(i, i + 1)), b.prepared.select(slice(j, j + 1))))
                for i in views(a, entry)
                for j in views(b, other)
            ]
            expected.append(literal(pairs))
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(1)
    pids = torch.arange(10).repeat_interleave(5)
    features = Features(torch.randn(50, 6), torch.randn(50, 4, 8), (2, 2))
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=2, anchors=6, confusions=3)
    return features, fit_pair_stage(features, pids, settings=settings, held_out=0.3, device="cpu")


def test_rerank_features_merges_tracks_and_looks_at_their_views(fitted):
    features, stage = fitted
    query, gallery = features.select(slice(0, 8)), features.select(slice(8, 50))
    of_query, of_gallery = list("aabbbacd"), [number // 3 for number in range(42)]
    found = rerank_features(
        query, gallery, stage, 14, 0.4, device="cpu", progress=False,
        query_tracks=of_query, gallery_tracks=of_gallery, views=2,
    )  # fmt: skip
    assert found.shape == (4, 14)

    def groups(labels):
        return [torch.tensor([i for i, label in enumerate(labels) if label == name]) for name in dict.fromkeys(labels)]

    for row, pictures in enumerate(groups(of_query)):
        for column, others in enumerate(groups(of_gallery)):
            a, b = query.embedding[pictures], gallery.embedding[others]
            individual = (merge_embeddings(a).double() - merge_embeddings(b).double()).norm()
            near, far = pictures[choose_views(a, 2)], others[choose_views(b, 2)]
            sides = query.select(near), gallery.select(far)
            alone = rerank_features(*sides, stage, 2, 1.0, device="cpu", progress=False)
            expected = 0.6 * individual + 0.4 * literal(alone.flatten().tolist())
            assert float(found[row, column]) == pytest.approx(float(expected), abs=1e-5)


def test_tracks_of_one_picture_change_nothing(fitted):
    features, stage = fitted
    query, gallery = features.select(slice(0, 8)), features.select(slice(8, 50))
    settings = {"device": "cpu", "progress": False, "candidates": 12}
    for neighbours in (None, KReciprocalSettings(k1=6, k2=2)):
        plain = rerank_features(query, gallery, stage, 14, 0.4, neighbours=neighbours, **settings)
        found = rerank_features(
            query, gallery, stage, 14, 0.4, neighbours=neighbours, **settings,
            query_tracks=range(8), gallery_tracks=range(42),
        )  # fmt: skip
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)


def test_neighbours_are_those_of_tracks(fitted):
    features, stage = fitted
    query, gallery = features.select(slice(0, 8)), features.select(slice(8, 50))
    found = rerank_features(
        query, gallery, stage, 14, 0.4, device="cpu", progress=False, neighbours=KReciprocalSettings(k1=6, k2=2),
        query_tracks=[0, 0, 1, 1, 2, 2, 3, 3], gallery_tracks=[number // 3 for number in range(42)],
    )  # fmt: skip
    assert found.shape == (4, 14) and ((found >= 0) & (found <= 1 + 1e-6)).all()


def test_without_weight_the_means_alone_decide(fitted):
    features, stage = fitted
    query, gallery = features.select(slice(0, 4)), features.select(slice(8, 20))
    found = rerank_features(query, gallery, stage, weight=0.0, query_tracks=[1, 1, 1, 1])
    expected = euclidean_distance(merge_embeddings(query.embedding)[None], gallery.embedding)
    torch.testing.assert_close(found, expected.double())


def test_labels_have_to_be_as_many_as_pictures(fitted):
    features, stage = fitted
    with pytest.raises(ValueError, match=r"a label for each \(got \(50, 6\) and 3 labels\)"):
        rerank_features(features, features, stage, weight=0.5, query_tracks=[1, 2, 3])


def test_one_view_of_a_track_stands_for_it_in_figures(stage):
    track = entries(stage, SECOND, 6)
    for entry, first in enumerate(SECOND[:, 0].tolist()):
        alone = replace(track, views=None).prepared_of(first)
        assert torch.equal(track.prepared_of(entry).projected, alone.projected)
