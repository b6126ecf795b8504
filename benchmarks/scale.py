"""The cost of galleries of millions and billions of pictures, computed from the measured results of other benchmarks.

Measured, and read from ``benchmarks/results``: pictures indexed per second and core, bytes per picture, the time to
make the index of ten million drawn entries, its bytes, and both stages' time for a query. Everything else is
arithmetic. A larger gallery consists of galleries of ten million pictures, each searched for every query; the second
stage compares the nearest of all galleries, and the query's own picture is encoded, too. The time to encode on a GPU is
the network's counted operations divided by a share of the device's published rate, or the time to decode on a machine's
cores if that is longer; both are paid for. Prices are inputs, not facts.
"""

import argparse
import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.engine.build import build_model

RESULTS = Path(__file__).parent / "results"
_HOURS_OF_A_MONTH = 730
SHARD = 10_000_000  # pictures; the largest index that was measured
_THREADS = 2  # that made the index
MODELS = {  # results file, options of the network whose operations are counted, channels relative to the index's 256
    "small CNN, 96 × 48": ("gallery_search.csv", ["--config", "configs/synthetic.yaml"], 1),
    "ResNet-50, 384 × 128": (
        "gallery_search_resnet50.csv",
        ["--config", "configs/market1501_paper.yaml", "--graph.form=released", "--backbone.weights=null"],
        3,
    ),
}


@dataclass(frozen=True)
class Measured:
    """Measured figures of one model, on one core.

    Attributes:
        bytes: on disk per picture, with the index.
        encoded: pictures per second: decoded, embedded and committed.
        index_hours: core hours to make the index of a shard.
        query_ms: core milliseconds of a query in one shard, stage one.
        pairs_ms: core milliseconds of a query, stage two.
        flop: operations of the backbone per picture (counted; a multiplication with its addition is two).
    """

    bytes: float
    encoded: float
    index_hours: float
    query_ms: float
    pairs_ms: float
    flop: float

    @classmethod
    def read(cls, name: str) -> "Measured":
        """Read the results of ``benchmarks.gallery_search`` and ``benchmarks.first_stage``."""
        file, arguments, wider = MODELS[name]
        own = _rows(file)
        largest = own[max(own)]
        index = _index_of_a_shard()
        return cls(
            largest["bytes_per_image"] + wider * index["index_bytes_an_image"],
            largest["images_a_second"],
            wider * _THREADS * index["making_s"] / 3600,
            wider * index["core_ms"],
            largest["second_stage_p50_ms"],
            flop_of(arguments),
        )


def _index_of_a_shard() -> dict[str, float]:
    """The index that a gallery makes, with as many probes as it searches."""
    asked = {"images": str(SHARD), "index": "IvfRq", "probes": "800", "refine": "2"}
    (row,) = (row for row in _read("first_stage_ten_million.csv") if asked.items() <= row.items())
    return {name: float(value) for name, value in row.items() if name != "index"}


def _rows(file: str) -> dict[int, dict[str, float]]:
    """Results by the gallery's size."""
    words = ("model", "indexed")
    return {int(row["images"]): {name: float(row[name]) for name in row if name not in words} for row in _read(file)}


def _read(file: str) -> list[dict[str, str]]:
    with (RESULTS / file).open(newline="") as opened:
        return list(csv.DictReader(line for line in opened if not line.startswith("#")))


def flop_of(arguments: Sequence[str]) -> float:
    """Operations of a configuration's individual branch for one picture."""
    parser = config_parser("train", "")
    config = config_of(parse(parser, list(arguments)), parser)
    model = build_model(config, 2, pretrained=False).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(torch.zeros(1, 3, config.data.height, config.data.width))
    return counted.get_total_flops()


