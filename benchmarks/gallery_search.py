"""A gallery's speed and size: pictures indexed per second, bytes per image, latency and recall of a query.

Rendered pictures are really indexed (decoded, embedded, committed). Larger galleries are filled with synthetic entries:
embeddings with the covariance of the model's own embeddings between and within identities, eight images per identity,
and repeated clues and thumbnails of rendered pictures. Queries are rendered pictures of other people. Stage one fetches
the top 100 and sorts them exactly; stage two fetches their clues and compares them. Recall is the share of the exact
100 nearest (by brute force over the same half-precision embeddings) that stage one finds.

Without --checkpoint the weights are random: speeds are the same, but recall is not.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from matplotlib.figure import Figure

from benchmarks.results_file import save_results
from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.engine.build import build_model
from cace_pyg.engine.checkpoint import save_checkpoint
from cace_pyg.gallery import Gallery
from cace_pyg.gallery.check_sums import SIZE, with_check_sums
from cace_pyg.viz.style import SERIES

_TOP_K = 100
_SIBLINGS = 8
_CHUNK = 10_000


def random_checkpoint(path: Path, arguments: list[str]) -> Path:
    """A checkpoint with random weights, and with a weight for the second stage."""
    parser = config_parser("train", "")
    config = config_of(parse(parser, [*arguments, "--backbone.weights=null", "--evaluation.fusion=0.5"]), parser)
    model = build_model(config, 2, pretrained=False)
    state = {"config": config.to_yaml(), "identities": 2, "fusion_weight": 0.5, "model": model.state_dict(), "epoch": 0}
    save_checkpoint(path, state)
    return path


class SyntheticEntries:
    """Any number of entries like those of a real gallery."""

    def __init__(self, gallery: Gallery, pids: list[int]):
        rows = gallery._table.rows(None, ["embedding", "clues", "thumbnail", "metadata_pid"])
        embedding = np.array([row["embedding"] for row in rows], np.float32)
        pid = np.array([row["metadata_pid"] for row in rows])
        centres = np.stack([embedding[pid == person].mean(0) for person in np.unique(pid)])
        within = np.concatenate(
            [embedding[pid == person] - embedding[pid == person].mean(0) for person in np.unique(pid)]
        )
        self.mean = centres.mean(0)
        self.between, self.within = _root(centres - self.mean), _root(within)
        self.blobs = [(row["clues"], row["thumbnail"]) for row in rows]
        self.random = np.random.default_rng(0)

    def embeddings(self, count: int) -> np.ndarray:
        people = self.random.standard_normal((-(-count // _SIBLINGS), len(self.mean)), np.float32) @ self.between
        drawn = np.repeat(people, _SIBLINGS, 0)[:count] + self.mean
        drawn += self.random.standard_normal(drawn.shape, np.float32) @ self.within
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float16)

    def fill(self, gallery: Gallery, count: int) -> np.ndarray:
        """Append entries until there are ``count``; returns the embeddings of the new entries."""
        made = []
        table = gallery._table._table  # appended directly: indexing a million pictures would take an hour
        while len(gallery) < count:
            start, size = len(gallery), min(_CHUNK, count - len(gallery))
            made.append(self.embeddings(size))
            chosen = [self.blobs[i % len(self.blobs)] for i in range(size)]
            names = [f"/synthetic/{start + i:08d}.jpg" for i in range(size)]
            columns = {
                "image": pa.array(names),
                "sha256": pa.array([""] * size),
                "embedding": pa.FixedSizeListArray.from_arrays(pa.array(made[-1].ravel()), made[-1].shape[1]),
                "clues": pa.array([clues for clues, _ in chosen], pa.binary()),
                "thumbnail": pa.array([thumbnail for _, thumbnail in chosen], pa.binary()),
                "check_sums": pa.array([bytes(SIZE)] * size, pa.binary(SIZE)),
                "camera": pa.array([f"c{i % 6}" for i in range(size)]),
                "time": pa.nulls(size, pa.timestamp("us")),
                "added": pa.array([0] * size, pa.timestamp("us")),
                "metadata_pid": pa.nulls(size, pa.int64()),
            }
            table.add(with_check_sums(pa.table(columns, schema=table.schema.remove_metadata())))
        return np.concatenate(made)


def _root(x: np.ndarray) -> np.ndarray:
    """A matrix that gives standard normal rows the covariance of the rows of ``x``."""
    values, vectors = np.linalg.eigh(np.cov(x.T))
    return (vectors * np.sqrt(values.clip(min=0))).T.astype(np.float32)


def recall(found: list[list[str]], names: np.ndarray, embeddings: np.ndarray, queries: np.ndarray) -> float:
    """The share of the exact nearest entries that was found."""
    unit = torch.nn.functional.normalize
    scores = torch.cat([unit(torch.from_numpy(part).float(), dim=-1) @ queries.T for part in _parts(embeddings)])
    exact = scores.topk(min(_TOP_K, len(scores)), dim=0).indices.T
    return float(
        np.mean(
            [
                len({*names[expected.numpy()]} & {*those}) / len(expected)
                for expected, those in zip(exact, found, strict=True)
            ]
        )
    )


def _parts(embeddings: np.ndarray) -> list[np.ndarray]:
    return np.array_split(embeddings, max(1, len(embeddings) // 100_000))


def measure(gallery: Gallery, queries: list, embedding: torch.Tensor, known: np.ndarray, names: np.ndarray) -> dict:
    """Latency of both stages in milliseconds, and recall."""
    gallery.search(queries[0], top_k=_TOP_K)  # warm
    spent: dict[str, list[float]] = {"first_stage": [], "second_stage": []}
    found = []
    for query in queries:
        result = gallery.search(query, top_k=_TOP_K, first_stage=_TOP_K)
        found.append([hit.image for hit in result.first_stage])
        for stage, times in spent.items():
            times.append(1e3 * result.seconds[stage])
    row = {}
    for stage, times in spent.items():
        row |= {f"{stage}_p50_ms": float(np.median(times)), f"{stage}_p95_ms": float(np.quantile(times, 0.95))}
    return row | {"recall_at_100": recall(found, names, known, embedding)}


def plot(rows: list[dict]) -> Figure:
    """Latency against the gallery's size."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [row["images"] for row in rows]
    for stage, colour, marker in (("first_stage", SERIES[0], "o"), ("second_stage", SERIES[3], "s")):
        label = stage.replace("_", " ")
        axes.plot(sizes, [row[f"{stage}_p50_ms"] for row in rows], color=colour, marker=marker, label=f"{label}, p50")
        axes.plot(sizes, [row[f"{stage}_p95_ms"] for row in rows], color=colour, ls=":", label=f"{label}, p95")
    axes.axhline(300, color="#666666", ls="--", lw=1, label="both stages within 300 ms: our aim at 100,000")
    axes.set(xscale="log", yscale="log", xlabel="images in the gallery", ylabel="milliseconds")
    axes.legend(fontsize=8)
    return figure


