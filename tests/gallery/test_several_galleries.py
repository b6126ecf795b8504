"""Several galleries searched at once: the result is that of one gallery with all pictures."""

import json

import pytest
import torch

from cace_pyg import Gallery, search_galleries
from cace_pyg.engine.checkpoint import load_checkpoint, save_checkpoint
from cace_pyg.search import main as search
from tests.gallery.test_probability import CALIBRATION, calibrate


def fill(path, checkpoint, samples):
    made = Gallery.create(path, checkpoint, device="cpu")
    made.add([sample.path for sample in samples], camera=[f"c{sample.camid}" for sample in samples])
    return made


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    return calibrate(checkpoint, tmp_path_factory.mktemp("calibrated") / "best.ckpt", CALIBRATION)


@pytest.fixture(scope="module")
def folder(model, splits, tmp_path_factory):
    folder, samples = tmp_path_factory.mktemp("galleries"), splits.gallery
    fill(folder / "all.lance", model, samples)
    fill(folder / "a.lance", model, samples[::3])
    fill(folder / "b.lance", model, samples[1::3])
    fill(folder / "c.lance", model, samples[2::3])
    return folder


@pytest.fixture
def several(folder):
    return [Gallery.open(folder / f"{name}.lance", device="cpu") for name in "abc"]


def facts(hits):
    named = "image", "rank", "first_stage_rank", "distance", "individual", "conditional", "camera", "probability"
    return [{name: getattr(hit, name) for name in named} for hit in hits]


@pytest.mark.parametrize("asked", [{}, {"first_stage": 7}, {"first_stage": 0}, {"where": "camera != 'c1'"}])
def test_the_result_is_that_of_one_gallery_with_all_pictures(folder, several, splits, asked):
    for sample in splits.query[:3]:
        expected = Gallery.open(folder / "all.lance", device="cpu").search(sample.path, top_k=15, **asked)
        found = search_galleries(several, sample.path, top_k=15, **asked)
        for ours, theirs in ((found.hits, expected.hits), (found.first_stage, expected.first_stage)):
            for one, other in zip(facts(ours), facts(theirs), strict=True):
                # other pictures in a batch may round the last bit differently
                assert one == pytest.approx(other, abs=1e-5)
        assert {hit.gallery for hit in found} <= {gallery.path for gallery in several}
        assert all(hit.image in next(g for g in several if g.path == hit.gallery) for hit in found)


def test_a_picture_of_two_galleries_is_that_of_the_first(several, model, splits, tmp_path):
    image = splits.gallery[0].path
    twice = [several[0], fill(tmp_path / "again.lance", model, splits.gallery[:2])]
    for order in (twice, twice[::-1]):
        found = search_galleries(order, image, top_k=30)
        assert len({hit.image for hit in found}) == len(found)
        assert found[0].image == str(image) and found[0].gallery == order[0].path


def test_the_decision_is_that_of_all_pictures(folder, several, splits):
    everyone, picture = Gallery.open(folder / "all.lance", device="cpu"), splits.query[0].path
    expected = everyone.search(picture, false_alarms=0.5)
    found = search_galleries(several, picture, false_alarms=0.5)
    assert found.threshold == expected.threshold != several[0].search(picture, false_alarms=0.5).threshold
    assert found.is_known == expected.is_known
    with pytest.raises(ValueError, match="first_stage of at least 1"):
        search_galleries(several, picture, false_alarms=0.5, first_stage=0)


def test_empty_galleries_and_a_single_one(folder, several, model, splits, tmp_path):
    empty = Gallery.create(tmp_path / "empty.lance", model, device="cpu")
    picture = splits.query[0].path
    assert len(search_galleries([empty], picture)) == 0
    alone = several[0].search(picture)
    for galleries in ([several[0]], [empty, several[0]]):
        assert [hit.image for hit in search_galleries(galleries, picture)] == [hit.image for hit in alone]


