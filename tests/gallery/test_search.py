"""``python -m cace_pyg.search``: what it prints and writes, and what it refuses."""

import importlib.util
import json
import shutil
from datetime import datetime

import pyarrow.parquet
import pytest
import torch
from PIL import Image

from cace_pyg import Gallery
from cace_pyg.search import main as search

NEEDS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@pytest.fixture
def folder(pictures, tmp_path):
    made = tmp_path / "crops"
    for number, picture in enumerate(pictures[:20]):
        (made / f"day{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, made / f"day{number % 2}" / picture.name)
    return made


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.lance"


def test_from_a_folder_to_an_answer(folder, path, checkpoint, splits, tmp_path, capsys):
    index = ["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint)]
    pattern = r"day(?P<day>\d)/(?P<pid>-?\d+)_c(?P<camera>\d)"
    assert search([*index, "--pattern", pattern]) == 0
    assert "added: 20; replaced" in (printed := capsys.readouterr().out) and "20 pictures" in printed
    assert search(index[:4]) == 0  # the gallery's own model; nothing is told, nothing changes
    assert "added: 0; replaced, because they had changed: 0; there already: 20" in capsys.readouterr().out

    query = ["query", str(splits.query[0].path), "--gallery", str(path)]
    assert search([*query, "--top_k", "4", "--figure", str(tmp_path / "hits.svg")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "was", "distance", "individual", "conditional", "camera", "image"]
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"] and "second stage" in lines[5]
    assert "<svg" in (tmp_path / "hits.svg").read_text()
    assert search([*query, "--json", "--where", "day = 1 and camera = '2'"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found and all(hit["metadata"]["day"] == 1 and hit["camera"] == "2" for hit in found)
    assert search([*query, "--where", "camera = 'x'", "--figure", str(tmp_path / "none.svg")]) == 0
    printed = capsys.readouterr()
    assert "no picture passes --where camera = 'x'" in printed.out and "nothing found" in printed.out
    assert "not written, since nothing was found" in printed.err and not (tmp_path / "none.svg").exists()

    assert search(["stats", "--gallery", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 20
    assert search(["optimize", "--gallery", str(path)]) == 0
    assert "20 pictures" in capsys.readouterr().out
    assert search([*index, "--precision", "float16"]) == 2
    assert "stores clues as int8: leave --precision out" in capsys.readouterr().err
    assert search([*index, "--gallery_clues", "5"]) == 2
    assert "stores all clues of a picture: leave --gallery_clues out" in capsys.readouterr().err
    victim = next(folder.rglob("*.jpg"))
    assert search(["remove", str(victim), "--gallery", str(path)]) == 0
    assert "removed: 1; left: 19" in capsys.readouterr().out
    assert search(["remove", str(victim), "--gallery", str(path)]) == 1
    told = capsys.readouterr()
    assert "removed: 0; left: 19" in told.out and f"not in the gallery: {victim}" in told.err
    shutil.move(folder, tmp_path / "elsewhere")  # as if its disk was not mounted
    assert search(["remove", "--missing", "--gallery", str(path)]) == 2
    assert "19 of 19 files are gone" in capsys.readouterr().err
    shutil.move(tmp_path / "elsewhere", folder)
    victim.unlink()
    next(folder.rglob("*.jpg")).unlink()
    assert search(["remove", "--missing", "--gallery", str(path)]) == 0
    assert "removed: 1; left: 18" in capsys.readouterr().out
    shutil.rmtree(folder)
    assert search(["remove", "--missing", "--force", "--gallery", str(path)]) == 0
    assert "removed: 18; left: 0" in capsys.readouterr().out
    assert search(["optimize", "--erase", "--gallery", str(path)]) == 0
    assert "0 pictures" in capsys.readouterr().out
    assert search(["add", str(tmp_path), "--gallery", str(path)]) == 2
    assert "index adds all pictures of a folder" in capsys.readouterr().err
    assert search(["add", str(splits.query[0].path), "--camera", "c1", "--gallery", str(path)]) == 0
    assert "added: 1" in capsys.readouterr().out


def test_unreadable_pictures_are_listed_and_the_exit_code_says_so(folder, path, checkpoint, capsys):
    (folder / "broken.jpg").write_bytes(b"no picture")
    assert search(["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint)]) == 1
    printed = capsys.readouterr().out
    assert "added: 20" in printed and "cannot be read: 1" in printed and "broken.jpg: cannot read" in printed


def test_a_table_tells_of_pictures(folder, path, checkpoint, tmp_path, capsys):
    table = tmp_path / "facts.csv"
    some = sorted(folder.rglob("*.jpg"))[:2]
    names = [picture.relative_to(folder).as_posix() for picture in some]
    table.write_text(f"path,camera,time,size\n{names[0]},3,2026-01-31T12:00:00,1.5\n{names[1]},c4,,\n")
    index = ["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint), "--metadata", str(table)]
    assert search(index) == 0
    capsys.readouterr()
    where = "time > timestamp '2026-01-31 11:00:00' and size > 1 and camera = '3'"
    assert search(["query", str(some[0]), "--gallery", str(path), "--json", "--where", where]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert (hit["time"], hit["metadata"]) == ("2026-01-31T12:00:00", {"size": 1.5})
    for text, message in (
        ("file,camera\na,b\n", "a column path in"),
        ("path,time\n" + names[0] + ",noon\n", "Expected times as 2026-01-31T12:00:00 (got 'noon')"),
        ("path,camera\nnobody.jpg,1\n", "names 1 pictures that are not in"),
        (f"path,camera\n{names[0]},1\n,2\n", "Expected a path in row 2 of"),
        (f"path,camera\n{names[0]},1,2\n", "as many cells as the header has in row 1"),
    ):
        table.write_text(text)
        assert search(index) == 2
        assert message in capsys.readouterr().err


def test_a_parquet_table_names_the_pictures_and_keeps_its_types(folder, path, checkpoint, capsys):
    some = sorted(folder.rglob("*.jpg"))[:3]
    left = datetime(2026, 2, 1, 12)
    table = pyarrow.table(
        {
            "path": [picture.relative_to(folder).as_posix() for picture in some],
            "camera": [3.0, None, 4.0],
            "size": [1.0, float("nan"), 2.5],
            "left": [left, None, None],
            "indoors": [True, False, None],
            "word": ["1", "2", "x"],
        }
    )
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    index = ["index", str(folder / "table.parquet"), "--gallery", str(path), "--checkpoint", str(checkpoint)]
    assert search(index) == 0 and "added: 3" in capsys.readouterr().out
    assert search(index) == 0 and "there already: 3" in capsys.readouterr().out
    rows = Gallery.open(path)._table.rows(None, ["image", "camera", "size", "left", "indoors", "word"])
    assert sorted(rows, key=lambda row: row["image"]) == [
        {"image": str(some[0]), "camera": "3", "size": 1.0, "left": left, "indoors": True, "word": "1"},
        {"image": str(some[1]), "camera": None, "size": None, "left": None, "indoors": False, "word": "2"},
        {"image": str(some[2]), "camera": "4", "size": 2.5, "left": None, "indoors": None, "word": "x"},
    ]
    (folder / "broken.parquet").write_bytes(b"no table")
    for name, message in (("broken.parquet", "as Parquet"), ("gone.parquet", "no table at"), ("x.txt", "no folder")):
        assert search(["index", str(folder / name), *index[2:]]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["index", "FOLDER", "--gallery", "PATH"], "there is no gallery at PATH yet: --checkpoint RUN_DIR"),
        (["index", "nowhere", "--gallery", "PATH", "--checkpoint", "CKPT"], "there is no folder nowhere"),
        (["index", "FOLDER", "--gallery", "PATH", "--checkpoint", "CKPT", "--pattern", "c(\\d)"], "named groups"),
        (
            ["index", "FOLDER", "--gallery", "PATH", "--checkpoint", "CKPT", "--pattern", "(?P<a>zzz)"],
            "it matches none",
        ),
        (
            ["index", "FOLDER", "--gallery", "PATH", "--checkpoint", "CKPT", "--pattern", "("],
            "not a regular expression",
        ),
        (["query", "A.jpg", "--gallery", "PATH"], "no gallery at PATH; make one with"),
        (["query", "A.jpg", "--gallery", "PATH", "--figure", "x.pdf"], "--figure FILE.png or FILE.svg"),
        (["remove", "--gallery", "PATH"], "to know what to remove"),
        (["stats", "--gallery", "s3://bucket/people.lance"], "object storage is not supported"),
        (["index", "FOLDER", "--gallery", "s3://b/p", "--checkpoint", "CKPT"], "object storage is not supported"),
    ],
)
def test_what_is_refused(folder, path, checkpoint, arguments, message, capsys):
    real = {"FOLDER": str(folder), "PATH": str(path), "CKPT": str(checkpoint)}
    assert search([real.get(argument, argument) for argument in arguments]) == 2
    assert message.replace("PATH", str(path)) in capsys.readouterr().err
    assert not path.exists()


def diverged(path, checkpoint, weight, value=float("nan")):
    """The checkpoint with one of its weights not a number."""
    state = torch.load(checkpoint, weights_only=True)
    state["model"][weight].fill_(value)
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--pattern", r"(?P<image>.)"], "metadata column as lower-case letters, digits and _, and none of image"),
        (["--pattern", r"(?P<Day>\d)"], "(got 'Day')"),
        (["--metadata", "upper.csv"], "(got 'Floor')"),
        (["--metadata", "numbers.parquet"], "Expected a path as text in row 1 of numbers.parquet (got 7, int)"),
        (["--checkpoint", "diverged.ckpt"], "diverged.ckpt has weights that are not finite"),
        (["--checkpoint", "half.ckpt"], "half.ckpt has weights that are not finite, such as pair_stage"),
        (["--checkpoint", "large.ckpt"], "Expected embeddings and clues of finite numbers"),
        (["--device", "abacus"], "abacus"),
        (["--ray", "--workers", "0"], "Expected at least one worker (got 0)"),
        pytest.param(
            ["--ray", "--ray_address", "127.0.0.1:1"], "there is no Ray cluster at 127.0.0.1:1", marks=NEEDS_RAY
        ),
    ],
)
def test_what_is_refused_makes_no_gallery(folder, path, checkpoint, options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # what the command sets is taken back
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    (tmp_path / "upper.csv").write_text(f"path,Floor\n{next(folder.rglob('*.jpg'))},2\n")
    pyarrow.parquet.write_table(pyarrow.table({"path": [7, 8]}), tmp_path / "numbers.parquet")
    state = torch.load(checkpoint, weights_only=True)["model"]
    diverged(tmp_path / "diverged.ckpt", checkpoint, next(iter(state)))
    diverged(tmp_path / "half.ckpt", checkpoint, next(name for name in state if "expansion" in name))
    diverged(tmp_path / "large.ckpt", checkpoint, next(iter(state)), 3e38)
    index = ["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint), *options]
    assert search(index) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") <= 5
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["index", "crops", "--gallery", "", "--checkpoint", "best.ckpt"], "--gallery"),
        (["index", "", "--gallery", "people.lance", "--checkpoint", "best.ckpt"], "folder"),
        (["index", "crops", "--gallery", "people.lance", "--checkpoint", ""], "--checkpoint"),
        (["index", "crops", "--gallery=people.lance", "--metadata="], "--metadata"),
        (["stats", "--gallery="], "--gallery"),
        (["query", "a.jpg", "--gallery", "people.lance", "--figure", ""], "--figure"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(folder, arguments, named, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint, "best.ckpt")
    before = sorted(tmp_path.rglob("*"))
    assert search(arguments) == 2
    told = capsys.readouterr().err
    assert f"error: argument {named}: Expected a path (got an empty string)" in told and told.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    for make in (lambda: Gallery.create("", checkpoint), lambda: Gallery.open("")):
        with pytest.raises(ValueError, match=r"Expected a gallery's folder \(got an empty string\)"):
            make()


@pytest.mark.parametrize("many", [2**31, 2**32, 10**30])
def test_more_hits_than_there_are_pictures_is_all_of_them(shown_gallery, pictures, many, capsys):
    query = ["query", str(pictures[0]), "--gallery", str(shown_gallery.path), "--json", "--top_k"]
    assert search([*query, str(many)]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(pictures)
    assert search([*query, "3", "--first_stage", str(many)]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = shown_gallery.search(pictures[0], top_k=3, first_stage=len(pictures))
    assert [hit["image"] for hit in found] == [hit.image for hit in expected]


def test_help_explains_itself(capsys):
    assert search([]) == 0
    assert "index FOLDER --gallery people.lance" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        search(["query", "--help"])
    assert "--first_stage" in capsys.readouterr().out


def test_the_figure_of_a_picture_is_a_picture(folder, path, checkpoint, tmp_path):
    assert search(["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint)]) == 0
    picture = str(next(folder.rglob("*.jpg")))
    assert search(["query", picture, "--gallery", str(path), "--figure", str(tmp_path / "hits.png")]) == 0
    with Image.open(tmp_path / "hits.png") as figure:
        assert figure.format == "PNG" and min(figure.size) > 300
