"""Re-ranking by neighbours: k-reciprocal now and as it was, and message passing; seconds and memory.

Random embeddings with the identities of Market-1501: 3,368 queries against 15,913 images. With --msmt17 the sizes are
those of MSMT17, without the earlier version. Finding the nearest of each image, images² · channels products, is a
separate row; the rows "given the lists" are the re-ranking itself, in blocks of rows. Rounds are interleaved and ratios
are those of medians; peak memory is that of the process above its memory before, in a separate call.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array

from benchmarks.interleaved import interleaved_medians
from benchmarks.k_reciprocal_before import k_reciprocal_before
from benchmarks.large_evaluation import measured
from benchmarks.results_file import save_results
from cace_pyg.retrieval import NeighbourGraph, k_reciprocal_distance, nearest_neighbours, propagation_distance
from cace_pyg.retrieval.image_set import one_set
from cace_pyg.retrieval.k_reciprocal import jaccard_distance, k_reciprocal_encoding
from cace_pyg.retrieval.neighbour_ranking import NeighbourRanking, squared_over_farthest
from cace_pyg.retrieval.propagation import cosine_distance, propagation_encoding

_SPREAD = 1.5  # spread within an identity relative to its centre
_BEFORE, _NOW = "k-reciprocal, earlier version", "k-reciprocal"


def make(queries: int, gallery: int, identities: int, channels: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit embeddings of queries and gallery, clustered by identity."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((identities, channels), dtype=np.float32)
    sides = []
    for count in (queries, gallery):
        own = rng.standard_normal((count, channels), dtype=np.float32) * _SPREAD
        sides.append(
            torch.nn.functional.normalize(torch.from_numpy(own + shared[np.arange(count) % identities]), dim=1)
        )
    return sides[0], sides[1]


def check(query: torch.Tensor, gallery: torch.Tensor) -> None:
    """Check that both versions give the same distances."""
    few = query[:200].double(), gallery[:2000].double()
    torch.testing.assert_close(k_reciprocal_distance(*few), k_reciprocal_before(*few))


def in_blocks(query: torch.Tensor, gallery: torch.Tensor, graph: NeighbourGraph, method: str) -> None:
    """Compute all distances in blocks of rows, without keeping them."""
    images = one_set(query, gallery)
    encode: Callable[[], csr_array] = {
        "k-reciprocal": lambda: k_reciprocal_encoding(graph, 20, 6),
        "propagation": lambda: propagation_encoding(graph, 26, 7),
    }[method]
    compare = {"k-reciprocal": jaccard_distance, "propagation": cosine_distance}[method]
    weight = {"k-reciprocal": 0.3, "propagation": 0.0}[method]

    def original(some: slice) -> torch.Tensor:
        return squared_over_farthest(graph, images, some)

    for _ in NeighbourRanking.of(encode(), images, compare, original, weight).blocks():
        pass


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.neighbour_reranking", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--channels", type=int, default=512, help="of an embedding (default: 512)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the embeddings (default: 0)")
    parser.add_argument("--msmt17", action="store_true", help="11,659 queries against 82,161 images; one round")
    parser.add_argument("--quick", action="store_true", help="seconds: 60 queries, 500 images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = (11_659, 82_161, 3_060) if options.msmt17 else (3_368, 15_913, 750)
    if options.quick:
        sizes, options.channels, options.rounds = (60, 500, 25), 32, 1
    query, gallery = make(*sizes, options.channels, options.seed)
    check(query, gallery)
    images = torch.cat([query, gallery])
    graph = nearest_neighbours(images, 51)
    calls: dict[str, Callable[[], object]] = {
        _BEFORE: lambda: k_reciprocal_before(query, gallery),
        _NOW: lambda: k_reciprocal_distance(query, gallery),
        "propagation": lambda: propagation_distance(query, gallery),
        "50 nearest of each image": lambda: nearest_neighbours(images, 51),
        "k-reciprocal, given the lists": lambda: in_blocks(query, gallery, graph, "k-reciprocal"),
        "propagation, given the lists": lambda: in_blocks(query, gallery, graph, "propagation"),
    }
    if options.msmt17:
        del calls[_BEFORE], calls[_NOW], calls["propagation"]  # whole matrices of distances
        found = {name: measured(lambda call=call: (call(), [])[1]) for name, call in calls.items()}
        seconds = {name: result[1] for name, result in found.items()}
        peaks = {name: result[2] for name, result in found.items()}
    else:
        peaks = {name: measured(lambda call=call: (call(), [])[1])[2] for name, call in calls.items()}
        seconds = interleaved_medians(calls, options.rounds)
    rows = [
        {"queries": len(query), "gallery": len(gallery), "threads": options.threads, "call": name,
         "seconds": seconds[name],
         "earlier version takes times": seconds[_BEFORE] / seconds[name] if _BEFORE in seconds else None,
         "peak_mb": peaks[name], "matrix_mb": 4e-6 * len(query) * len(gallery)}
        for name in calls
    ]  # fmt: skip
    save_results(f"neighbour_reranking{'_msmt17' if options.msmt17 else ''}", rows, None, options.quick)


if __name__ == "__main__":
    main()
