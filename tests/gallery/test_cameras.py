"""A gallery of a model that standardises by camera: the same numbers as in the evaluation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from cace_pyg import Gallery, embed_pictures, search_galleries
from cace_pyg.embed import main as embed
from cace_pyg.engine.distances import measure
from cace_pyg.gallery import Embedder
from cace_pyg.gallery.page import gallery_page
from cace_pyg.search import main as search
from cace_pyg.trackers import PersonMemory, ReidModel
from tests.random_checkpoint import make_checkpoint


@pytest.fixture(scope="module")
def standardising(tiny, tmp_path_factory):
    """The same weights as ``checkpoint``, trained with evaluation.standardise_cameras."""
    folder = tmp_path_factory.mktemp("standardising")
    return make_checkpoint(folder / "best.ckpt", tiny, **{"evaluation.standardise_cameras": "true"})


def camera_of(sample):
    return f"c{sample.camid}"


@pytest.fixture(scope="module")
def filled(standardising, splits, tmp_path_factory):
    made = Gallery.create(tmp_path_factory.mktemp("cameras") / "people.lance", standardising, precision="float16")
    made.add([sample.path for sample in splits.gallery], [camera_of(sample) for sample in splits.gallery])
    return made


def ranking(found):
    return {hit.image: hit.distance for hit in found}


@pytest.mark.parametrize("follow", [0, 3])
def test_a_search_finds_what_the_evaluation_finds(filled, splits, follow):
    embedder = Embedder(filled.path / "model.ckpt")
    evaluation = replace(embedder.config.evaluation, gallery_neighbours=follow)
    config = replace(embedder.config, evaluation=evaluation, data=replace(embedder.config.data, workers=0))
    _, _, distances = measure(embedder.model, splits.query, splits.gallery, config, embedder.device, weight=0.5)
    expected = distances.two_stage(0.5)
    for number in (0, 3):
        sample = splits.query[number]
        found = filled.search(sample.path, camera=camera_of(sample), gallery_neighbours=follow)
        wanted = expected[number].argsort()[:10].tolist()
        assert [hit.image for hit in found] == [str(splits.gallery[at].path) for at in wanted]
        np.testing.assert_allclose([hit.distance for hit in found], expected[number, wanted], atol=2e-3)


def test_statistics_are_kept_and_read_again(filled, splits, standardising):
    again, sample = Gallery.open(filled.path, standardising), splits.query[1]
    camera = camera_of(sample)
    assert ranking(again.search(sample.path, camera=camera)) == ranking(filled.search(sample.path, camera=camera))
    assert ranking(again.search(sample.path)) != ranking(filled.search(sample.path, camera=camera))
    hit = again.search([sample.path], camera=camera)[0][0]
    assert again.explain(sample.path, hit, camera).cameras == (camera, hit.camera)
    again.explain(sample.path, hit, camera).conditional_maps()


def test_later_pictures_have_the_statistics_of_the_first(standardising, splits, tmp_path, capsys):
    gallery = Gallery.create(tmp_path / "people.lance", standardising)
    first, later = splits.gallery[:12], splits.gallery[12:16]
    gallery.add([sample.path for sample in first], [camera_of(sample) for sample in first])
    statistics = gallery.embedder.statistics
    assert "warning" not in capsys.readouterr().out
    gallery.add([sample.path for sample in later], ["c1", "c1", "new", None])
    told = capsys.readouterr().out
    assert "no statistics of some cameras (new)" in told and "the camera of some pictures is not told" in told
    gallery.add([sample.path for sample in first])  # nothing new
    assert "warning" not in capsys.readouterr().out
    assert gallery.embedder.statistics is statistics
    stored = {row["image"]: row["embedding"] for row in gallery._table.rows(None, ["image", "embedding"])}
    embedder = gallery.embedder
    resized = [embedder.resize(Image.open(sample.path)) for sample in later]
    raw = embedder._raw(resized).embedding.cpu()
    expected = statistics.embeddings(raw, ["c1", "c1", None, None])
    for sample, embedding in zip(later, expected, strict=True):
        np.testing.assert_allclose(stored[str(sample.path)], embedding, atol=2e-3)


def test_commands(standardising, splits, tiny, tmp_path, capsys):
    path = tmp_path / "people.lance"
    folder = splits.gallery[0].path.parent
    index = ["index", str(folder), "--gallery", str(path), "--pattern", r"_c(?P<camera>\d)"]
    assert search([*index, "--checkpoint", str(standardising)]) == 0
    query = ["query", str(splits.query[0].path), "--gallery", str(path)]
    capsys.readouterr()
    answers = []
    for more in ([], ["--camera", str(splits.query[0].camid)]):
        assert search([*query, *more, "--json"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] != answers[1]
    assert search([*query, "--camera", "c9"]) == 2
    assert "Expected a camera that the gallery has statistics of: " in capsys.readouterr().err
    assert search([*query, "--camera", "1", "--camera", "2"]) == 2
    assert "Expected one --camera" in capsys.readouterr().err


def test_a_search_knows_what_another_process_has_learned(standardising, splits, tmp_path):
    early = Gallery.create(tmp_path / "people.lance", standardising)
    with pytest.raises(ValueError, match="Expected pictures of the cameras first"):
        early.search(splits.query[0].path)
    added, sample = Gallery.open(early.path, standardising), splits.query[0]
    added.add([each.path for each in splits.gallery[:12]], [camera_of(each) for each in splits.gallery[:12]])
    assert ranking(early.search(sample.path, camera="c1")) == ranking(added.search(sample.path, camera="c1"))


def test_the_page_asks_for_the_camera(filled, splits, standardising, tmp_path):
    client, sample = TestClient(gallery_page(filled, ["testserver"])), splits.query[1]
    camera, content = camera_of(sample), sample.path.read_bytes()
    assert camera in client.get("/stats").json()["query_cameras"]
    answers = [client.post("/search", params=asked, content=content).json() for asked in ({}, {"camera": camera})]
    for asked, answer in zip((None, camera), answers, strict=True):
        found = filled.search(sample.path, camera=asked)
        assert {hit["image"]: hit["distance"] for hit in answer["hits"]} == pytest.approx(ranking(found))
    image = answers[0]["hits"][0]["image"]
    drawn = [client.get("/explain", params={"query": answer["query"], "image": image}).content for answer in answers]
    assert drawn[0] != drawn[1] and all(figure.startswith(b"\x89PNG") for figure in drawn)
    refused = client.post("/search", params={"camera": "c9"}, content=content)
    assert refused.status_code == 400 and "statistics of: c1" in refused.json()["error"]
    empty = TestClient(gallery_page(Gallery.create(tmp_path / "people.lance", standardising), ["testserver"]))
    refused = empty.post("/search", content=content)
    assert refused.status_code == 400 and "Expected pictures of the cameras first" in refused.json()["error"]


def test_a_gallery_without_its_statistics_is_damaged(filled, splits, standardising, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", standardising)
    with pytest.raises(ValueError, match="Expected pictures of the cameras first"):
        gallery.search(splits.query[0].path)
    gallery.add([sample.path for sample in splits.gallery[:8]])
    for break_it in (
        lambda path: path.write_bytes(b"nothing"),
        lambda path: torch.save([1], path),
        lambda p: p.unlink(),
    ):
        break_it(tmp_path / "people.lance" / "cameras.pt")
        with pytest.raises(RuntimeError, match="is damaged: cameras.pt"):
            Gallery.open(tmp_path / "people.lance")


def test_unreadable_pictures_are_left_out_of_the_statistics(standardising, splits, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    gallery = Gallery.create(tmp_path / "people.lance", standardising)
    added = gallery.add([tmp_path / "broken.jpg", *(sample.path for sample in splits.gallery[:9])], ["b", *"aaabbbccc"])
    assert added.added == 9 and len(added.unreadable) == 1
    other = Gallery.create(tmp_path / "other.lance", standardising)
    assert len(other.add([tmp_path / "broken.jpg"]).unreadable) == 1 and other.embedder.statistics is None


def test_a_gallery_begins_with_a_few_pictures(standardising, splits, tmp_path, capsys):
    gallery = Gallery.create(tmp_path / "people.lance", standardising)
    with pytest.raises(ValueError, match="Expected at least 5 pictures, for the statistics of their cameras"):
        gallery.add([splits.gallery[0].path])
    assert len(gallery) == 0
    gallery.add([sample.path for sample in splits.gallery[:8]])
    assert "no camera is told" in capsys.readouterr().out


def test_a_camera_that_cannot_be_used_is_refused(filled, shown_gallery, splits):
    picture = splits.query[0].path
    hit = filled.search(picture)[0]
    for camera in (2, "x", "", ["c1"]):
        with pytest.raises(ValueError, match="Expected a camera that the gallery has statistics of: c1, "):
            filled.search(picture, camera=camera)
        with pytest.raises(ValueError, match="Expected a camera that the gallery has statistics of: c1, "):
            filled.explain(picture, hit, camera)
    with pytest.raises(ValueError, match="Expected no camera of the query"):
        shown_gallery.search(picture, camera="c1")


def test_a_flipped_bit_of_the_statistics_is_noticed(standardising, splits, tmp_path):
    gallery = Gallery.create(tmp_path / "people.lance", standardising)
    gallery.add([sample.path for sample in splits.gallery[:8]])
    file = tmp_path / "people.lance" / "cameras.pt"
    whole = bytearray(file.read_bytes())
    at = whole.index(gallery.embedder.statistics._embedding.mean.numpy().tobytes()[:16])
    whole[at + 2] ^= 4
    file.write_bytes(whole)
    with pytest.raises(RuntimeError, match="cameras.pt, with the statistics of its cameras, cannot be read"):
        Gallery.open(tmp_path / "people.lance")


def test_what_sees_single_pictures_refuses_such_a_model(standardising, filled, splits, tmp_path, capsys):
    for make in (PersonMemory, ReidModel, lambda checkpoint: embed_pictures([splits.query[0].path], checkpoint)):
        with pytest.raises(ValueError, match="Expected a model trained without evaluation.standardise_cameras"):
            make(standardising)
    folder = str(splits.query[0].path.parent)
    assert embed([folder, "--checkpoint", str(standardising), "-o", str(tmp_path / "vectors.npy")]) == 2
    assert "embed sees single pictures" in capsys.readouterr().err
    with pytest.raises(ValueError, match="each gallery has statistics of its own"):
        search_galleries([filled], splits.query[0].path)
