"""Distances, rankings and metrics of a whole test set on one thread, compared with evaluation by sorting.

Random unit embeddings with the identities, cameras and distractors of Market-1501: 3,368 queries against 15,913 images.
Before the measurement, all evaluations must give the same mAP, CMC and mINP. Memory is the peak of a call beyond its
inputs, including its result.

--compiled adds the rankers that torchreid and fast-reid compile with Cython, from modules that you have built from
their rank_cy.pyx: --compiled torchreid=rank_cy_torchreid fastreid=rank_cy_fastreid. They compute in float32.
"""

import argparse
import importlib
import tracemalloc
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.argsort_evaluator import argsort_evaluation
from benchmarks.interleaved import interleaved_medians
from benchmarks.peak_memory import peak_memory
from benchmarks.results_file import save_results
from cace_pyg.retrieval import Metrics, euclidean_distance, evaluate, rank, top_k
from cace_pyg.viz.style import BLUE, GREY, ORANGE, VERMILLION

_CAMERAS = 6
_DISTRACTORS = 2793 / 15913  # share of the gallery, as in Market-1501
_SPREAD = 3.0  # spread within an identity relative to its centre, which gives an mAP of about 0.3
_TOP = 100
_TARGET_SECONDS, _TARGET_MB = 0.5, 256
_STEPS, _METRICS, _SORTING = "distances, rankings", "our metrics", "by sorting"
_STYLES = {
    _STEPS: {"color": GREY, "marker": "^"},
    _METRICS: {"color": BLUE, "marker": "o"},
    _SORTING: {"color": ORANGE, "marker": "s"},
}


class TestSet(NamedTuple):
    """Embeddings of unit length ``(image, channel)`` and their labels, queries and gallery."""

    query: torch.Tensor
    gallery: torch.Tensor
    labels: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # pids, then camids, each of query and gallery


class Row(NamedTuple):
    """A call to time."""

    group: str
    call: Callable[[], object]
    peak: Callable[[], int] | None  # bytes; None: not measured
    slow: bool = False


def make_test_set(options: argparse.Namespace) -> TestSet:
    """A test set with equally frequent identities and random cameras; the last gallery images are distractors."""
    rng = np.random.default_rng(options.seed)
    distractors = round(_DISTRACTORS * options.gallery)
    query_pids = np.arange(options.queries) % options.identities + 1
    gallery_pids = np.arange(options.gallery) % options.identities + 1
    gallery_pids[options.gallery - distractors :] = 0
    labels = query_pids, gallery_pids, *(rng.integers(1, _CAMERAS + 1, n) for n in (options.queries, options.gallery))
    shared = rng.standard_normal((options.identities + 1, options.channels), dtype=np.float32)
    return TestSet(_embed(shared, query_pids, rng), _embed(shared, gallery_pids, rng), labels)


