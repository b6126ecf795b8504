"""Label maps of public human-parsing data sets, read as our body parts."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cace_pyg.data.part_map import LABELS, common_parts, part_map_path, read_part_map
from cace_pyg.data.rendering.pedestrian import PART_NAMES
from cace_pyg.data.sample import Sample

SIZES = {"lip": 20, "pascal_person_part": 7, "atr": 18}
DOCUMENT = Path(__file__).parents[2] / "docs" / "data.md"


@pytest.mark.parametrize(("palette", "classes"), SIZES.items())
def test_every_label_is_a_part(palette, classes):
    parts = common_parts(torch.arange(classes, dtype=torch.uint8), palette)
    assert parts[0] == 0 and parts[1:].min() >= 1 and parts.max() < len(PART_NAMES) and parts.dtype == torch.uint8
    with pytest.raises(ValueError, match=rf"labels 0 to {classes - 1} of the palette {palette} \(got {classes}\)"):
        common_parts(torch.tensor([classes], dtype=torch.uint8), palette)


@pytest.mark.parametrize(
    ("palette", "label", "name", "part"),
    [
        ("lip", 2, "Hair", "head"),
        ("lip", 5, "Upper-clothes", "torso"),
        ("lip", 9, "Pants", "legs"),
        ("lip", 13, "Face", "head"),
        ("lip", 14, "Left-arm", "arms"),
        ("lip", 18, "Left-shoe", "feet"),
        ("pascal_person_part", 1, "Head", "head"),
        ("pascal_person_part", 4, "Lower Arms", "arms"),
        ("pascal_person_part", 6, "Lower Legs", "legs"),
        ("atr", 4, "Upper-clothes", "torso"),
        ("atr", 6, "Pants", "legs"),
        ("atr", 9, "Left-shoe", "feet"),
        ("atr", 11, "Face", "head"),
        ("atr", 16, "Bag", "carried"),
        ("atr", 17, "Scarf", "torso"),
    ],
)
def test_well_known_labels(palette, label, name, part):
    assert list(LABELS[palette])[label] == name
    assert PART_NAMES[common_parts(torch.tensor([label], dtype=torch.uint8), palette)] == part


def test_the_document_has_every_label():
    text = DOCUMENT.read_text()
    rows = {row.split("|")[1].strip(" `"): row.split("|")[2:-1] for row in text.splitlines() if row.startswith("| `")}
    for palette, labels in LABELS.items():
        cells = [cell.strip() for cell in rows[palette]]
        written = {name: part for part, cell in enumerate(cells, start=1) for name in cell.split(", ") if cell != "–"}
        assert written == {name: part for name, part in labels.items() if part}


def test_labels_of_our_own_are_left_alone():
    labels = torch.tensor([200], dtype=torch.uint8)
    assert common_parts(labels, "as_is") is labels
    with pytest.raises(ValueError, match="Expected a palette as_is, lip, pascal_person_part, atr .got 'cihp'"):
        common_parts(labels, "cihp")


def test_a_map_of_another_palette_is_named(tmp_path):
    sample = Sample(tmp_path / "query" / "1.jpg", 1, 1)
    path = part_map_path(sample.path)
    path.parent.mkdir(parents=True)
    Image.new("L", (4, 8), 19).save(path)
    assert (read_part_map(sample, (8, 4), "lip") == 5).all()
    with pytest.raises(ValueError, match=r"1.png: .* 0 to 17 of the palette atr \(got 19\).*data.part_palette"):
        read_part_map(sample, (8, 4), "atr")
