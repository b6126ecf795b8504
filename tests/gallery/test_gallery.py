"""A gallery finds what evaluation finds, lasts, and refuses what it must."""

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cace_pyg import Gallery
from cace_pyg.engine.distances import measure
from cace_pyg.gallery import Embedder, gallery_table
from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.graph import pair_to_data
from tests.random_checkpoint import make_checkpoint


@pytest.fixture
def gallery(checkpoint, pictures, splits, tmp_path):
    made = Gallery.create(tmp_path / "people.lance", checkpoint)
    cameras = [f"c{sample.camid}" for sample in splits.gallery]
    made.add(pictures, cameras, metadata=[{"pid": sample.pid} for sample in splits.gallery])
    return made


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 5e-3), ("int8", 5e-2)])
def test_both_stages_are_those_of_evaluation(checkpoint, splits, pictures, tmp_path, precision, tolerance):
    torch.set_num_threads(1)
    made = Gallery.create(tmp_path / "people.lance", checkpoint, precision)
    made.add(pictures)
    embedder = made.embedder
    *_, distances = measure(embedder.model, splits.query, splits.gallery, embedder.config, embedder.device)
    two_stage = distances.two_stage(0.5)
    found = made.search([sample.path for sample in splits.query], top_k=len(pictures))
    for query, result in enumerate(found):
        assert len(result) == len(pictures) and [hit.rank for hit in result] == list(range(1, len(pictures) + 1))
        looked_at = {int(position) for position in distances.index[query]}
        for hit in result:
            position = pictures.index(hit.path)
            assert hit.individual == pytest.approx(float(distances.individual()[query, position]), abs=5e-3)
            if hit.conditional is None:
                continue
            if position in looked_at:  # half precision may change who is last of the first stage
                wanted = float(two_stage[query, position])
                assert hit.distance == pytest.approx(wanted, abs=tolerance)
                assert hit.distance == pytest.approx(0.5 * hit.individual + 0.5 * hit.conditional)
        assert sum(hit.conditional is not None for hit in result) == 10
        assert [hit.distance for hit in result] == sorted(hit.distance for hit in result)
        assert [hit.first_stage_rank for hit in result.first_stage] == list(range(1, len(pictures) + 1))
        assert [hit.individual for hit in result.first_stage] == sorted(hit.individual for hit in result.first_stage)


@pytest.mark.parametrize("edges", ["all", "inter"])
def test_a_gallery_with_fewer_clues_ranks_as_an_evaluation_with_as_many(edges, tiny, splits, pictures, tmp_path):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"conditional.edges": edges})
    made = Gallery.create(tmp_path / "people.lance", checkpoint, "float16", gallery_clues=5)
    made.add(pictures)
    again = Gallery.open(tmp_path / "people.lance")
    assert again.stats()["gallery_clues"] == 5
    embedder, top_k = again.embedder, len(pictures)
    evaluation = replace(embedder.config.evaluation, gallery_clues=5, top_k=top_k)
    config = replace(embedder.config, evaluation=evaluation)
    *_, distances = measure(embedder.model, splits.query[:3], splits.gallery, config, "cpu")
    two_stage = distances.two_stage(0.5)
    for query, result in enumerate(
        again.search([sample.path for sample in splits.query[:3]], top_k, first_stage=top_k)
    ):
        for hit in result:
            expected = float(two_stage[query, pictures.index(hit.path)])
            assert hit.distance == pytest.approx(expected, abs=5e-3)
    view = again.explain(pictures[0], again.search(pictures[0])[0]).view
    assert view.discrepancy_b.shape == embedder.example.prepared.compared.grid


def test_a_model_that_was_trained_with_fewer_clues_makes_a_gallery_that_keeps_as_many(tiny, tmp_path, checkpoint):
    fewer = make_checkpoint(tmp_path / "fewer.ckpt", tiny, **{"evaluation.gallery_clues": 4})
    assert Gallery.create(tmp_path / "a.lance", fewer).stats()["gallery_clues"] == 4
    assert Gallery.create(tmp_path / "b.lance", fewer, gallery_clues=6).stats()["gallery_clues"] == 6
    assert Gallery.create(tmp_path / "c.lance", checkpoint).stats()["gallery_clues"] is None
    kept = {name: Embedder(tmp_path / f"{name}.lance" / "model.ckpt").config.evaluation.gallery_clues for name in "abc"}
    assert kept == {"a": 4, "b": 6, "c": None}  # python -m cace_pyg.calibrate compares as many


