"""The built-in data set: same bytes from a seed, the Market-1501 layout, and labels that tell the truth."""

import hashlib
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import synthetic
from cace_pyg.data.contact_sheet import contact_sheet
from cace_pyg.data.rendering.pedestrian import (
    PART_NAMES,
    attributes,
    differences,
    draw_family,
)
from cace_pyg.data.rendering.render import VIEWS, render
from cace_pyg.data.rendering.scene import draw_camera
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.data.synthetic_plan import choose_queries, plan_pictures

SMALL = SyntheticSettings(train_identities=12, test_identities=8, distractors=5, junk=12, family_size=4)
NAME = re.compile(r"(-?\d+)_c(\d)s1_(\d{6})_00\.jpg")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_synthetic(tmp_path_factory.mktemp("data") / "synthetic", SMALL, progress=False)


@pytest.fixture(scope="module")
def details(root):
    return json.loads((root / "details.json").read_text())


def digest(root) -> dict[str, str]:
    """Hash of each file's bytes, by path below `root`."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def labels(root, folder):
    """(pid, camid) of each picture in a folder, from the file names."""
    return [tuple(int(n) for n in NAME.fullmatch(p.name).group(1, 2)) for p in (root / folder).iterdir()]


def person(**changes):
    """Somebody without any details, except for `changes`."""
    plain = dict.fromkeys(
        ["hair", "hat", "glasses", "scarf", "stripes", "chest_logo", "back_print", "open_jacket", "belt",
         "side_stripe", "socks", "gloves", "wristband", "backpack", "shoulder_bag", "handbag", "load"]
    )  # fmt: skip
    somebody = draw_family(np.random.default_rng(3), "test", 1)[0]
    somebody = replace(somebody, **plain, beard=False, short_sleeves=False, bottoms="trousers", top="navy")
    return replace(somebody, **changes)


def shown(somebody, view, size=(96, 48)):
    """Details counted as visible in an unobstructed picture of a well-cut box, for several poses."""
    camera = draw_camera(np.random.default_rng(0), 1)
    pictures = [render(somebody, camera, view, "good", False, size, np.random.default_rng(i)) for i in range(12)]
    return [set(picture.details) for picture in pictures]


def test_same_seed_gives_same_bytes_in_any_number_of_processes(root, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "_WORTH_A_POOL", 0)
    again = make_synthetic(tmp_path / "again", SMALL, workers=2, progress=False)
    assert digest(again) == digest(root)


def test_other_seed_gives_other_pictures(root, tmp_path):
    few = SyntheticSettings(train_identities=1, test_identities=1, distractors=0, junk=0)
    first = digest(make_synthetic(tmp_path / "first", few, progress=False))
    other = digest(make_synthetic(tmp_path / "other", replace(few, seed=1), progress=False))
    assert not set(first.values()) & set(other.values())


def test_layout_is_that_of_market1501(root):
    assert {path.name for path in root.iterdir()} == {
        "bounding_box_train", "query", "bounding_box_test", "parts", "details.json", "settings.json",
    }  # fmt: skip
    train, query, gallery = (labels(root, folder) for folder in ("bounding_box_train", "query", "bounding_box_test"))
    assert len(train) == 12 * 8
    assert len(query) + len(gallery) == 8 * 8 + 5 + 12
    assert sum(pid == 0 for pid, _ in gallery) == 5
    assert sum(pid == -1 for pid, _ in gallery) == 12
    assert all(1 <= camid <= 6 for _, camid in train + query + gallery)
    with Image.open(next((root / "query").iterdir())) as picture:
        assert picture.size == (48, 96) and picture.mode == "RGB"


def test_identities_are_split(root):
    train, query, gallery = (
        {pid for pid, _ in labels(root, folder)} for folder in ("bounding_box_train", "query", "bounding_box_test")
    )
    assert train == set(range(1, 13))
    assert query == gallery - {0, -1} == set(range(13, 21))


@pytest.mark.parametrize("images, cameras", [(2, 2), (3, 2), (3, 6), (8, 4), (13, 6)])
def test_each_query_has_a_match_under_another_camera(images, cameras):
    pictures = plan_pictures(replace(SMALL, images_per_identity=images, cameras=cameras, test_identities=30))
    gallery = {(p.pid, p.camid) for p in pictures if p.folder == "bounding_box_test"}
    queries = [(p.pid, p.camid) for p in pictures if p.folder == "query"]
    assert {pid for pid, _ in queries} == set(range(13, 43))
    assert len(queries) == len(set(queries))  # one a camera
    for pid, camid in queries:
        assert any((pid, other) in gallery for other in range(1, cameras + 1) if other != camid)


def test_choose_queries_by_hand():
    assert choose_queries([1, 2], limit=2) == [0]  # a second one would leave no gallery
    assert choose_queries([1, 2, 1, 2], limit=2) == [0, 1]
    assert choose_queries([3, 3, 5, 1], limit=9) == [0, 2]  # with 3 too, all that is left is a 3 for the 3


def test_file_names_are_unique():
    pictures = plan_pictures(replace(SMALL, distractors=300, junk=300, images_per_identity=40))
    assert len({(p.folder, p.stem) for p in pictures}) == len(pictures)


def test_label_maps_fit_their_pictures(root):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        pictures = {path.stem: path for path in (root / folder).iterdir()}
        maps = {path.stem: path for path in (root / "parts" / folder).iterdir()}
        assert pictures.keys() == maps.keys()
        for stem, path in maps.items():
            parts = np.asarray(Image.open(path))
            assert parts.shape == (96, 48) and parts.dtype == np.uint8 and parts.max() < len(PART_NAMES)
            if not stem.startswith("-1"):
                assert (parts > 0).mean() > 0.05, stem


def test_junk_shows_less_of_a_person(root):
    share = {True: [], False: []}
    for path in (root / "parts" / "bounding_box_test").iterdir():
        share[path.stem.startswith("-1")].append((np.asarray(Image.open(path)) > 0).mean())
    assert np.mean(share[True]) < 0.6 * np.mean(share[False])


@pytest.mark.parametrize(
    "changes, detail, seen, hidden",
    [
        ({"chest_logo": "yellow", "chest_logo_shape": "block"}, "chest_logo", "front", "back"),
        ({"back_print": "white", "back_print_shape": "block"}, "back_print", "back", "front"),
        ({"open_jacket": "white"}, "open_jacket", "front", "back"),
    ],
)
def test_a_detail_is_seen_from_its_own_side_only(changes, detail, seen, hidden):
    assert all(detail in details for details in shown(person(**changes), seen))
    assert not any(detail in details for details in shown(person(**changes), hidden))


def test_each_detail_can_be_seen():
    things = {"hat": "cap", "scarf": "red", "stripes": "white", "belt": "white", "side_stripe": "red",
              "gloves": "red", "wristband": "lime", "backpack": "red", "shoulder_bag": "red",
              "handbag": "red", "load": "umbrella", "hair": "long", "glasses": "white"}  # fmt: skip
    for name, value in things.items():
        views = [shown(person(**{name: value}), view) for view in VIEWS]
        assert any(name in details for view in views for details in view), name


def test_views_agree_at_other_sizes():
    somebody = person(chest_logo="yellow", chest_logo_shape="block", backpack="red")
    assert all({"chest_logo", "backpack"} <= details for details in shown(somebody, "front", (256, 128)))
    assert all("backpack" in details for details in shown(somebody, "back", (256, 128)))


def test_a_backpack_covers_the_print_below_it():
    somebody = person(back_print="white", back_print_shape="block", backpack="red")
    covered, bare = shown(somebody, "back"), shown(replace(somebody, backpack=None), "back")
    assert all("back_print" in details for details in bare)
    assert sum("back_print" in details for details in covered) < len(covered) / 2


def test_what_covers_a_person_counts_as_background():
    camera, somebody = draw_camera(np.random.default_rng(0), 1), person(hat="cap")
    for occluder in (True, person()):
        flags = set()
        for i in range(12):
            free, covered = (
                render(somebody, camera, "front", "good", what, (96, 48), np.random.default_rng(i))
                for what in (False, occluder)
            )
            hidden = 1 - (covered.parts > 0).sum() / (free.parts > 0).sum()
            assert ((covered.parts > 0) <= (free.parts > 0)).all() and not free.occluded
            assert covered.occluded == (hidden > 0.05) or abs(hidden - 0.05) < 0.01
            assert hidden < 0.65
            flags.add(covered.occluded)
        assert True in flags


def test_details_file_tells_the_truth(root, details):
    by_pid = {}
    for name, entry in details["images"].items():
        assert (root / name).is_file()
        assert entry["view"] in VIEWS and entry["camera"] == int(NAME.fullmatch(name.split("/")[1]).group(2))
        by_pid.setdefault(entry["pid"], set()).update(entry["details"])
    assert details["identities"].keys() == {str(pid) for pid in by_pid if pid > 0}
    for pid, owned in details["identities"].items():
        for name in set(details["detail_names"]) - {"bare_legs"}:
            assert name in owned or name not in by_pid[int(pid)], (pid, name)
        assert ("backpack" in owned) == ("backpack" in by_pid[int(pid)])


def test_a_family_shares_clothes_and_differs_in_details():
    family = draw_family(np.random.default_rng(0), "f", 8)
    assert len({(member.top, member.bottom, member.build) for member in family}) == 1
    assert min(differences(a, b) for a in family for b in family if a is not b) >= 5
    assert "hat_colour" not in attributes(person()) and "top" in attributes(person())


def test_test_pictures_do_not_depend_on_the_training_identities():
    few, many = (plan_pictures(replace(SMALL, train_identities=n)) for n in (1, 30))
    key = [(p.folder, p.camid, p.view, p.box, p.index) for p in few if p.group == "test"]
    assert key == [(p.folder, p.camid, p.view, p.box, p.index) for p in many if p.group == "test"]


def test_made_once(root):
    before = (root / "details.json").stat().st_mtime_ns
    assert make_synthetic(str(root), SMALL, progress=False) == root
    assert (root / "details.json").stat().st_mtime_ns == before


def test_refuses_other_settings_and_foreign_folders(root, tmp_path):
    with pytest.raises(ValueError, match=r"seed = 0 instead of 7\); name another folder"):
        make_synthetic(root, replace(SMALL, seed=7), progress=False)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="contains something else"):
        make_synthetic(tmp_path, SMALL, progress=False)
    with pytest.raises(ValueError, match="got the file"):
        make_synthetic(tmp_path / "mine.txt", SMALL, progress=False)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_draw_chunk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path / "set", SMALL, progress=False)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_identities": 0}, {"test_identities": 0}, {"images_per_identity": 1}, {"cameras": 1},
        {"family_size": 0}, {"queries_per_identity": 0}, {"distractors": -1}, {"junk": -1}, {"occluded": 1.5},
        {"loose": -0.1}, {"height": 8}, {"width": 2}, {"seed": -1}, {"seed": 0.5}, {"train_identities": 9950},
        {"cameras": 10},
    ],
)  # fmt: skip
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))}.*expected .*\(got "):
        SyntheticSettings(**wrong)


def test_wrong_number_of_workers(tmp_path):
    with pytest.raises(ValueError, match=r"workers: expected 0 .* \(got -1\)"):
        make_synthetic(tmp_path / "set", SMALL, workers=-1)


def test_contact_sheet(root, tmp_path):
    sheet = contact_sheet(root, rows=2, columns=3)
    assert sheet.size == (3 * 52 + 4, 3 * 114 + 4)
    with pytest.raises(FileNotFoundError, match=r"details\.json"):
        contact_sheet(tmp_path)