def _embed(shared: np.ndarray, pids: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    own = rng.standard_normal((len(pids), shared.shape[1]), dtype=np.float32)
    own += (pids > 0)[:, None] * shared[pids] / _SPREAD
    return torch.nn.functional.normalize(torch.from_numpy(own))


def with_junk(distance: np.ndarray, labels: tuple[np.ndarray, ...], junk: int, seed: int) -> tuple[np.ndarray, ...]:
    """The arguments of ``evaluate`` with ``junk`` images (pid −1) in the gallery, which do not change metrics."""
    rng = np.random.default_rng(seed)
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    places = np.sort(rng.integers(0, len(gallery_pids) + 1, junk))
    strewn = np.insert(distance, places, rng.uniform(0, 2, junk).astype(distance.dtype), axis=1)
    pids, camids = np.insert(gallery_pids, places, -1), np.insert(gallery_camids, places, 1)
    return strewn, query_pids, pids, query_camids, camids


def compiled_rankers(named: list[str], plain: tuple[np.ndarray, ...], metrics: Metrics) -> dict[str, Callable]:
    """The calls of compiled rankers, given as NAME=MODULE, after checking that they find the same mAP and CMC."""
    calls: dict[str, Callable[[], object]] = {}
    distance, query_pids, gallery_pids, query_camids, gallery_camids = plain
    for name, _, module in (each.partition("=") for each in named):
        evaluate_cy = importlib.import_module(module).evaluate_cy

        def call(evaluate_cy: Callable = evaluate_cy) -> tuple:
            return evaluate_cy(distance, query_pids, gallery_pids, query_camids, gallery_camids, len(metrics.cmc))

        cmc, mAP, *_ = call()  # fast-reid's has the average precision of each query instead of the mAP
        np.testing.assert_allclose(np.mean(mAP), metrics.mAP, rtol=1e-4, err_msg=f"mAP by {name} is not ours")
        np.testing.assert_allclose(cmc, metrics.cmc, rtol=1e-4, err_msg=f"CMC by {name} is not ours")
        calls[f"{name}'s compiled ranker"] = call
    return calls


def make_rows(
    test_set: TestSet, distance: torch.Tensor, junk: tuple[np.ndarray, ...], compiled: Mapping[str, Callable]
) -> dict[str, Row]:
    """The timed calls, from the library's own steps to evaluation by sorting."""
    plain = (distance.numpy(), *test_set.labels)
    calls = {
        "euclidean_distance": (_STEPS, lambda: euclidean_distance(test_set.query, test_set.gallery)),
        f"top_k, k = {_TOP}": (_STEPS, lambda: top_k(distance, _TOP)),
        "rank": (_STEPS, lambda: rank(distance)),
        "evaluate": (_METRICS, lambda: evaluate(*plain)),
        f"evaluate, {junk[0].shape[1] - distance.size(1)} junk images more": (_METRICS, lambda: evaluate(*junk)),
        "np.argsort alone": (_SORTING, lambda: np.argsort(plain[0], axis=1)),
        "argsort, a loop over queries": (_SORTING, lambda: argsort_evaluation(*plain)),
        **{name: (_SORTING, call) for name, call in compiled.items()},
    }
    rows = {
        name: Row(group, call, (lambda call=call: peak_memory(call)) if group == _STEPS else _numpy_peak(call))
        for name, (group, call) in calls.items()
    }
    # Tracing its millions of Python numbers would take minutes; it needs the same memory as the row above.
    rows["the same with lists (torchreid)"] = Row(
        _SORTING, lambda: argsort_evaluation(*plain, lists=True), peak=None, slow=True
    )
    return rows


def _numpy_peak(call: Callable[[], object]) -> Callable[[], int]:
    def measure() -> int:
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    return measure


def check(plain: tuple[np.ndarray, ...], junk: tuple[np.ndarray, ...]) -> Metrics:
    """The metrics, after checking that all evaluations agree; with ties this needs a stable sort."""
    ours = evaluate(*plain)
    with_more = evaluate(*junk)
    others = {
        "evaluate with junk": (with_more.mAP, with_more.cmc, with_more.mINP),
        "argsort": argsort_evaluation(*plain, kind="stable"),
        "argsort with lists": argsort_evaluation(*plain, kind="stable", lists=True),
    }
    for name, found in others.items():
        for measure, value in zip(("mAP", "cmc", "mINP"), found, strict=True):
            np.testing.assert_allclose(
                value, getattr(ours, measure), rtol=1e-12, atol=0, err_msg=f"{measure} by {name} is not ours"
            )
    return ours


def time_rows(rows: dict[str, Row], rounds: int, slow_rounds: int) -> dict[str, float]:
    """Median seconds of each row; fast rows are interleaved with each other, and so are slow ones."""
    medians = {}
    for slow, turns in ((False, rounds), (True, slow_rounds)):
        medians |= interleaved_medians({name: row.call for name, row in rows.items() if row.slow == slow}, turns)
    return medians


def draw(table: list[dict[str, object]], title: str) -> Figure:
    """Seconds and megabytes of every row, with the targets for the metrics."""
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    figure.suptitle(title, fontsize=11)
    for axes, column, target, label in (
        (panels[0], "seconds", _TARGET_SECONDS, "time on one thread (s, log scale)"),
        (panels[1], "peak MB", _TARGET_MB, "peak memory beyond the inputs (MB, log scale)"),
    ):
        target_line = axes.axvline(target, color=VERMILLION, linestyle="--", linewidth=1.4)
        axes.set_xscale("log")
        _draw_dots(axes, table, column)
        axes.set_xlabel(label)
        axes.margins(x=0.2)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    handles = {line.get_label(): line for line in panels[0].lines if not line.get_label().startswith("_")}
    handles["target of our metrics"] = target_line
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw_dots(axes: Axes, table: list[dict[str, object]], column: str) -> None:
    for place, row in enumerate(table):
        if row[column] is None:
            axes.text(0.02, place, "not measured", transform=axes.get_yaxis_transform(), va="center", fontsize=9)
            continue
        axes.plot(row[column], place, linestyle="", markersize=8, label=row["group"], **_STYLES[row["group"]])
        axes.annotate(f"{row[column]:.3g}", (row[column], place), (7, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(table)), [row["call"] for row in table])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evaluation", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--queries", type=int, default=3368, help="query images (default: 3368)")
    parser.add_argument("--gallery", type=int, default=15913, help="gallery images without junk (default: 15913)")
    parser.add_argument("--junk", type=int, default=3819, help="junk images of the row that has some (default: 3819)")
    parser.add_argument("--identities", type=int, default=750, help="identities of the queries (default: 750)")
    parser.add_argument("--channels", type=int, default=768, help="size of an embedding (default: 768)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument(
        "--slow_rounds", type=int, default=1, help="rounds of torchreid's method, which takes minutes (default: 1)"
    )
    parser.add_argument(
        "--compiled", nargs="*", default=[], metavar="NAME=MODULE", help="rankers that were compiled with Cython"
    )
    parser.add_argument("--seed", type=int, default=0, help="of embeddings and labels (default: 0)")
    options = parser.parse_args()
    if options.quick:
        options.queries, options.gallery, options.junk, options.identities = 200, 1000, 240, 40
        options.channels, options.rounds = 64, 3
    return options


@torch.no_grad()
def main() -> None:
    options = _parse()
    torch.set_num_threads(1)
    test_set = make_test_set(options)
    distance = euclidean_distance(test_set.query, test_set.gallery)
    junk = with_junk(distance.numpy(), test_set.labels, options.junk, options.seed)
    metrics = check((distance.numpy(), *test_set.labels), junk)
    print(f"every evaluation: mAP {metrics.mAP:.4f}, Rank-1 {metrics.rank1:.4f}, mINP {metrics.mINP:.4f}")
    compiled = compiled_rankers(options.compiled, (distance.numpy(), *test_set.labels), metrics)
    rows = make_rows(test_set, distance, junk, compiled)
    peaks = {name: row.peak and row.peak() for name, row in rows.items()}
    medians = time_rows(rows, options.rounds, options.slow_rounds)
    table = [
        {
            "group": rows[name].group,
            "call": name,
            "seconds": medians[name],
            "times evaluate": medians[name] / medians["evaluate"],
            "peak MB": peaks[name] and peaks[name] / 1e6,
        }
        for name in rows
    ]
    title = f"{options.queries:,} queries × {options.gallery:,} gallery images, {options.channels} channels"
    save_results("evaluation", table, draw(table, title), options.quick)


if __name__ == "__main__":
    main()
