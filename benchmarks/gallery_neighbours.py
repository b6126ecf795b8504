"""The cost of stored neighbours in a gallery: making them, a query with and without them, and adding a picture.

The gallery is that of ``benchmarks.gallery_search``: rendered pictures are really indexed, and larger galleries are
filled with synthetic entries; queries are rendered pictures of other people. The pair stage measures the lists of
galleries up to ``--measured``; above that, conditional distances are random, which does not change the time of a query.
Embedding the query is not included. The lists are read into memory once (``load_s``), by the first query after a
change.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.gallery_search import SyntheticEntries, random_checkpoint
from benchmarks.results_file import save_results
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.gallery import Gallery
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.stored_pair_stage import StoredPairStage
from cace_pyg.viz.style import SERIES

_STAGES = ("first_stage", "second_stage", "neighbours")


class Pairs:
    """Replaces the pair stage in a gallery's lists, and counts the measured pairs."""

    def __init__(self, drawn: bool):
        self.drawn, self.count, self.real = drawn, 0, StoredPairStage.between
        self.random = torch.Generator().manual_seed(0)

    def __call__(self, stage: StoredPairStage, table: GalleryTable, rows: list[dict]) -> Callable:
        some = self.real(stage, table, rows)

        def of(positions: Sequence[int]) -> Callable:
            distances = None if self.drawn else some(positions)

            def measure(position: int, others: np.ndarray) -> torch.Tensor:
                self.count += len(others)
                return (
                    torch.rand(len(others), generator=self.random) if distances is None else distances(position, others)
                )

            return measure

        return of


def keep(gallery: Gallery, drawn: bool) -> tuple[float, int]:
    """Complete the lists; returns seconds and pairs."""
    pairs = Pairs(drawn)
    with patch.object(StoredPairStage, "between", lambda *told: pairs(*told)):
        started = time.perf_counter()
        gallery.keep_neighbours()
        return time.perf_counter() - started, pairs.count


def latency(gallery: Gallery, queries: list[Path], neighbours: bool) -> dict[str, float]:
    """Milliseconds of a query without its embedding, and of each stage."""
    spent: dict[str, list[float]] = {stage: [] for stage in ("query", *_STAGES[: 3 if neighbours else 2])}
    for query in queries:
        seconds = dict(gallery.search(query, top_k=10, first_stage=100, neighbours=neighbours).seconds)
        del seconds["embedding"]
        for stage, elapsed in (seconds | {"query": sum(seconds.values())}).items():
            spent[stage].append(1e3 * elapsed)
    which = "with" if neighbours else "without"
    told = {f"{which}_p50_ms": float(np.median(spent["query"]))}
    told[f"{which}_p95_ms"] = float(np.quantile(spent["query"], 0.95))
    if neighbours:
        told["neighbours_p50_ms"] = float(np.median(spent["neighbours"]))
    return told


def plot(rows: list[dict]) -> Figure:
    """Latency against the gallery's size."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [row["images"] for row in rows]
    for which, colour, marker in (("without", SERIES[0], "o"), ("with", SERIES[3], "s")):
        label = f"{which} neighbours"
        axes.plot(sizes, [row[f"{which}_p50_ms"] for row in rows], color=colour, marker=marker, label=f"{label}, p50")
        axes.plot(sizes, [row[f"{which}_p95_ms"] for row in rows], color=colour, ls=":", label=f"{label}, p95")
    axes.set(xscale="log", yscale="log", xlabel="images in the gallery", ylabel="milliseconds of a query")
    axes.legend(fontsize=8)
    return figure


def run(options: argparse.Namespace, rest: list[str], folder: Path) -> list[dict]:
    """Index real pictures, then fill up, keep neighbours and measure at every size."""
    settings = SyntheticSettings(
        train_identities=12 if options.quick else 100, test_identities=4 if options.quick else 20,
        images_per_identity=8, distractors=0, junk=0, seed=7,
    )  # fmt: skip
    splits = read_market_layout(make_synthetic(folder / "pictures", settings, progress=False))
    checkpoint = options.checkpoint or random_checkpoint(folder / "random.ckpt", ["--config", options.config, *rest])
    queries = [sample.path for sample in splits.query][: options.queries]
    pids, more = [sample.pid for sample in splits.train], [sample.path for sample in splits.gallery]
    rows = []
    for size in options.sizes:
        gallery = Gallery.create(folder / f"{size}.lance", checkpoint)
        gallery.embedder.fusion_weight = gallery.embedder.fusion_weight or 0.5  # so that the second stage runs
        gallery.add([sample.path for sample in splits.train], metadata=[{"metadata_pid": pid} for pid in pids])
        SyntheticEntries(gallery, pids).fill(gallery, size)
        gallery.optimize()
        drawn = size > options.measured
        seconds, pairs = keep(gallery, drawn)
        gallery.optimize()
        latency(gallery, queries[:1], neighbours=False)  # warm
        without = latency(gallery, queries, neighbours=False)
        started = time.perf_counter()
        latency(gallery, queries[:1], neighbours=True)
        loaded = time.perf_counter() - started
        with_neighbours = latency(gallery, queries, neighbours=True)
        gallery.add(more[:1])
        one_more, its_pairs = keep(gallery, drawn)
        row = {
            "model": Path(options.config).stem if options.checkpoint is None else "checkpoint",
            "images": len(gallery) - 1,
            **without,
            **with_neighbours,
            "load_s": loaded,
            "keep_s": seconds,
            "pairs_per_image": pairs / size,
            "pairs": "drawn" if drawn else "measured",
            "one_more_s": one_more,
            "one_more_pairs": its_pairs,
            "bytes_per_image": gallery.stats()["neighbours"]["bytes_on_disk"] / len(gallery),
        }
        print({name: value if isinstance(value, str) else round(value, 3) for name, value in row.items()}, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gallery_neighbours", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--measured", type=int, default=10_000, help="largest gallery whose pairs are measured")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--checkpoint", type=Path, help="of a trained model (default: random weights)")
    parser.add_argument("--config", default="configs/synthetic.yaml", help="of the random weights")
    parser.add_argument("--quick", action="store_true", help="seconds: 500 and 1,000 entries; written to *_quick")
    options, rest = parser.parse_known_args()
    if options.quick:
        options.sizes, options.queries, options.measured = [500, 1_000], 5, 500
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = run(options, rest, Path(folder))
    save_results("gallery_neighbours", rows, plot(rows), options.quick)


if __name__ == "__main__":
    main()