@pytest.mark.parametrize("asked", [0, 73, 2.5, "24", True])
def test_numbers_of_clues_that_cannot_be_kept(asked, checkpoint, tmp_path):
    told = rf"gallery_clues as a whole number from 1 to \d+, the clues of a picture \(got {asked!r}\); leave it out"
    with pytest.raises(ValueError, match=told):
        Gallery.create(tmp_path / "d.lance", checkpoint, gallery_clues=asked)
    assert not (tmp_path / "d.lance").exists()


@pytest.mark.parametrize("asked", ["int2", "INT4", 4])
def test_unknown_precisions(asked, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=f"Expected a precision of int8, float16, int4 .got {asked!r}"):
        Gallery.create(tmp_path / "d.lance", checkpoint, asked)
    assert not (tmp_path / "d.lance").exists()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"top_k": 0}, "Expected top_k as a whole number of at least 1 .got 0"),
        ({"top_k": 2.5}, "Expected top_k as a whole number of at least 1 .got 2.5"),
        ({"first_stage": -1}, "Expected first_stage as a whole number of at least 0 .got -1"),
        ({"gallery_neighbours": 1.5}, "Expected gallery_neighbours as a whole number of at least 0 .got 1.5"),
        ({"gallery_neighbours": 3, "first_stage": 0}, "Expected first_stage above 0 with gallery_neighbours 3"),
        ({"where": 3}, "Expected where as SQL in a text, such as \"camera = '3'\" .got 3"),
    ],
)
def test_what_a_search_cannot_be_asked(asked, told, gallery, splits):
    with pytest.raises(ValueError, match=told):
        gallery.search(splits.query[0].path, **asked)


def test_top_k_and_first_stage(gallery, splits):
    query = splits.query[0].path
    assert len(gallery.search(query)) == 10
    only_first = gallery.search(query, top_k=3, first_stage=0)
    assert [hit.conditional for hit in only_first] == [None] * 3
    assert [hit.image for hit in only_first] == [hit.image for hit in only_first.first_stage]
    few = gallery.search(query, top_k=5, first_stage=2)
    assert [hit.conditional is None for hit in few] == [False, False, True, True, True]
    with pytest.raises(ValueError, match=r"top_k as a whole number of at least 1 \(got 0\)"):
        gallery.search(query, top_k=0)


def test_any_form_of_a_picture(gallery, splits):
    path = splits.query[0].path
    picture = Image.open(path).convert("RGB")
    forms = [path, str(path), path.read_bytes(), picture, np.asarray(picture), np.asarray(picture) / 255]
    found = [[hit.image for hit in result] for result in gallery.search(forms)]
    assert all(result == found[0] for result in found)
    with pytest.raises(ValueError, match=r"a float picture from 0 to 1 .*"):
        gallery.search(np.full((4, 4, 3), 255.0))
    with pytest.raises(FileNotFoundError, match="no picture at nowhere.jpg"):
        gallery.search("nowhere.jpg")
    with pytest.raises(ValueError, match="cannot read the picture from bytes"):
        gallery.search(b"no picture")


def test_adding_twice_is_harmless_and_a_changed_file_is_replaced(gallery, pictures, tmp_path):
    before = len(gallery)
    again = gallery.add(pictures)
    assert (again.added, again.replaced, again.known) == (0, 0, len(pictures)) and len(gallery) == before
    twice = gallery.add([pictures[0], pictures[0]])
    assert (twice.added, twice.known) == (0, 2)
    roundabout = pictures[0].parent / ".." / pictures[0].parent.name / pictures[0].name
    assert gallery.add([roundabout]).known == 1 and roundabout in gallery

    mine = tmp_path / "mine.jpg"
    shutil.copy(pictures[0], mine)
    assert gallery.add([mine, mine]).added == 1
    shutil.copy(pictures[1], mine)
    changed = gallery.add([mine])
    assert (changed.added, changed.replaced, len(gallery)) == (0, 1, before + 1)
    hit = gallery.search(pictures[1], top_k=2)
    assert {str(picture.path) for picture in hit} == {str(mine), str(pictures[1])}  # found as what it shows now


