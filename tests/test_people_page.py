"""docs/people.md: its commands and its program run, in order."""

import re
import shlex
import shutil
from pathlib import Path

from cace_pyg import Gallery
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.checkpoint import load_checkpoint, save_checkpoint
from cace_pyg.gallery.people import People
from cace_pyg.retrieval import Calibration
from tests.random_checkpoint import make_checkpoint
from tests.run_module import run_module

FOLDER = Path(__file__).parents[1] / "docs"
PAGE = (FOLDER / "people.md").read_text()


def calibrated(path, tiny):
    numbers = {"neighbours.candidates": 9, "k_reciprocal.k1": 6, "k_reciprocal.k2": 3}
    state = load_checkpoint(make_checkpoint(path, tiny, **numbers))
    line, weight = ((0.0, 31.7), (1.0, -68.3)), state["fusion_weight"]
    curve = Calibration("logistic", line, weight, 100, 50, 30, 1000.0, 0.01, ((0.5, 30.0),), (0.0, 1.0))
    del state["format"]
    save_checkpoint(path, state | {"calibration": curve.as_dict()})


def test_every_block_runs_in_order(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calibrated(tmp_path / "RUN_DIR" / "checkpoints" / "best.ckpt", tiny)
    shutil.copytree(tiny / "bounding_box_test", "FOLDER")
    a, b = sorted(Path("FOLDER").glob("*.jpg"))[4:6]
    blocks = re.findall(r"```(python)?\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 6 and [kind for kind, _ in blocks].count("python") == 1
    for kind, text in blocks:
        if kind:
            exec(text, {})
            continue
        for line in text.splitlines():
            words = [{"A.jpg": str(a), "B.jpg": str(b)}.get(word, word) for word in shlex.split(line)]
            assert words[:2] == ["python", "-m"]
            if "cace_pyg.calibrate" in words:  # two people are too few: more is said
                people = People(Gallery.open("people.lance"))
                name = {row["image"]: row for row in people.gallery.told()}
                images = sorted(name)[:16]
                for first, second in zip(images[::2], images[1::2], strict=True):
                    people.say(first, second, Path(first).name[:4] == Path(second).name[:4])
                people.identify()
                people.export("corrections")
            assert run_module(*words[2:]) == 0, line
    printed = capsys.readouterr().out
    assert "people on" in printed and "sightings" in printed and "removed:" in printed
    assert (tmp_path / "person.png").stat().st_size > 5_000 and (tmp_path / "mine.ckpt").is_file()
    assert read_market_layout(tiny).gallery  # its pictures are where they were


def test_its_options_are_options_and_its_picture_is_there(capsys):
    run_module("cace_pyg.identify", "--help")
    told = capsys.readouterr().out
    for option in re.findall(r"`(--[a-z_]+)", PAGE):
        assert option in told or option in ("--host", "--neighbours", "--where"), option
    for picture in re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE):
        assert (FOLDER / picture).stat().st_size > 5_000