def run(options: argparse.Namespace, rest: list[str], folder: Path) -> list[dict]:
    """Index real pictures, then fill up and measure at every size; bytes per image are those of real pictures."""
    settings = SyntheticSettings(
        train_identities=12 if options.quick else 100, test_identities=4 if options.quick else 20,
        images_per_identity=8, distractors=0, junk=0, seed=7,
    )  # fmt: skip
    splits = read_market_layout(make_synthetic(folder / "pictures", settings, progress=False))
    checkpoint = options.checkpoint or random_checkpoint(folder / "random.ckpt", ["--config", options.config, *rest])
    gallery = Gallery.create(folder / "people.lance", checkpoint)
    paths, pids = [sample.path for sample in splits.train], [sample.pid for sample in splits.train]
    gallery.embedder.fusion_weight = gallery.embedder.fusion_weight or 0.5  # so that the second stage runs
    started = time.perf_counter()
    gallery.add(paths, metadata=[{"metadata_pid": pid} for pid in pids])
    indexed = len(paths) / (time.perf_counter() - started)
    gallery.optimize()
    bytes_per_image = gallery.stats()["bytes_per_image"]
    entries = SyntheticEntries(gallery, pids)
    known = gallery._table.rows(None, ["image", "embedding"])
    names, embeddings = [row["image"] for row in known], [np.array([row["embedding"] for row in known], np.float16)]
    queries = [sample.path for sample in splits.query][: options.queries]
    embedding = gallery.embedder(queries).embedding
    rows = []
    for size in options.sizes:
        if size <= len(gallery):
            raise ValueError(
                f"Expected --sizes above {len(gallery)}, which are indexed for real, ascending (got {size})"
            )
        first = len(gallery)
        embeddings.append(entries.fill(gallery, size))
        names += [f"/synthetic/{number:08d}.jpg" for number in range(first, size)]
        started = time.perf_counter()
        gallery.optimize()
        seconds = time.perf_counter() - started
        row = measure(gallery, queries, embedding, np.concatenate(embeddings), np.array(names))
        stats = gallery._table.stats()
        row = {
            "model": Path(options.config).stem if options.checkpoint is None else "checkpoint",
            "images": size,
            **row,
            "indexed": "yes" if stats["not_indexed"] < size else "no",
            "optimize_s": seconds,
            "images_a_second": indexed,
            "clue_bytes": gallery._codec.bytes_per_image,
            "bytes_per_image": bytes_per_image,
        }
        print({name: value if isinstance(value, str) else round(value, 3) for name, value in row.items()}, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gallery_search", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], help="ascending")
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--checkpoint", type=Path, help="of a trained model (default: random weights)")
    parser.add_argument("--config", default="configs/synthetic.yaml", help="of the random weights")
    parser.add_argument("--name", default="gallery_search", help="of the results file")
    parser.add_argument("--quick", action="store_true", help="seconds: 2,000 entries; written to *_quick")
    options, rest = parser.parse_known_args()
    if options.quick:
        options.sizes, options.queries = [1_000, 2_000], 5
    with tempfile.TemporaryDirectory() as folder:
        rows = run(options, rest, Path(folder))
    save_results(options.name, rows, plot(rows), options.quick)


if __name__ == "__main__":
    main()