def test_what_is_told_of_a_picture_is_kept_updated_and_filtered_by(gallery, pictures, splits):
    first = splits.gallery[0]
    taken = datetime(2026, 1, 31, 12, 30)
    updated = gallery.add([first.path], ["c9"], [taken], [{"floor": "upstairs", "pid": 77}])
    assert (updated.added, updated.replaced) == (0, 1)
    (hit,) = gallery.search(first.path, where="camera = 'c9'")
    assert (hit.camera, hit.time, hit.metadata) == ("c9", taken, {"pid": 77, "floor": "upstairs"})
    assert gallery.add([first.path]).known == 1  # nothing is told: nothing changes
    assert gallery.search(first.path, where="floor = 'upstairs' and time < timestamp '2026-02-01 00:00:00'")[0] == hit
    others = gallery.search(first.path, top_k=len(pictures), where="camera = 'c2'")
    assert len(others) == sum(sample.camid == 2 for sample in splits.gallery[1:])
    assert all(hit.camera == "c2" for hit in others)
    assert len(gallery.search(first.path, where="camera = 'nobody'")) == 0
    with pytest.raises(
        ValueError, match=r"cannot filter by 'cam = 1'.*No field named cam.*columns: image, .*pid, floor"
    ):
        gallery.search(first.path, where="cam = 1")
    with pytest.raises(ValueError, match="a value does not fit its column.*pid int64"):
        gallery.add([first.path], metadata=[{"pid": "a word"}])
    with pytest.raises(ValueError, match=r"metadata column as lower-case letters.*got 'added'"):
        gallery.add([first.path], metadata=[{"added": 1}])
    with pytest.raises(ValueError, match=r"camera for each of 1 pictures \(got 2\)"):
        gallery.add([first.path], ["a", "b"])


def test_unreadable_pictures_are_named_and_the_others_added(gallery, pictures, tmp_path):
    broken, text = tmp_path / "broken.jpg", tmp_path / "text.png"
    broken.write_bytes(pictures[0].read_bytes()[:300])
    text.write_text("no picture")
    good = tmp_path / "good.jpg"
    shutil.copy(pictures[0], good)
    found = gallery.add([broken, good, text, tmp_path / "gone.jpg"])
    assert found.added == 1
    assert [Path(name).name for name, _ in found.unreadable] == ["broken.jpg", "text.png", "gone.jpg"]
    assert "no picture at" in found.unreadable[2][1] and "3" in str(found).splitlines()[1]


def test_remove(gallery, pictures):
    before = len(gallery)
    assert gallery.remove([pictures[0], "nobody.jpg"]) == 1
    assert gallery.remove(where="pid = 0") == 3 and len(gallery) == before - 4
    assert str(pictures[0]) not in [hit.image for hit in gallery.search(pictures[0], top_k=100)]
    assert pictures[0] not in gallery and str(pictures[-1]) in gallery
    hostile = "it's; drop table images --.jpg"
    assert gallery.remove([hostile]) == 0 and len(gallery) == before - 4


@pytest.mark.parametrize("indexed", [False, True])
def test_what_is_erased_is_on_disk_no_more(gallery, pictures, indexed, monkeypatch):
    if indexed:
        monkeypatch.setattr(gallery_table, "_INDEX_FROM", 10)
        gallery.optimize()
    secret, kept = (gallery.thumbnail(str(picture)) for picture in pictures[:2])

    def files_with(content):
        return [path for path in gallery.path.rglob("*") if path.is_file() and content in path.read_bytes()]

    assert files_with(secret) and files_with(kept)
    expected = gallery.search(pictures[1], top_k=5, where=f"image != '{pictures[0]}'")
    gallery.remove([pictures[0]])
    gallery.optimize()
    assert files_with(secret)  # else the test would show nothing
    gallery.optimize(erase=True)
    assert not files_with(secret) and files_with(kept) and len(gallery) == len(pictures) - 1
    found = Gallery.open(gallery.path).search(pictures[1], top_k=5)
    assert [(hit.image, hit.distance) for hit in found] == [(hit.image, hit.distance) for hit in expected]
    assert (gallery.stats()["not_indexed"] == 0) == indexed


