"""Body parts from poses and masks: geometry, fallbacks, and a command that can be stopped.

MediaPipe itself is not here: a program of our own stands in its place.
"""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cace_pyg.data import mediapipe_parser
from cace_pyg.data.__main__ import main
from cace_pyg.data.mediapipe_parser import (
    ARMS,
    FEET,
    HEAD,
    LEGS,
    TORSO,
    Seen,
    answer,
    body_parts,
    parse_picture,
)
from cace_pyg.data.own_pictures import read_image_folder
from cace_pyg.data.parse_pictures import parse_pictures
from cace_pyg.data.part_map import check_part_maps, part_map_path, read_part_map
from cace_pyg.data.part_sheet import part_sheet
from cace_pyg.data.sample import Sample
from cace_pyg.data.sorted_pictures import sorted_pictures

BOX = (220, 64, 420, 576)  # of a crop on the canvas


def standing() -> np.ndarray:
    """Landmarks of a person who stands upright in the box."""
    points = np.full((33, 2), 320.0)
    rows = {0: 110, 7: 108, 8: 108, 11: 170, 12: 170, 13: 250, 14: 250, 15: 320, 16: 320, 23: 330, 24: 330, 25: 440,
            26: 440, 27: 540, 28: 540, 29: 552, 30: 552, 31: 556, 32: 556}  # fmt: skip
    offsets = {7: 12, 11: 40, 13: 62, 15: 66, 23: 24, 25: 26, 27: 26, 29: 24, 31: 40}
    for index, row in rows.items():
        points[index, 1] = row
    for index, offset in offsets.items():
        points[index, 0] += offset
        points[index + 1, 0] -= offset
    return points


def person_mask() -> np.ndarray:
    mask = np.zeros((640, 640), dtype=bool)
    mask[70:570, 235:405] = True
    return mask


NOBODY = np.zeros((640, 640), dtype=bool)
INSIDE = np.s_[BOX[1] : BOX[3], BOX[0] : BOX[2]]


def at(labels, row, column):
    """The label at a place of the canvas."""
    return labels[row - BOX[1], column - BOX[0]]


def test_limbs_are_where_the_pose_says():
    labels, how = body_parts(Seen(standing(), person_mask(), ~person_mask()), BOX)
    assert how == "pose" and labels.dtype == np.uint8 and labels.shape == (512, 200)
    places = {HEAD: (105, 320), TORSO: (250, 320), ARMS: (290, 386), LEGS: (460, 346), FEET: (556, 356)}
    assert {part: at(labels, *place) for part, place in places.items()} == {part: part for part in places}
    assert at(labels, 75, 240) == 0  # in the outline, but far from every limb
    assert not labels[~person_mask()[INSIDE]].any()
    mirrored, _ = body_parts(Seen(standing() * [-1, 1] + [640, 0], person_mask()[:, ::-1], NOBODY), BOX)
    assert (mirrored[:, ::-1] == labels).mean() > 0.99
    assert (body_parts(Seen(standing(), NOBODY, person_mask()), BOX)[0] == labels).all()  # no outline: the mask


def test_a_head_seen_from_the_side_stays_above_the_shoulders():
    profile = standing()
    profile[0, 0] += 60  # the nose, far in front of ears and shoulders
    labels, how = body_parts(Seen(profile, person_mask(), NOBODY), BOX)
    assert how == "pose" and at(labels, 80, 320) == HEAD and at(labels, 80, 398) == 0


def upside_down() -> np.ndarray:
    return standing() * [1, -1] + [0, 640]


@pytest.mark.parametrize(
    "landmarks", [None, upside_down(), standing() * 0.3 + 200], ids=["none", "upside down", "small"]
)
def test_stripes_replace_an_impossible_pose(landmarks):
    labels, how = body_parts(Seen(landmarks, ~person_mask(), person_mask()), BOX)
    assert how == "mask" and [at(labels, row, 320) for row in (80, 200, 400, 565)] == [HEAD, TORSO, LEGS, FEET]
    assert not labels[~person_mask()[INSIDE]].any()
    speck = NOBODY.copy()
    speck[300:310, 300:310] = True
    for empty in (NOBODY, speck):
        labels, how = body_parts(Seen(landmarks, NOBODY, empty), BOX)
        assert how == "box" and labels.all() and (np.unique(labels) == [HEAD, TORSO, LEGS, FEET]).all()


