"""What names and tables tell of pictures: words stay words, numbers numbers, and nothing stays nothing."""

from pathlib import Path

import pytest

from cace_pyg.gallery.picture_facts import facts_from_names, facts_from_table

FOLDER = Path("/pictures")


def told(column, *cells, folder):
    """A column of a table, and of file names, as the gallery gets it."""
    pictures = [folder / f"{number}.jpg" for number in range(len(cells))]
    rows = [f"{number}.jpg,{cell}" for number, cell in enumerate(cells)]
    (folder / "table.csv").write_text("\n".join([f"path,{column}", *rows]) + "\n")
    return facts_from_table(pictures, folder, folder / "table.csv")


def column(*cells, folder):
    return [fields.get("badge") for fields in told("badge", *cells, folder=folder).metadata]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("7", "12", "-1"), [7, 12, -1]),
        (("7.5", "12.0", "0.001"), [7.5, 12.0, 0.001]),
        (("7.5", "12"), [7.5, 12.0]),
        (("5_11", "51_1"), ["5_11", "51_1"]),
        (("021", "21"), ["021", "21"]),
        (("1.10", "1.1"), ["1.10", "1.1"]),
        (("1_0.5", "2.5"), ["1_0.5", "2.5"]),
        (("12345678901234567890", "1"), ["12345678901234567890", "1"]),  # as floats the last digits would go
        (("inf", "1"), ["inf", "1"]),
        (("7", "", "nan", "NaN", "<NA>"), [7, None, None, None, None]),
    ],
)
def test_a_column_is_numbers_where_they_read_back_the_same(cells, expected, tmp_path):
    found = column(*cells, folder=tmp_path)
    assert found == expected and [type(badge) for badge in found] == [type(badge) for badge in expected]


def test_words_in_names_are_no_numbers_either():
    pictures = [FOLDER / "5_11.jpg", FOLDER / "51_1.jpg"]
    found = facts_from_names(pictures, FOLDER, r"(?P<badge>\d+_\d+)")
    assert [fields["badge"] for fields in found.metadata] == ["5_11", "51_1"]


def test_a_camera_is_one_word_however_the_table_was_written(tmp_path):
    assert told("camera", "3.0", "", "nan", "021", "hall", folder=tmp_path).camera == ["3", None, None, "021", "hall"]
    pandas_like = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {"path": ["0.jpg", "1.jpg"], "camera": [1234567.0, float("nan")]}
    parquet.write_table(pandas_like.table(rows), tmp_path / "table.parquet")
    pictures = [tmp_path / "0.jpg", tmp_path / "1.jpg"]
    assert facts_from_table(pictures, tmp_path, tmp_path / "table.parquet").camera == ["1234567", None]
