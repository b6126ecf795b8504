"""What a benchmark prints and leaves."""

import csv

import pytest
from matplotlib.figure import Figure

from benchmarks import results_file
from benchmarks.results_file import save_results

ROWS = [{"name": "first", "count": 7, "time": 1.23456}, {"name": "b", "count": 1200, "time": 13370.2}]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "_FOLDER", tmp_path / "results")
    return tmp_path / "results"


def test_the_table_is_aligned(capsys):
    save_results("bench", ROWS, None, quick=False)
    lines = capsys.readouterr().out.splitlines()[1:4]
    assert lines == ["name   count   time", "first      7  1.235", "b       1200  13370"]


def test_numbers_that_the_caller_formatted_stand_right_too(capsys):
    save_results("bench", [{"ms": "1.50"}, {"ms": "113.25"}, {"ms": None}], None, quick=False)
    assert capsys.readouterr().out.splitlines()[1:4] == ["    ms", "  1.50", "113.25"]


def test_the_csv_says_where_it_comes_from_and_holds_the_rows(folder):
    path = save_results("bench", ROWS, None, quick=False)
    first, *lines = path.read_text().splitlines()
    assert path == folder / "bench.csv"
    assert first.startswith("# ") and "torch" in first and "commit" in first
    assert list(csv.DictReader(lines)) == [
        {"name": "first", "count": "7", "time": "1.235"},
        {"name": "b", "count": "1200", "time": "13370"},
    ]


def test_quick_files_have_their_own_names_and_nothing_else_is_left(folder):
    save_results("bench", ROWS, Figure(), quick=True)
    assert sorted(path.name for path in folder.iterdir()) == ["bench_quick.csv", "bench_quick.png"]
    assert (folder / "bench_quick.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_fails_leaves_the_older_one(folder, monkeypatch):
    save_results("bench", ROWS, Figure(), quick=False)
    before = (folder / "bench.png").read_bytes()
    broken = Figure()
    monkeypatch.setattr(broken, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_results("bench", ROWS, broken, quick=False)
    assert (folder / "bench.png").read_bytes() == before
    assert len(list(folder.iterdir())) == 2


def test_no_rows_and_rows_that_differ_are_errors():
    with pytest.raises(ValueError, match="at least one row"):
        save_results("bench", [], None, quick=False)
    with pytest.raises(ValueError, match=r"got \['b'\] in row 1"):
        save_results("bench", [{"a": 1}, {"b": 2}], None, quick=False)