def test_a_pose_that_only_the_mirror_shows_is_turned_back():
    """The models see someone, arms to one side, where the blue half of a picture is on the left."""
    leaning, seen = standing(), []
    leaning[[13, 14, 15, 16], 0] = 386

    def look(canvas):
        seen.append(canvas[320, 250, 2] > 128)
        return Seen(leaning if seen[-1] else None, person_mask(), person_mask())

    halves = Image.new("RGB", (200, 512), "black")
    halves.paste("blue", (0, 0, 100, 512))
    plain, how = parse_picture(halves, look)
    assert how == "pose" and seen == [True]
    turned, how = parse_picture(halves.transpose(Image.Transpose.FLIP_LEFT_RIGHT), look)
    assert how == "pose" and seen == [True, False, True]
    assert (np.asarray(turned)[:, ::-1] == np.asarray(plain)).all()
    assert not (np.asarray(turned) == np.asarray(plain)).all()


@pytest.mark.parametrize("size", [(48, 128), (128, 48), (7, 7), (300, 1000), (1, 400)])
def test_a_map_has_the_size_of_its_picture(size):
    canvases = []

    def look(canvas):
        canvases.append(canvas)
        return Seen(None, NOBODY, NOBODY)

    found, how = parse_picture(Image.new("L", size, 255), look)
    assert found.size == size and found.mode == "P" and how == "box"
    assert set(np.unique(np.asarray(found))) <= {HEAD, TORSO, LEGS, FEET}
    assert canvases[0].shape == (640, 640, 3) and (canvases[0][0, 0] == 128).all() and (canvases[0] == 255).any()


PROGRAM = """
import json, os, sys
from PIL import Image
for number, line in enumerate(sys.stdin):
    if number == int(os.environ.get("STOP_AT", 99)):
        sys.exit("out of memory")
    task = json.loads(line)
    try:
        size = Image.open(task["picture"]).size
    except OSError as error:
        print(json.dumps({"error": "broken"}), flush=True)
        continue
    os.makedirs(os.path.dirname(task["map"]), exist_ok=True)
    Image.new("L", size, 2).save(task["map"])
    print(json.dumps({"how": "pose"}), flush=True)
"""


