"""The table in the documentation is what the measured results say."""

from pathlib import Path

import pytest

from benchmarks.scale import MODELS, SHARD, Measured, flop_of, options, reckon, table

DOCS = Path(__file__).parents[2] / "docs"


def test_the_documentation_has_todays_table():
    assert table(options([])) in (DOCS / "scale.md").read_text(), "paste what python -m benchmarks.scale prints"


def test_arithmetic_by_hand():
    measured = Measured(bytes=10_000, encoded=100, index_hours=0.5, query_ms=20, pairs_ms=30, flop=1e9)
    found = dict(reckon(3 * SHARD - 5, measured, options(["--core_hour", "0.1", "--queries", "2"])))
    assert found["on disk, with the index"] == "300 GB"
    assert found["encoding on CPUs"] == "83 core hours, $8.3"  # 3e7 / 100 / 3600
    assert found["making the indexes"] == "1.5 core hours, $0.15"  # three galleries
    assert found["a query"].startswith("0.1 core seconds")  # 1 / 100 s + 3 · 20 + 30 ms
    assert found["machines (64 cores, 8 TB), 2 queries a second"].startswith("1, ")


def test_a_gpu_is_paid_with_the_cores_that_decode_for_it():
    measured = Measured(bytes=10_000, encoded=100, index_hours=0.5, query_ms=20, pairs_ms=30, flop=1e9)
    prices = options(["--gpu_hour", "2", "--core_hour", "0.1", "--machine_cores", "10", "--decoded", "500"])
    found = dict(reckon(3_600_000, measured, prices))
    assert found["encoding on a GPU and the 10 cores that decode for it, arithmetic"] == "0.2 hours, $0.6"


@pytest.mark.parametrize("size", ["-4", "0", "1.5", "nan", "inf", "many"])
def test_a_size_is_a_number_of_pictures(size, capsys):
    with pytest.raises(SystemExit):
        options(["--sizes", size])
    assert "Expected a number of pictures" in capsys.readouterr().err
    assert options(["--sizes", "5e7"]).sizes == [50_000_000]


@pytest.mark.parametrize("name", MODELS)
def test_operations_are_counted(name):
    flop = flop_of(MODELS[name][1])
    assert flop == pytest.approx({"small CNN, 96 × 48": 6.2e7, "ResNet-50, 384 × 128": 1.2e10}[name], rel=0.1)