@pytest.mark.parametrize("channels", [16, 20])  # 20: no multiple of 8, which another index is for
def test_an_index_finds_what_the_exhaustive_search_finds(channels, pictures, tiny, tmp_path, monkeypatch):
    model = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"embedding.channels": channels})
    gallery = Gallery.create(tmp_path / "people.lance", model)
    gallery.add(pictures)
    expected = [gallery.search(picture, top_k=5) for picture in pictures[:5]]
    monkeypatch.setattr(gallery_table, "_INDEX_FROM", 10)
    gallery.optimize()
    assert gallery.stats()["not_indexed"] == 0
    for picture, exact in zip(pictures, expected, strict=False):
        found = gallery.search(picture, top_k=5)
        assert [(hit.image, hit.distance) for hit in found] == [(hit.image, hit.distance) for hit in exact]


def test_pictures_without_a_file(gallery, pictures):
    picture = Image.open(pictures[0]).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    before = len(gallery)
    assert gallery.add([picture]).added == 1 and gallery.add([np.asarray(picture)]).known == 1
    hit = gallery.search(picture, top_k=1)[0]
    assert hit.image.startswith("sha256:") and hit.path is None and len(gallery) == before + 1
    assert gallery.missing() == []
    assert gallery.remove([hit.image]) == 1


def test_a_gallery_is_opened_again_with_its_own_model_and_refuses_another(
    gallery, checkpoint, pictures, tiny, tmp_path
):
    opened = Gallery.open(gallery.path)
    expected = gallery.search(pictures[0])
    assert [(hit.image, hit.distance) for hit in opened.search(pictures[0])] == [
        (hit.image, hit.distance) for hit in expected
    ]
    Gallery.open(gallery.path, checkpoint)  # the same model
    other = make_checkpoint(tmp_path / "other.ckpt", tiny, seed=1)
    fingerprints = [Embedder(path).fingerprint for path in (checkpoint, other)]
    with pytest.raises(
        ValueError, match=f"made by model {fingerprints[0]}, but .*other.ckpt is model {fingerprints[1]}"
    ):
        Gallery.open(gallery.path, other)
    shutil.copy(other, gallery.path / "model.ckpt")
    with pytest.raises(ValueError, match=r"model.ckpt is model"):
        Gallery.open(gallery.path)
    with pytest.raises(FileExistsError, match="there is a gallery at"):
        Gallery.create(gallery.path, checkpoint)
    with pytest.raises(FileNotFoundError, match="no gallery at .*search index FOLDER"):
        Gallery.open(tmp_path / "nowhere")


def test_the_fusion_weight_can_be_chosen(gallery, pictures):
    paper = Gallery.open(gallery.path, overrides=["--evaluation.fusion=paper"]).search(pictures[0])
    assert all(hit.distance == pytest.approx(hit.conditional) for hit in paper)
    none = Gallery.open(gallery.path, overrides=["--evaluation.fusion=0"]).search(pictures[0])
    assert [hit.first_stage_rank for hit in none] == list(range(1, 11))


