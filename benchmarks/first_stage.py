"""The first stage in large galleries: recall, latency, bytes and making time of several indexes.

Entries are drawn as in `benchmarks.gallery_search`, with the covariance of the model's own embeddings, eight of each
person; queries are rendered pictures of other people. The rows are those of a gallery, but without clues and
thumbnails, which the first stage does not read. Recall is the share of the exact 100 nearest (brute force over the
same half-precision embeddings) among the 100 that the index finds; candidates are sorted by the stored embeddings.
Indexes have the names of `lancedb.index`; for each, the number of partitions that are searched (probes) varies.
``none`` searches exhaustively.

Core milliseconds are the processor time of all threads. Ten million entries take 8 GB in --folder. Without --checkpoint
the weights are random: speeds are the same, but recall is not.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.gallery_search import SyntheticEntries, random_checkpoint
from benchmarks.results_file import save_results
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.gallery import Gallery
from cace_pyg.viz.style import series_style

_WANTED = 100
_STEP = 500_000  # entries whose exact distances are computed at once
_SLOW = ("HnswSq", "IvfPq")
_INDEXES = ("none", "HnswSq", "IvfPq", "IvfRq", "IvfSq")


class Exact:
    """The exact nearest entries of some queries, kept up to date while entries are added."""

    def __init__(self, queries: torch.Tensor):
        self.queries = queries
        self.score = torch.empty(len(queries), 0)
        self.entry = torch.empty(len(queries), 0, dtype=torch.long)
        self.size = 0

    def add(self, embeddings: np.ndarray) -> None:
        for part in np.array_split(embeddings, max(1, len(embeddings) // 100_000)):
            unit = torch.nn.functional.normalize(torch.from_numpy(part).float(), dim=-1)
            entries = torch.arange(self.size, self.size + len(part)).expand(len(self.queries), -1)
            scores = torch.cat([self.score, self.queries @ unit.T], dim=1)
            self.score, place = scores.topk(min(_WANTED, scores.size(1)))
            self.entry = torch.cat([self.entry, entries], dim=1).gather(1, place)
            self.size += len(part)

    def recall(self, found: list[list[str]], names: dict[str, int]) -> float:
        """The mean share of the exact nearest that was found; names that are not in ``names`` end with their number."""
        shares = []
        for expected, images in zip(self.entry.tolist(), found, strict=True):
            numbers = {names[image] if image in names else int(Path(image).stem) for image in images}
            shares.append(len(numbers & set(expected)) / len(expected))
        return float(np.mean(shares))


def search(table: Any, queries: torch.Tensor, probes: int, refine: int) -> tuple[list[list[str]], list[float], float]:
    """The names of the nearest entries of each query, milliseconds of each, and core milliseconds of a query."""
    found, spent, of_cores = [], [], 0.0
    for number in (0, *range(len(queries))):  # the first one twice, to warm up
        started, before = time.perf_counter(), time.process_time()
        query = table.search(queries[number].numpy(), vector_column_name="embedding").distance_type("cosine")
        query = query.select(["image", "camera", "time", "embedding", "check_sums", "_distance"]).limit(_WANTED)
        if probes:
            query = query.nprobes(probes).refine_factor(refine)
        found.append(query.to_arrow()["image"].to_pylist())
        spent.append(1e3 * (time.perf_counter() - started))
        of_cores += 1e3 * (time.process_time() - before) if len(spent) > 1 else 0.0
    return found[1:], spent[1:], of_cores / len(queries)


def measure(table: Any, kind: str, exact: Exact, names: dict[str, int], options: argparse.Namespace) -> list[dict]:
    """Make an index, and measure it with several numbers of probes."""
    import lancedb.index

    started, seconds, size = time.perf_counter(), 0.0, 0
    folder = Path(table.uri)
    if kind != "none":
        before = _bytes(folder)
        settings: dict[str, Any] = {"distance_type": "cosine"}
        if kind == "IvfPq":
            settings["num_sub_vectors"] = exact.queries.size(1) // 4
        if kind == "IvfRq":
            settings["num_bits"] = options.bits
        table.create_index("embedding", config=getattr(lancedb.index, kind)(**settings), replace=True)
        seconds, size = time.perf_counter() - started, _bytes(folder) - before
    rows = []
    for probes in [0] if kind == "none" else options.probes:
        for refine in [1] if kind == "none" else options.refine:
            found, spent, of_cores = search(table, exact.queries, probes, refine)
            rows.append(
                {
                    "images": exact.size,
                    "index": kind,
                    "probes": probes,
                    "refine": refine,
                    "recall_at_100": exact.recall(found, names),
                    "p50_ms": float(np.median(spent)),
                    "p95_ms": float(np.quantile(spent, 0.95)),
                    "core_ms": of_cores,
                    "making_s": seconds,
                    "index_bytes_an_image": size / exact.size,
                }
            )
            print({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}, flush=True)
    if kind != "none":
        table.drop_index(next(index.name for index in table.list_indices() if index.columns == ["embedding"]))
    return rows


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(options: argparse.Namespace, folder: Path) -> list[dict]:
    """Index some pictures, then fill up and measure at every size."""
    identities = 12 if options.quick else 100
    settings = SyntheticSettings(
        train_identities=identities, test_identities=4 if options.quick else 20, images_per_identity=8, distractors=0,
        junk=0, seed=7,
    )  # fmt: skip
    splits = read_market_layout(make_synthetic(folder / "pictures", settings, progress=False))
    checkpoint = options.checkpoint or random_checkpoint(folder / "random.ckpt", ["--config", options.config])
    gallery = Gallery.create(folder / "people.lance", checkpoint)
    pids = [sample.pid for sample in splits.train]
    gallery.add([sample.path for sample in splits.train], metadata=[{"metadata_pid": pid} for pid in pids])
    entries = SyntheticEntries(gallery, pids)
    entries.blobs = [(b"", b"")]
    queries = gallery.embedder([sample.path for sample in splits.query][: options.queries]).embedding
    exact = Exact(torch.nn.functional.normalize(queries.float(), dim=-1))
    known = gallery._table.rows(None, ["image", "embedding"])
    names = {row["image"]: number for number, row in enumerate(known)}
    exact.add(np.array([row["embedding"] for row in known], np.float16))
    table, rows = gallery._table._table, []
    for size in options.sizes:
        while exact.size < size:
            exact.add(entries.fill(gallery, min(size, exact.size + _STEP)))
            print(f"{exact.size:,} entries", flush=True)
        gallery._table._table.optimize()
        for kind in options.indexes:
            if kind in _SLOW and size > options.slow_up_to:
                continue
            rows += measure(table, kind, exact, names, options)
    return rows


def plot(rows: list[dict]) -> Figure:
    """Recall against the median latency: a panel for each size, a curve for each index."""
    sizes = list(dict.fromkeys(row["images"] for row in rows))
    figure = Figure(figsize=(4.5 * len(sizes), 4), layout="constrained")
    refine = max(row["refine"] for row in rows if row["index"] != "none")
    for axes, size in zip(figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], sizes, strict=True):
        for kind in dict.fromkeys(row["index"] for row in rows):
            own = [row for row in rows if (row["images"], row["index"]) == (size, kind)]
            own = [row for row in own if kind == "none" or row["refine"] == refine]
            spent, share = ([row[name] for row in own] for name in ("p50_ms", "recall_at_100"))
            axes.plot(spent, share, label=kind, **series_style(_INDEXES.index(kind)))
        axes.set(xscale="log", xlabel="milliseconds, median of a query", title=f"{size:,} entries")
        axes.minorticks_off()
        axes.set_xticks([10, 30, 100, 300], ["10", "30", "100", "300"])
    figure.axes[0].set_ylabel("found of the exact 100 nearest")
    figure.axes[0].legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.first_stage", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000], help="ascending")
    parser.add_argument("--indexes", nargs="+", choices=_INDEXES, default=list(_INDEXES))
    parser.add_argument("--slow_up_to", type=int, default=1_000_000, help=f"entries; for {' and '.join(_SLOW)}, which "
                        "take long to make (default: 1000000)")  # fmt: skip
    parser.add_argument("--probes", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--refine", type=int, nargs="+", default=[2, 5], help="times as many candidates are sorted")
    parser.add_argument("--bits", type=int, default=4, help="of a channel in IvfRq (default: 4)")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--checkpoint", type=Path, help="of a trained model (default: random weights)")
    parser.add_argument("--config", default="configs/synthetic.yaml", help="of the random weights")
    parser.add_argument("--folder", type=Path, help="for the entries (default: the system's temporary folder)")
    parser.add_argument("--name", default="first_stage", help="of the results file")
    parser.add_argument("--quick", action="store_true", help="seconds: 5,000 entries; written to *_quick")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.queries, options.probes = [5_000], 5, [2]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = run(options, Path(folder))
    save_results(options.name, rows, plot(rows), options.quick)


if __name__ == "__main__":
    main()