def test_what_cannot_be_searched_together_is_refused(several, checkpoint, model, splits, tmp_path):
    picture = splits.query[0].path
    for galleries, told in (
        ([], r"one gallery or more, in a list \(got none\)"),
        (several[0], r"in a list \(got one that is not in a list\)"),
        ([several[0], "b.lance"], r"opened galleries \(got 'b\.lance'\); open each with Gallery\.open"),
        ([several[0], several[1], several[0]], r"different galleries \(got .*a\.lance twice"),
    ):
        with pytest.raises(ValueError, match=told):
            search_galleries(galleries, picture)
    with pytest.raises(ValueError, match=r"Expected one picture \(got 2 in a list\)"):
        search_galleries(several, [picture, picture])
    state = load_checkpoint(model)
    name = next(name for name, value in state["model"].items() if value.dtype == torch.float32)
    for what, changed in (
        ("model", state | {"model": state["model"] | {name: state["model"][name] + 0.1}}),
        ("fusion weight", state | {"fusion_weight": 0.25, "calibration": None}),
        ("calibration", load_checkpoint(checkpoint) | {"fusion_weight": state["fusion_weight"]}),
    ):
        other = tmp_path / f"{what}.ckpt"
        save_checkpoint(other, changed)
        gallery = fill(tmp_path / f"{what}.lance", other, splits.gallery[:3])
        with pytest.raises(ValueError, match=rf"the same {what}, .*a\.lance and .*{what}\.lance.*search each alone"):
            search_galleries([several[0], gallery], picture)
    for name, form, asked in (
        ("fewer", "3 clues in int8 or float16", {"gallery_clues": 3}),
        ("int4", "all clues in int4", {"precision": "int4"}),
    ):
        other = Gallery.create(tmp_path / f"{name}.lance", model, device="cpu", **asked)
        with pytest.raises(ValueError, match=rf"a\.lance with all clues in int8 .*{name}\.lance with {form}"):
            search_galleries([several[0], other], picture)
    tracks = Gallery.create(tmp_path / "tracks.lance", model, device="cpu")
    tracks.add([splits.gallery[0].path], metadata=[{"track": 1}])
    with pytest.raises(ValueError, match=r"tracks\.lance, which has tracks\); search it alone"):
        search_galleries([several[0], tracks], picture)
    several[1].tell({splits.gallery[1].path.as_posix(): {"floor": 2}})
    with pytest.raises(ValueError, match=r"in the gallery .*a\.lance: cannot filter by 'floor = 2'"):
        search_galleries(several, picture, where="floor = 2")


def test_the_command(folder, several, splits, tmp_path, capsys):
    picture = str(splits.query[0].path)
    query = ["query", picture, *(f"--gallery={gallery.path}" for gallery in several), "--device", "cpu"]
    expected = search_galleries(several, picture)
    assert search([*query, "--figure", str(tmp_path / "hits.svg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, hit in zip(lines[1:11], expected, strict=True):
        assert hit.image in line and f"in {hit.gallery}" in line
    drawn = (tmp_path / "hits.svg").read_text()
    assert all(f"in {hit.gallery.name}" in drawn for hit in expected)
    assert search(["stats", *query[2:4]]) == 2
    assert "Expected one --gallery (got " in capsys.readouterr().err
    assert search([*query, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(hit["image"], hit["gallery"]) for hit in told] == [(hit.image, str(hit.gallery)) for hit in expected]
    assert search([*query[:3], "--json"]) == 0
    assert all("gallery" not in hit for hit in json.loads(capsys.readouterr().out))
    for more, option in (
        (["--neighbours"], "--neighbours"),
        (["--gallery_neighbours=3"], "--gallery_neighbours"),
        (["--together", picture], "several pictures"),
    ):
        assert search([*query[:1], *more, *query[1:]]) == 2
        assert f"Expected one --gallery with {option} (got 3)" in capsys.readouterr().err
