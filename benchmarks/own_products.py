"""The recommended pair stage compared with its own matrix products: a query's second stage, and a pair-phase step.

The products are recorded while the code runs, with their shapes, strides and precision, and then run alone on random
numbers. No code with the same products can be faster; everything above 1 is the time between them. The second stage
starts from prepared clues and compares K gallery images, in chunks as in an evaluation. The step has 96 triplets with
128 clues of 128 channels: forward, backward and AdamW. Threads: 1 for the second stage, as on a server for each query,
and all cores for the step (``--threads``).
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.dot_plot import dot_plot
from benchmarks.interleaved import interleaved_medians
from benchmarks.results_file import save_results
from cace_pyg.config import PairPhaseSettings
from cace_pyg.engine.features import Features, KeptFeatures
from cace_pyg.engine.on_features import RECIPE
from cace_pyg.engine.pair_phase import clue_dropout, mirror_clues
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.losses import triplet_loss
from cace_pyg.models import CaceNet, PairOperand

PRODUCTS = ("aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm")
SECOND_STAGE_CLUES = (72, 128, 192)


class Recorder(TorchDispatchMode):
    """Records every matrix product that runs: the operator, and the arguments to run it again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Tensor], list[Any], dict[str, Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).rsplit(".", 1)[0] in PRODUCTS:
            drawn = [
                torch.rand_like(value) if isinstance(value, Tensor) else value  # strides are kept
                for value in args
            ]
            self.calls.append((func, drawn, kwargs or {}))
        return func(*args, **(kwargs or {}))


def own_products(function: Callable[[], object]) -> Callable[[], None]:
    """Only the matrix products of ``function``."""
    with Recorder() as recorder:
        function()

    @torch.no_grad()
    def run() -> None:
        for product, args, kwargs in recorder.calls:
            product(*args, **kwargs)

    return run


def make_model(n: int, channels: int) -> CaceNet:
    """The recipe of ``configs/on_top.yaml``, without a network below it."""
    torch.manual_seed(0)
    features = Features(torch.rand(2, 16), torch.zeros(2, n, channels), (n // 8, 8))
    graph = functools.partial(CorrespondenceAttention, width=64, sharpness=16.0)
    return CaceNet(KeptFeatures(features), graph, embedding_channels=256, conditional=RECIPE, published=True)


def second_stage(n: int, channels: int, gallery: int, chunk: int, dtype: torch.dtype) -> Callable[[], Tensor]:
    """One query against ``gallery`` images, from prepared clues."""
    stage = make_model(n, channels).pair_stage.eval()
    grid = (n // 8, 8)
    with torch.no_grad():
        query = stage.prepare(Clues(torch.randn(1, n, channels).relu(), grid))
        images = stage.prepare(Clues(torch.randn(gallery, n, channels).relu(), grid))

    @torch.no_grad()
    def run() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            chunks = [images.select(slice(start, start + chunk)) for start in range(0, gallery, chunk)]
            return torch.cat([stage.distance(query, part) for part in chunks])

    return run


def training_step(n: int, channels: int, anchors: int, dtype: torch.dtype) -> Callable[[], None]:
    """One step of the pair phase on cached clues, as in :class:`cace_pyg.engine.pair_phase.PairPhase`."""
    settings, model = PairPhaseSettings(), make_model(n, channels)
    model.pair_stage.train()
    optimizer = torch.optim.AdamW(model.pair_branch(), settings.learning_rate)
    kept = torch.randn(4 * anchors, n, channels).relu().half()

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            chosen = kept[torch.randint(len(kept), (3 * anchors,))]
            clues = mirror_clues(Clues(chosen, (n // 8, 8)), torch.rand(3 * anchors) < 0.5)
            clues = clue_dropout(clues, settings.clue_dropout, torch.rand(3 * anchors, n))
            prepared = model.pair_stage.prepare(clues)
            anchor, others = prepared.select(slice(anchors)), prepared.select(slice(anchors, None))
            distance = model.pair_stage.distance(PairOperand.concatenate([anchor, anchor]), others)
            loss = triplet_loss(distance[:anchors], distance[anchors:], settings.margin)
        loss.backward()
        optimizer.step()

    return run


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(options: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        cases: dict[str, tuple[int, Callable[[], object]]] = {
            f"second stage, n = {n}": (1, second_stage(n, options.channels, options.gallery, options.chunk, dtype))
            for n in options.n
        }
        step = training_step(options.step_n, options.channels, options.anchors, dtype)
        cases[f"training step, n = {options.step_n}"] = options.threads, step
        for name, (count, function) in cases.items():
            with threads(count):
                functions = {"whole": function, "its products": own_products(function)}
                medians = interleaved_medians(functions, options.rounds)
            rows.append(
                {
                    "what": name,
                    "precision": str(dtype).removeprefix("torch."),
                    "threads": count,
                    "ms": 1e3 * medians["whole"],
                    "ms of its products": 1e3 * medians["its products"],
                    "times its products": f"{medians['whole'] / medians['its products']:.2f}",
                }
            )
    return rows


def plot(table: list[dict[str, object]]) -> Figure:
    figure = Figure(figsize=(8, 4), layout="constrained")
    names = [f"{row['what']}, {row['precision']}" for row in table]
    dot_plot(
        figure.subplots(), names, [float(str(row["times its products"])) for row in table], "", "times its products"
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.own_products", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument(
        "--n",
        type=int,
        nargs="+",
        default=SECOND_STAGE_CLUES,
        help="clues per image in the second stage, multiples of 8",
    )
    parser.add_argument("--step_n", type=int, default=128, help="clues per image in the training step (default: 128)")
    parser.add_argument("--channels", type=int, default=128, help="size of a clue (default: 128)")
    parser.add_argument("--gallery", type=int, default=100, help="gallery images, K (default: 100)")
    parser.add_argument("--chunk", type=int, default=64, help="pairs at once, as evaluation does (default: 64)")
    parser.add_argument("--anchors", type=int, default=96, help="triplets per step (default: 96)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the step (default: all cores)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    options = parser.parse_args()
    if options.quick:
        options.n, options.step_n, options.channels, options.gallery, options.anchors = [16], 16, 32, 8, 4
        options.rounds = 3
    table = measure(options)
    save_results("own_products", table, plot(table), options.quick)


if __name__ == "__main__":
    main()