@pytest.fixture
def crops(tmp_path):
    for name in ("query/1_c1.jpg", "query/2_c1.jpg", "bounding_box_test/1_c2.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16), "blue").save(tmp_path / "set" / name)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path / "set"


def test_every_picture_gets_its_map_once(crops):
    program = str(crops.parent / "program.py")
    found = parse_pictures(crops, program=program)
    assert (found.pose, found.kept, found.unreadable) == (3, 0, ())
    sample = Sample(crops / "query" / "1_c1.jpg", 1, 1)
    assert (read_part_map(sample, (16, 8)) == 2).all()
    again = parse_pictures(crops, program=program)
    assert (again.pose, again.kept) == (0, 3) and "3 were there" in str(again)
    assert parse_pictures(crops, program=program, overwrite=True).pose == 3
    assert part_sheet(sorted_pictures(crops)).size == (3 * (2 * 96 + 6) + 6, 192 + 12)


def test_a_parser_that_stops_says_so_and_goes_on(crops, monkeypatch):
    program = str(crops.parent / "program.py")
    monkeypatch.setenv("STOP_AT", "1")
    with pytest.raises(RuntimeError, match="stopped after 1 pictures.*continues.\nout of memory"):
        parse_pictures(crops, program=program)
    monkeypatch.delenv("STOP_AT")
    found = parse_pictures(crops, program=program)
    assert (found.pose, found.kept) == (2, 1)


def test_broken_pictures_are_listed(crops):
    (crops / "query" / "3_c1.jpg").write_text("no picture")
    found = parse_pictures(crops, program=str(crops.parent / "program.py"))
    assert found.pose == 3 and found.unreadable == ((crops / "query" / "3_c1.jpg", "broken"),)
    assert not part_map_path(crops / "query" / "3_c1.jpg").exists() and "3_c1.jpg: broken" in str(found)


def test_hidden_files_are_no_pictures_and_two_may_not_share_a_map(crops):
    program = str(crops.parent / "program.py")
    (crops / "query" / "._1_c1.jpg").write_text("what macOS leaves")
    found = parse_pictures(crops, program=program)
    assert (found.pose, found.unreadable) == (3, ())
    Image.new("RGB", (8, 16), "red").save(crops / "query" / "1_c1.png")
    with pytest.raises(ValueError, match="one picture for the label map .*1_c1.png .got .*1_c1.jpg and .*1_c1.png"):
        parse_pictures(crops, program=program)


@pytest.mark.parametrize("names", [("1.jpg", "2.jpg"), ("door/1.jpg", "yard/2.jpg")], ids=["no camera", "cameras"])
def test_maps_in_a_tree_of_folders_are_no_pictures_of_it(tmp_path, names):
    for part in ("train", "query", "gallery"):
        for place in (f"{who}/{name}" for who in ("anna", "bob") for name in names):
            path = tmp_path / "set" / part / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 16), "blue").save(path)
    before = read_image_folder(tmp_path / "set")
    (tmp_path / "program.py").write_text(PROGRAM)
    assert parse_pictures(tmp_path / "set", program=str(tmp_path / "program.py")).pose == 12
    assert read_image_folder(tmp_path / "set") == before
    check_part_maps([*before.train, *before.query, *before.gallery])


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    """The disk is full, or the picture is broken: no map, and no rest of one."""
    Image.new("RGB", (8, 16)).save(tmp_path / "1.png")
    (tmp_path / "2.jpg").write_bytes(b"no picture")
    task = {"picture": str(tmp_path / "1.png"), "map": str(tmp_path / "parts" / "q" / "1.png")}

    def look(canvas):
        return Seen(None, NOBODY, NOBODY)

    def full(image, path, format):
        open(path, "wb").close()
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(Image.Image, "save", full)
        answer(task, look)
    assert not list((tmp_path / "parts" / "q").iterdir())
    assert "cannot identify" in answer(task | {"picture": str(tmp_path / "2.jpg")}, look)["error"]
    assert answer(task, look) == {"how": "box"}
    assert [path.name for path in (tmp_path / "parts" / "q").iterdir()] == ["1.png"]


def test_the_parser_needs_nothing_of_this_library():
    """It runs where there is MediaPipe and no torch."""
    hide = "import sys; sys.modules.update(torch=None, cace_pyg=None, tqdm=None, mediapipe=None)"
    program = f"{hide}; import runpy; runpy.run_path({mediapipe_parser.__file__!r})"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_missing_is_named(crops, tmp_path, capsys):
    assert main(["parse", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["parse", str(tmp_path / "empty")]) == 2
    assert "there are no pictures" in capsys.readouterr().err
    assert main(["parse", str(crops), "--python", str(tmp_path / "python9")]) == 2
    assert "give another --python" in capsys.readouterr().err
    assert main(["parse", str(crops), "--draw", str(tmp_path / "no" / "sheet.png")]) == 2
    assert "Expected --draw FILE.png in an existing folder" in capsys.readouterr().err
    lacking = tmp_path / "lacking.py"
    with pytest.raises(RuntimeError, match=r"has no MediaPipe.*mediapipe==0.10.21.*cace-pyg\[semantic\]"):
        lacking.write_text("raise SystemExit(\"ModuleNotFoundError: No module named 'mediapipe'\")")
        parse_pictures(crops, sys.executable, program=str(lacking))
    assert not (crops / "parts").exists()
