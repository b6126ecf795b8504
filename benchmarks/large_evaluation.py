"""Both stages' metrics at MSMT17's size, in blocks of rows and with the whole matrix.

Random embeddings with the identities and cameras of MSMT17: 11,659 queries against 82,161 images. The second stage's
distances are also random: this measures everything except the pairs, whose cost is that of ``benchmarks.pair_scoring``
times queries times top k. Peak memory is that of the process, above its memory before the call.
"""

import argparse
import ctypes
import gc
import time
from collections.abc import Callable
from threading import Event, Thread

import numpy as np
import psutil
import torch

from benchmarks.results_file import save_results
from cace_pyg.engine.distances import Distances
from cace_pyg.retrieval import (
    Metrics,
    distance_blocks,
    evaluate,
    evaluate_blocks,
    top_k,
)
from cace_pyg.retrieval.two_stage import top_k_of_blocks

_SPREAD = 3.0  # spread within an identity relative to its centre
_CAMERAS = 15
_TOP = 100


def make(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor, tuple[np.ndarray, ...]]:
    """Unit embeddings of queries and gallery, and their labels."""
    rng = np.random.default_rng(options.seed)
    shared = rng.standard_normal((options.identities, options.channels), dtype=np.float32)
    sides, pids, camids = [], [], []
    for count in (options.queries, options.gallery):
        pid = np.arange(count) % options.identities
        own = rng.standard_normal((count, options.channels), dtype=np.float32) + shared[pid] / _SPREAD
        sides.append(torch.nn.functional.normalize(torch.from_numpy(own), dim=-1))
        pids.append(pid + 1)
        camids.append(rng.integers(1, _CAMERAS + 1, count))
    return *sides, (*pids, *camids)


def in_blocks(query: torch.Tensor, gallery: torch.Tensor, labels: tuple, conditional: torch.Tensor) -> list[Metrics]:
    """As in ``python -m cace_pyg.evaluate``."""
    index = top_k_of_blocks((block for _, block in distance_blocks(query, gallery)), len(query), _TOP)
    distances = Distances(query, gallery, index, conditional)
    return [evaluate_blocks(distances.blocks(weight), *labels) for weight in (0.0, 0.5)]


def whole(query: torch.Tensor, gallery: torch.Tensor, labels: tuple, conditional: torch.Tensor) -> list[Metrics]:
    """The same with whole matrices."""
    distances = Distances(query, gallery, torch.empty(0), conditional)
    individual = distances.individual()
    distances = Distances(query, gallery, top_k(individual, _TOP), conditional)
    return [evaluate(individual, *labels), evaluate(distances.two_stage(0.5), *labels)]


def measured(call: Callable[[], list[Metrics]]) -> tuple[list[Metrics], float, float]:
    """The result of a call, its seconds, and the peak memory of the process above that before the call, in MB."""
    process, done, peak = psutil.Process(), Event(), [0]
    gc.collect()
    if hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # memory that an earlier call has freed would be used again, unseen
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss - before)

    watcher = Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return found, seconds, peak[0] / 1e6


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.large_evaluation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--queries", type=int, default=11_659, help="(default: 11659)")
    parser.add_argument("--gallery", type=int, default=82_161, help="images (default: 82161)")
    parser.add_argument("--identities", type=int, default=3_060, help="(default: 3060)")
    parser.add_argument("--channels", type=int, default=256, help="of an embedding (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="of the embeddings (default: 0)")
    parser.add_argument("--whole", action="store_true", help="also whole matrices, if memory allows")
    parser.add_argument("--quick", action="store_true", help="seconds: 300 queries, 2,000 images, both ways")
    options = parser.parse_args()
    if options.quick:
        options.queries, options.gallery, options.identities, options.whole = 300, 2_000, 100, True
    query, gallery, labels = make(options)
    conditional = torch.rand(len(query), min(_TOP, len(gallery)))
    rows = []
    for name, way in [("in blocks", in_blocks), ("whole matrices", whole)][: 2 if options.whole else 1]:
        found, seconds, peak = measured(lambda way=way: way(query, gallery, labels, conditional))
        rows.append(
            {"way": name, "queries": len(query), "gallery": len(gallery), "seconds": seconds, "peak_mb": peak,
             "matrix_mb": 4e-6 * len(query) * len(gallery),
             "individual_mAP": found[0].mAP, "two_stage_mAP": found[1].mAP}
        )  # fmt: skip
    save_results("large_evaluation", rows, None, options.quick)


if __name__ == "__main__":
    main()
