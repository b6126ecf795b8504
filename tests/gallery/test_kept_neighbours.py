"""Neighbours that a gallery keeps rank as the batch form does, whatever was added, removed or killed before."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cace_pyg import Gallery
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbours import SecondStage, ask_pair_stage, find_neighbours
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph
from cace_pyg.retrieval.two_stage import top_k
from tests.random_checkpoint import make_checkpoint

NUMBERS = {"neighbours.candidates": 9, "k_reciprocal.k1": 6, "k_reciprocal.k2": 3, "evaluation.top_k": 12}


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", tiny, **NUMBERS)


@pytest.fixture
def gallery(model, tmp_path):
    return Gallery.create(tmp_path / "people.lance", model)


def set_of(gallery, picture):
    """A query and the gallery as the batch form takes them, and the gallery's names."""
    table, embedder = gallery._table.snapshot(), gallery.embedder
    rows, embedding = table.embeddings()
    query = embedder([picture])
    of_query = Extraction((), query.embedding, query.prepared)
    prepared = gallery._codec.decode(table.clues(rows), embedder.model)
    return [row["image"] for row in rows], of_query, Extraction((), embedding, prepared)


def batch_form(gallery, picture, first_stage):
    """Its distances by name: queries and gallery are one set, here of this query and the gallery."""
    names, of_query, of_gallery = set_of(gallery, picture)
    config, weight = gallery.embedder.config, gallery.embedder.fusion_weight
    listed = config.neighbours.candidates
    ask = partial(measure_lists, gallery.embedder.model.pair_stage, pairs_per_batch=None, device="cpu", progress=False)
    near = find_neighbours(of_query.embedding, of_gallery.embedding, None, listed)
    index = top_k(euclidean_distance(of_query.embedding, of_gallery.embedding), first_stage)
    second = SecondStage(index, ask(of_query, of_gallery, [*index]).view(index.shape))
    near = ask_pair_stage(near, of_query, of_gallery, second, listed, False, ask)
    return dict(zip(names, near.ranking(config.k_reciprocal, weight, weight).whole()[0].tolist(), strict=True))


def assert_as_batch(gallery, pictures):
    for picture in pictures:
        expected = batch_form(gallery, picture, len(gallery))
        found = gallery.search(picture, len(gallery), first_stage=len(gallery), neighbours=True)
        assert {hit.image: hit.neighbour_distance for hit in found} == pytest.approx(expected, abs=1e-5)
        assert [hit.rank for hit in found] == list(range(1, len(gallery) + 1))
        distances = [hit.neighbour_distance for hit in found]
        assert distances == sorted(distances)
        assert len(set(distances)) > len(gallery) / 2  # and not all 1
        plain = gallery.search(picture, len(gallery), first_stage=len(gallery))
        assert found.first_stage == tuple(
            replace(hit, rank=one.rank, neighbour_distance=one.neighbour_distance)
            for hit, one in zip(plain.first_stage, found.first_stage, strict=True)
        )


def test_a_query_is_ranked_as_the_batch_form_ranks_it_with_the_gallery(gallery, pictures, splits):
    gallery.add(pictures)
    assert gallery.keep_neighbours() == len(pictures) and gallery.keep_neighbours() == 0
    assert_as_batch(gallery, [one.path for one in splits.query[:4]])