def test_an_answer_is_explained_by_the_graph_that_was_compared(gallery, splits, pictures):
    query = splits.query[0].path
    hit = gallery.search(query)[1]
    explanation = gallery.explain(query, hit)
    n = explanation.view.grid[0] * explanation.view.grid[1]
    assert explanation.data.num_nodes == len(explanation.networkx()) == 2 * n
    a, b = gallery.embedder([query]).prepared, gallery.embedder([hit.path]).prepared
    model = gallery.embedder.model
    with torch.no_grad():
        exact = pair_to_data(model.pair_stage.blocks(a, b), a.projected, b.projected, explanation.view.grid)
    assert explanation.data.edge_weight.sum() == pytest.approx(float(exact.edge_weight.sum()), rel=0.05)
    assert len(explanation.figure(strongest=3).axes) == 4  # two maps, the pair, the colour bar
    before = gallery.embedder.clues([query]).clues.features.norm(dim=-1)[0]
    drawn = [axes.images[-1].get_array().ravel() for axes in explanation.conditional_maps().axes if axes.images[1:]]
    assert len(drawn) == 4 and np.allclose(drawn[0], before, atol=1e-5)
    with pytest.raises(ValueError, match="Expected a hit, such as gallery.search"):
        gallery.explain(query, pictures[0])
    gallery.remove([hit.image])
    with pytest.raises(ValueError, match="is not in the gallery .* any more; search again"):
        gallery.explain(query, hit)


def test_the_thumbnail_stands_in_for_a_file_that_is_gone(gallery, pictures, tmp_path):
    mine = tmp_path / "mine.jpg"
    shutil.copy(pictures[0], mine)
    gallery.add([mine])
    mine.unlink()
    assert gallery.missing() == [str(mine)]
    hit = next(hit for hit in gallery.search(pictures[0], top_k=2) if hit.path == mine)
    shown = gallery.explain(pictures[0], hit).pictures[1]
    assert np.abs(np.asarray(shown, float) - np.asarray(Image.open(pictures[0]), float)).mean() < 8
    assert gallery.thumbnail("nobody") is None


def test_stats(gallery, pictures, splits):
    gallery.optimize()
    stats = gallery.stats()
    assert stats["images"] == len(pictures) and stats["metadata"] == {"pid": "int64"}
    assert sum(stats["cameras"].values()) == len(pictures) and stats["cameras"]["c1"] > 0
    assert stats["clue_bytes_per_image"] == ClueCodec(gallery.embedder.example.prepared, "int8").bytes_per_image
    files = [path for path in (gallery.path / "images.lance").rglob("*") if path.is_file()]
    assert stats["bytes_on_disk"] == sum(path.stat().st_size for path in files) >= stats["bytes"]
    assert stats["bytes_per_image"] > stats["clue_bytes_per_image"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"graph": "Semantic", "graph.sharpness": None}, "--graph Semantic, which needs a label map"),
        ({"data.height": 384, "data.width": 128, "graph.form": "paper", "graph.sharpness": 1},
         "65,536 bytes an image .*compared 256, projected 8 channels.*--graph.form released"),
    ],
)  # fmt: skip
def test_models_that_a_gallery_cannot_keep(tiny, tmp_path, options, message):
    checkpoint = make_checkpoint(tmp_path / "m.ckpt", tiny, **options)
    with pytest.raises(ValueError, match=message):
        Gallery.create(tmp_path / "people.lance", checkpoint)
    assert not (tmp_path / "people.lance").exists()


def test_one_picture_without_a_list_is_refused(checkpoint, pictures, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", checkpoint)
    for picture in (str(pictures[0]), pictures[0], pictures[0].read_bytes(), np.zeros((8, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match="Expected a list of pictures to add"):
            gallery.add(picture)
    with pytest.raises(ValueError, match="Expected a camera for each picture, in a list"):
        gallery.add(pictures[:2], camera="12")
    with pytest.raises(ValueError, match="Expected a list of images to remove"):
        gallery.remove(str(pictures[0]))
    assert len(gallery) == 0


def test_a_filter_error_names_no_file_of_the_database(shown_gallery, pictures):
    with pytest.raises(ValueError, match="is text, and the column contains a time") as told:
        shown_gallery.search(pictures[0], where="time > 'noon'")
    assert ".rs" not in str(told.value)


def test_a_filter_of_two_statements_is_refused(shown_gallery):
    for where in ("camera = 'c2' ; and pid = 61", "1=1; x"):
        with pytest.raises(ValueError, match="without a ; outside quotes"):
            shown_gallery.remove(where=where)
    assert len(shown_gallery) > 0
    assert shown_gallery.remove(where="camera = 'a;b'") == 0
