"""The benchmark of people found."""

import csv
from pathlib import Path

import benchmarks
from tests.run_module import run_module


def test_it_runs_and_average_linkage_is_better_than_chains_of_random_people(capsys):
    assert run_module("benchmarks.identify", "--quick", "--no_dbscan") == 0
    file = Path(benchmarks.__file__).parent / "results" / "identify_quick.csv"
    rows = list(csv.DictReader(line for line in file.read_text().splitlines() if not line.startswith("#")))
    f1 = {row["method"]: float(row["bcubed_f1"]) for row in rows if row["pictures"].startswith("gallery")}
    chained, _, default, chosen = f1.values()
    assert default > chained and chosen >= default - 5
