"""A search whose second stage follows the gallery's neighbours of what it finds."""

import json

import pytest
import torch

from cace_pyg import Features, FittedPairStage, Gallery, rerank_features
from cace_pyg.engine.candidates import nearest_in_gallery
from cace_pyg.retrieval import rank
from cace_pyg.search import main as search
from tests.random_checkpoint import make_checkpoint

LOOKED_AT, COUNT = 12, 3


@pytest.fixture(scope="module")
def gallery(tiny, pictures, splits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("followed")
    checkpoint = make_checkpoint(folder / "best.ckpt", tiny, **{"conditional.edges": "inter"})
    made = Gallery.create(folder / "people.lance", checkpoint, "float16")
    made.add(pictures, [f"c{sample.camid}" for sample in splits.gallery])
    return made


def ranked_as_features(gallery, query, pictures, labels=None, **options):
    """What :func:`rerank_features` makes of the same pictures; embeddings are rounded as the gallery keeps them."""
    embedder = gallery.embedder
    sides = [embedder.clues(side) for side in (query, pictures)]
    embeddings = sides[0].embedding, sides[1].embedding.half().float()
    features = [
        Features(embedding, side.clues.features, side.clues.grid)
        for embedding, side in zip(embeddings, sides, strict=True)
    ]
    stage = FittedPairStage(embedder.model.pair_stage, embedder.fusion_weight, sides[0].clues.features.size(2))
    return rerank_features(*features, stage, device="cpu", progress=False, gallery_tracks=labels, **options)


@pytest.mark.parametrize("count", [1, COUNT])
def test_a_search_ranks_as_rerank_features_does(gallery, splits, pictures, count):
    query = [sample.path for sample in splits.query[:8]]
    expected = ranked_as_features(gallery, query, pictures, top_k=LOOKED_AT, gallery_neighbours=count)
    found = gallery.search(query, len(pictures), first_stage=LOOKED_AT, gallery_neighbours=count)
    elsewhere = gallery.search(query, len(pictures), first_stage=LOOKED_AT)
    went_elsewhere = 0
    for row, result, without in zip(expected, found, elsewhere, strict=True):
        assert len(result) == len(pictures)
        by_path = {hit.path: hit.distance for hit in result}
        torch.testing.assert_close(torch.tensor([by_path[path] for path in pictures]).double(), row, rtol=0, atol=3e-3)
        looked_at = [{hit.path for hit in hits if hit.conditional is not None} for hits in (result, without)]
        assert len(looked_at[0]) == LOOKED_AT
        went_elsewhere += looked_at[0] != looked_at[1]
    assert went_elsewhere


def test_hits_say_where_the_first_stage_had_them(gallery, splits, pictures):
    query = splits.query[0].path
    found = gallery.search(query, 7, first_stage=LOOKED_AT, gallery_neighbours=COUNT)
    individual = {hit.path: hit for hit in gallery.search(query, len(pictures), first_stage=0)}
    for hit in (*found, *found.first_stage):
        assert hit.first_stage_rank == individual[hit.path].rank
        assert hit.individual == pytest.approx(individual[hit.path].individual, abs=1e-6)
    assert [hit.first_stage_rank for hit in found.first_stage] == [1, 2, 3, 4, 5, 6, 7]
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5, 6, 7]


def test_a_filter_leaves_its_own_neighbours(gallery, splits, pictures):
    left = [sample.path for sample in splits.gallery if sample.camid == splits.gallery[0].camid]
    query, options = [splits.query[0].path], {"gallery_neighbours": COUNT}
    expected = ranked_as_features(gallery, query, left, top_k=5, **options)[0]
    found = gallery.search(query[0], 1000, f"camera = 'c{splits.gallery[0].camid}'", 5, **options)
    assert [hit.path for hit in found] == [left[position] for position in rank(expected[None])[0].tolist()]


def test_who_looks_at_everybody_finds_what_is_found_without(gallery, splits, pictures):
    query = splits.query[1].path
    everybody = {"top_k": len(pictures), "first_stage": 1000}
    with_neighbours = gallery.search(query, **everybody, gallery_neighbours=COUNT)
    without = gallery.search(query, **everybody)
    assert [hit.path for hit in with_neighbours] == [hit.path for hit in without]
    assert [hit.distance for hit in with_neighbours] == pytest.approx([hit.distance for hit in without], abs=1e-5)


def test_several_pictures_of_a_person_and_tracks_are_followed(gallery, splits, pictures, tmp_path):
    made = Gallery.create(tmp_path / "tracks.lance", gallery.path / "model.ckpt", "float16")
    labels = [f"{number // 3}" for number in range(len(pictures))]
    made.add(pictures, ["c0"] * len(pictures), metadata=[{"track": label} for label in labels])
    expected = ranked_as_features(gallery, [splits.query[0].path], pictures, labels, top_k=5, gallery_neighbours=COUNT)[
        0
    ]
    found = made.search(splits.query[0].path, 1000, first_stage=5, gallery_neighbours=COUNT)
    at = {frozenset(str(path) for path in pictures[3 * track : 3 * track + 3]): track for track in range(len(expected))}
    assert [at[frozenset(hit.pictures)] for hit in found] == rank(expected[None])[0].tolist()
    together = made.search([sample.path for sample in splits.query[:3]], 5, together=True, gallery_neighbours=COUNT)
    assert len(together) == 5 and all(hit.conditional is not None for hit in together)


def test_the_nearest_of_one_entry_are_those_of_all(gallery):
    from cace_pyg.gallery.search_entries import _NearestEntries

    _, embedding = gallery._table.embeddings()
    follows, all_of_them = _NearestEntries(embedding, 4), nearest_in_gallery(embedding, 4)
    for position in range(len(embedding)):
        assert follows(position) == all_of_them[position].tolist()
    assert _NearestEntries(embedding[:1], 4)(0) == []


def test_what_does_not_go_together_is_refused(gallery, splits):
    query = splits.query[0].path
    with pytest.raises(ValueError, match=r"gallery_neighbours as a whole number of at least 0 \(got -1\)"):
        gallery.search(query, gallery_neighbours=-1)
    with pytest.raises(ValueError, match="gallery_neighbours or neighbours, not both"):
        gallery.search(query, neighbours=True, gallery_neighbours=3)
    with pytest.raises(ValueError, match="gallery_neighbours or false_alarms, not both"):
        gallery.search(query, false_alarms=0.01, gallery_neighbours=3)


def test_the_command_follows_them(gallery, splits, capsys):
    asked = str(splits.query[0].path), "--gallery", str(gallery.path), "--first_stage", str(LOOKED_AT)
    assert search(["query", *asked, "--gallery_neighbours", str(COUNT), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = gallery.search(splits.query[0].path, first_stage=LOOKED_AT, gallery_neighbours=COUNT)
    assert [hit["image"] for hit in found] == [hit.image for hit in expected]
    assert search(["query", *asked, "--gallery_neighbours", "-1"]) == 2
    assert "gallery_neighbours as a whole number of at least 0 (got -1)" in capsys.readouterr().err