def reckon(pictures: int, measured: Measured, prices: argparse.Namespace) -> list[tuple[str, str]]:
    """The cost of a gallery: names and values."""
    shards = -(-pictures // SHARD)
    core_hours = pictures / measured.encoded / 3600
    network = measured.flop / (prices.gpu_share * prices.gpu_tflops * 1e12)  # seconds a picture
    gpu_hours = pictures * max(network, 1 / (prices.decoded * prices.machine_cores)) / 3600
    index_hours = shards * measured.index_hours
    gpu_and_cores = prices.gpu_hour + prices.machine_cores * prices.core_hour  # $ an hour
    query_seconds = 1 / measured.encoded + (shards * measured.query_ms + measured.pairs_ms) / 1000
    stored = pictures * measured.bytes
    by_disk = stored / (prices.machine_tb * 1e12)
    by_cores = prices.queries * query_seconds / prices.machine_cores
    machines = math.ceil(max(by_disk, by_cores))
    return [
        ("operations to encode it, counted", f"{_number(pictures * measured.flop / 1e18)} × 10¹⁸"),
        ("on disk, with the index", _bytes(stored)),
        ("a month of it on object storage", _money(stored / 1e9 * prices.storage_gb_month)),
        ("encoding on CPUs", f"{_number(core_hours)} core hours, {_money(core_hours * prices.core_hour)}"),
        (
            f"encoding on a GPU and the {prices.machine_cores} cores that decode for it, arithmetic",
            f"{_number(gpu_hours)} hours, {_money(gpu_hours * gpu_and_cores)}",
        ),
        ("making the indexes", f"{_number(index_hours)} core hours, {_money(index_hours * prices.core_hour)}"),
        (f"galleries of {SHARD:,}", f"{shards:,}"),
        ("a query", f"{_number(query_seconds)} core seconds, {_money(query_seconds / 3600 * prices.core_hour)}"),
        (
            f"machines ({prices.machine_cores} cores, {prices.machine_tb:g} TB), {prices.queries:g} queries a second",
            f"{machines:,}, {_money(machines * prices.machine_cores * prices.core_hour * _HOURS_OF_A_MONTH)} a month",
        ),
    ]


def table(prices: argparse.Namespace) -> str:
    """Markdown: a column for each model and size."""
    columns = [
        (f"{name}: {size:,}", dict(reckon(size, measured, prices)))
        for name, measured in ((name, Measured.read(name)) for name in MODELS)
        for size in prices.sizes
    ]
    lines = ["| pictures | " + " | ".join(title for title, _ in columns) + " |", "| --- |" + " --- |" * len(columns)]
    for name in columns[0][1]:
        lines.append(f"| {name} | " + " | ".join(values[name] for _, values in columns) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    """A number with two significant digits."""
    return f"{float(f'{value:.2g}'):,.10g}"


def _money(dollars: float) -> str:
    return f"${_number(dollars)}"


def _bytes(count: float) -> str:
    return f"{_number(count / 1e12)} TB" if count >= 1e12 else f"{_number(count / 1e9)} GB"


def _size(text: str) -> int:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not (size >= 1 and size.is_integer()):
        raise argparse.ArgumentTypeError(f"Expected a number of pictures, such as 50000000 or 5e7 (got {text})")
    return int(size)


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Sizes and prices."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=[10**7, 10**9], help="pictures (default: 10000000 1000000000)"
    )
    parser.add_argument("--queries", type=float, default=10, help="a second (default: 10)")
    parser.add_argument("--core_hour", type=float, default=0.05, help="$ for a CPU core (default: 0.05)")
    parser.add_argument("--gpu_hour", type=float, default=3, help="$ for a GPU (default: 3)")
    parser.add_argument("--storage_gb_month", type=float, default=0.023, help="$ for a GB and month (default: 0.023)")
    parser.add_argument("--gpu_tflops", type=float, default=989, help="published bf16 rate (default: 989, an H100)")
    parser.add_argument(
        "--gpu_share", type=float, default=0.3, help="share of that rate that is reached (default: 0.3)"
    )
    parser.add_argument("--decoded", type=float, default=1000, help="pictures per second and core (default: 1000)")
    parser.add_argument("--machine_cores", type=int, default=64, help="(default: 64)")
    parser.add_argument("--machine_tb", type=float, default=8, help="TB of its disk (default: 8)")
    parser.add_argument("--quick", action="store_true", help="the same; it takes a second")
    return parser.parse_args(arguments)


def main() -> None:
    print(table(options()))


if __name__ == "__main__":
    main()
