"""Draws pictures next to their label maps, for inspection."""

from pathlib import Path

import numpy as np
from PIL import Image

from cace_pyg.data.mediapipe_parser import COLOURS
from cace_pyg.data.part_map import part_map_path
from cace_pyg.read_picture import read_picture

_HEIGHT, _GAP, _COLUMNS = 192, 6, 8  # pixels; pairs in a row


def part_sheet(pictures: list[Path], limit: int = 32) -> Image.Image:
    """``limit`` of the pictures, evenly chosen, each next to its map in colours; those without a map are left out.

    Raises:
        ValueError: no picture has a map.
    """
    there = [path for path in pictures if part_map_path(path).is_file()]
    if not there:
        raise ValueError(f"Expected pictures with label maps to draw (got {len(pictures)} without)")
    chosen = [there[i * len(there) // min(limit, len(there))] for i in range(min(limit, len(there)))]
    tiles = [_tile(path) for path in chosen]
    wide = max(tile.width for tile in tiles) + _GAP
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (min(len(tiles), _COLUMNS) * wide + _GAP, rows * (_HEIGHT + _GAP) + _GAP), "white")
    for place, tile in enumerate(tiles):
        row, column = divmod(place, _COLUMNS)
        sheet.paste(tile, (_GAP + column * wide, _GAP + row * (_HEIGHT + _GAP)))
    return sheet


def _tile(path: Path) -> Image.Image:
    picture = read_picture(path)
    with Image.open(part_map_path(path), formats=["PNG"]) as labels:
        width = max(1, round(picture.width * _HEIGHT / picture.height))
        colours = Image.fromarray(np.array(labels))  # indices, whatever their colours
        colours.putpalette(COLOURS)
        tile = Image.new("RGB", (2 * width, _HEIGHT), "white")
        tile.paste(picture.resize((width, _HEIGHT)), (0, 0))
        tile.paste(colours.resize((width, _HEIGHT), Image.Resampling.NEAREST).convert("RGB"), (width, 0))
    return tile
