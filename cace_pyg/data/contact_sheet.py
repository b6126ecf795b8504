"""A page with pictures of the built-in data set."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP, _CAPTION = 4, 14  # pixels
_INK, _PAPER = (40, 40, 40), (255, 255, 255)


def contact_sheet(root: str | Path, rows: int = 6, columns: int = 8) -> Image.Image:
    """The first `rows` test identities with `columns` pictures each, then the first again with its label maps.

    Identities are numbered family by family, so people in neighbouring rows are dressed alike and differ in details.

    Args:
        root: a folder that `make_synthetic` made.

    Raises:
        FileNotFoundError: `root` has no details.json.
    """
    root = Path(root)
    record = root / "details.json"
    if not record.is_file():
        raise FileNotFoundError(
            f"root: expected a synthetic data set with details.json (got {root}); make_synthetic makes one"
        )
    details = json.loads(record.read_text())
    people = _people(details, rows, columns)
    grid = [[_open(root, name) for name in names] for names in people]
    grid.append([_overlay(root, name) for name in people[0]])
    captions = [[_caption(details["images"][name]) for name in names] for names in [*people, people[0]]]
    return _lay_out(grid, captions)


def _people(details: dict[str, Any], rows: int, columns: int) -> list[list[str]]:
    """Names of the pictures of the first test identities, by pid."""
    by_pid: dict[int, list[str]] = {}
    for name, entry in details["images"].items():
        if entry["pid"] > 0 and not name.startswith("bounding_box_train/"):
            by_pid.setdefault(entry["pid"], []).append(name)
    return [sorted(by_pid[pid], key=lambda name: Path(name).name)[:columns] for pid in sorted(by_pid)[:rows]]


def _caption(entry: dict[str, Any]) -> str:
    return f"c{entry['camera']} {entry['view']}"


def _open(root: Path, name: str) -> Image.Image:
    return Image.open(root / name, formats=["JPEG"]).convert("RGB")


def _overlay(root: Path, name: str) -> Image.Image:
    """The picture in grey, with the colours of its label map on top."""
    folder, file = name.split("/")
    label_map = Image.open(root / "parts" / folder / file.replace(".jpg", ".png"), formats=["PNG"])
    grey = _open(root, name).convert("L").convert("RGB")
    mixed = Image.blend(grey, label_map.convert("RGB"), 0.6)
    person = Image.fromarray((np.asarray(label_map) > 0).astype(np.uint8) * 255)
    return Image.composite(mixed, grey, person)


def _lay_out(grid: list[list[Image.Image]], captions: list[list[str]]) -> Image.Image:
    width, height = grid[0][0].size
    step_x, step_y = width + _GAP, height + _GAP + _CAPTION
    columns = max(len(row) for row in grid)
    sheet = Image.new("RGB", (columns * step_x + _GAP, len(grid) * step_y + _GAP), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for y, row in enumerate(grid):
        for x, picture in enumerate(row):
            corner = (_GAP + x * step_x, _GAP + y * step_y)
            sheet.paste(picture, corner)
            draw.text((corner[0], corner[1] + height), captions[y][x], _INK, font)
    return sheet
