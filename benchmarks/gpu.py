"""The pair stage on a GPU: scoring, training, the second stage of Market-1501, and where the time goes.

There are four cases. "paper" (compares the clues themselves) and "released" (compares projections to D / 16 channels)
pool linearly, so the fused kernel can compute them. "recommended" has the settings of configs/on_top.yaml: the 16th
power of cosines, inter edges, and a small network on each node. It is run on the clues of OSNet (128 clues of 128
channels) and of ResNet-50 at 384×128 (192 clues of 2048 channels).

"pass" measures 2048 pairs of twenty queries, as many as the library measures at once on a GPU. "compiled pass" compares
it with torch.compile, which takes half a minute per case. "second stage" measures all queries against their top k, as
the library does it, with clues in the GPU's memory or in the machine's. "second stage, query by query" does it as on a
CPU.

"useful" flops are those of the matrix products, three times as many with the backward pass. "executed" flops include
products that the kernel computes again (docs/kernels.md). Rates are flops divided by the median time, also relative to
a square matrix product on the same device in the same run. "error" is ‖difference‖ / ‖value‖ from plain torch in
float32.

Without a GPU, nothing is measured, and a message says so. --quick then runs small sizes once on the CPU: plain torch,
and the kernel if TRITON_INTERPRET=1 is set. Such times mean nothing.
"""

import argparse
import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.interleaved import interleaved_medians
from benchmarks.peak_memory import peak_memory
from benchmarks.results_file import save_results
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.kernels import runs_on
from cace_pyg.losses import triplet_loss
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead, PairOperand

EMBEDDING = 256
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TILES = [(64, 64, 64, 4, 3), (64, 64, 64, 8, 3), (64, 32, 64, 4, 3), (64, 128, 64, 4, 3), (128, 64, 64, 4, 3),
         (128, 64, 64, 8, 3), (128, 64, 32, 4, 3), (128, 32, 64, 4, 3), (128, 128, 64, 8, 3)]  # fmt: skip
Row = dict[str, object]


@dataclass(frozen=True)
class Case:
    """Clues and settings; ``compared`` and ``moved`` are the channels of the attention and of the convolution."""

    grid: tuple[int, int]
    channels: int
    compared: int
    moved: int
    attention: dict[str, Any] = field(default_factory=dict)
    conditional: dict[str, Any] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def is_linear(self) -> bool:
        """Whether pooling comes first, so that the kernel can compute a pair from its inter block alone."""
        return self.conditional["node_wise"] == "identity"

    @property
    def flops(self) -> float:
        """Flops of a pair's matrix products: the inter block; if not linear, also convolution and node function."""
        inter = 2.0 * self.n**2 * self.compared
        return inter if self.is_linear else inter + 4.0 * self.n**2 * self.moved + 8.0 * self.n * self.moved**2


_RECOMMENDED = {"node_wise": "mlp", "width": 64, "edges": "inter", "compare": "verification"}
_SHARP = {"form": "released", "sharpness": 16.0}
CASES = {
    "paper": Case((24, 8), 2048, 2048, 2048, {"form": "paper"}, {"node_wise": "identity", "width": None}),
    "released": Case((24, 8), 2048, 128, 128, {"form": "released"},
                     {"node_wise": "identity", "width": 128, "degree_floor": "released"}),
    "recommended, OSNet": Case((16, 8), 128, 64, 64, {"width": 64, **_SHARP}, _RECOMMENDED),
    "recommended, ResNet-50": Case((24, 8), 2048, 128, 64, _SHARP, _RECOMMENDED),
}  # fmt: skip
_SMALL = Case((6, 4), 64, 4, 4)


class Work(NamedTuple):
    """A call to time, with its useful and its executed flops."""

    call: Callable[[], object]
    useful: float
    executed: float


class Bench:
    """One case on one device: models of all implementations with the same weights, and clues."""

    def __init__(self, name: str, precision: str, options: argparse.Namespace, device: torch.device):
        torch.manual_seed(0)
        torch._dynamo.reset()  # otherwise torch gives up after too many variants of a function
        case = CASES[name]
        self.case = Case(_SMALL.grid, 64, 64, 64, case.attention, case.conditional) if options.quick else case
        self.labels: Row = {"case": name, "precision": precision}
        self.options, self.device, self.dtype = options, device, DTYPES[precision]
        self.plain = self._model()
        self.contenders = ["plain torch"]
        if self.case.is_linear and (runs_on(device) or os.environ.get("TRITON_INTERPRET") == "1"):
            self.contenders.append("fused")

    def model(self, contender: str) -> ConditionalEmbedding:
        """The pair stage of an implementation, with the weights of ``self.plain``."""
        made = self._model("fused" if contender == "fused" else "pooled")
        made.load_state_dict(self.plain.state_dict())
        return made.eval()  # in training, each pass counts edges

    def _model(self, backend: str = "pooled") -> ConditionalEmbedding:
        channels, settings = self.case.channels, ConditionalSettings(backend=backend, **self.case.conditional)
        builder, head = CorrespondenceAttention(channels, **self.case.attention), EmbeddingHead(channels, EMBEDDING)
        made = ConditionalEmbedding(channels, builder, head, settings)
        torch.nn.init.normal_(made.expansion.weight, std=channels**-0.5)
        return made.to(self.device, self.dtype).eval()

    def clues(self, images: int) -> Clues:
        """Random clues, drawn on the device."""
        shape = images, self.case.n, self.case.channels
        return Clues(torch.rand(shape, device=self.device, dtype=self.dtype), self.case.grid)

    @torch.no_grad()
    def cache(self, images: int) -> PairOperand:
        """Prepared clues of many images, made in parts, so that their unprepared clues need less memory."""
        parts = (min(256, images - start) for start in range(0, images, 256))
        return PairOperand.concatenate([self.plain.prepare(self.clues(part)) for part in parts])

    def times(self, pairs: int, executed: Callable[[str], int] = lambda _: 1) -> Callable[[str, Callable], Work]:
        """A call with its useful flops, and its executed flops as a multiple of them."""
        useful = pairs * self.case.flops
        return lambda name, call: Work(call, useful, useful * executed(name))


def _passes(contender: str) -> int:
    return 2 if contender == "fused" else 1


def scoring(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """Distances of one query to its top k, from prepared clues."""
    query, gallery = bench.cache(1), bench.cache(bench.options.top_k)
    return _distances(bench, query, gallery, bench.options.top_k)


def one_pass(bench: Bench, compiles: bool = False) -> tuple[dict[str, Work], dict[str, float]]:
    """Distances of 2048 pairs of several queries."""
    pairs = bench.options.pairs
    queries, many = bench.cache(-(-pairs // bench.options.top_k)), bench.cache(pairs)
    image = torch.arange(pairs, device=bench.device) // bench.options.top_k
    return _distances(bench, queries.select(image), many, pairs, compiles)


def compiled_pass(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """:func:`one_pass`, also with torch.compile."""
    return one_pass(bench, compiles=True)


def _distances(
    bench: Bench, a: PairOperand, b: PairOperand, pairs: int, compiles: bool = False
) -> tuple[dict[str, Work], dict[str, float]]:
    exact = copy.deepcopy(bench.plain).float().distance(_as_float(a), _as_float(b))
    work, found, errors = bench.times(pairs, _passes), {}, {}
    for name in bench.contenders:
        model = bench.model(name)
        call = lambda model=model: model.distance(a, b)  # noqa: E731
        found[name], errors[name] = work(name, call), _error(call(), exact)
    if compiles and bench.device.type == "cuda":
        distance = torch.compile(bench.model("plain torch").distance, dynamic=False)
        call = lambda: distance(a, b)  # noqa: E731
        found["torch.compile"], errors["torch.compile"] = work("plain torch", call), _error(call(), exact)
    return found, errors


def training(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """Forward and backward: all pairs of a batch of 4 × 4 as in the joint phase, if pooling is linear; otherwise the
    triplets of the pair phase. The error is that of the clues' gradient."""
    return _all_pairs(bench) if bench.case.is_linear else _triplets(bench)


def _all_pairs(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    clues = bench.clues(bench.options.batch)
    pairs = len(clues) * (len(clues) + 1) // 2
    probe = torch.randn(len(clues), len(clues), EMBEDDING, device=bench.device) / len(clues) ** 2

    def loss(model: ConditionalEmbedding, clues: Clues) -> Tensor:
        table = model.all_pairs(model.prepare(clues)).embedding
        return (table * probe.to(table)).sum()

    # fused: two passes; backward, two for each side of each pass, and one for the vectors (docs/kernels.md)
    work = bench.times(3 * pairs, lambda name: 11 / 3 if name == "fused" else 1)
    return _steps(bench, clues, loss, work)


def _triplets(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    anchors = bench.options.anchors
    clues = bench.clues(3 * anchors)
    anchor = torch.arange(anchors, device=bench.device).repeat(2)
    others = torch.arange(anchors, 3 * anchors, device=bench.device)

    def loss(model: ConditionalEmbedding, clues: Clues) -> Tensor:
        prepared = model.prepare(clues)
        distance = model.distance(prepared.select(anchor), prepared.select(others))
        return triplet_loss(distance[:anchors], distance[anchors:], 10.0)  # a margin that no triplet satisfies

    return _steps(bench, clues, loss, bench.times(3 * 2 * anchors))


def _steps(
    bench: Bench, clues: Clues, loss: Callable[[ConditionalEmbedding, Clues], Tensor], work: Callable
) -> tuple[dict[str, Work], dict[str, float]]:
    def step(model: ConditionalEmbedding, loss: Callable, clues: Clues) -> Tensor:
        x = clues.features.detach().requires_grad_()
        return torch.autograd.grad(loss(model, Clues(x, clues.grid)), [x, *model.parameters()], allow_unused=True)[0]

    exact = step(copy.deepcopy(bench.plain).float(), loss, Clues(clues.features.float(), clues.grid))
    found, errors = {}, {}
    for name in bench.contenders:
        model = bench.model(name)
        call = lambda model=model: step(model, loss, clues)  # noqa: E731
        found[name], errors[name] = work(name, call), _error(call(), exact)
    return found, errors


def second_stage(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """Every query against its top k of a gallery, from one cache, as in the library."""
    query, gallery, index = _query_and_gallery(bench)
    work, found = bench.times(index.numel(), _passes), {}
    for name in bench.contenders:
        model = bench.model(name)
        found[name] = work(
            name, lambda model=model: measure_lists(model, query, gallery, [*index], None, bench.device, progress=False)
        )
    if not bench.case.is_linear:  # the others need 20 GB and more
        in_memory = Extraction((), gallery.embedding, gallery.prepared.to("cpu"))
        found["plain torch, from the machine's memory"] = work(
            "plain torch",
            lambda: measure_lists(bench.plain, query, in_memory, [*index], None, bench.device, progress=False),
        )
    return found, {}


def query_by_query(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """:func:`second_stage` with one query at a time."""
    query, gallery, index = _query_and_gallery(bench)

    def distances() -> Tensor:
        rows = zip(range(len(index)), index.to(bench.device), strict=True)
        pairs = ((query.prepared.select(slice(q, q + 1)), gallery.prepared.select(near)) for q, near in rows)
        return torch.stack([bench.plain.distance(a, b) for a, b in pairs])

    return {"plain torch": bench.times(index.numel(), _passes)("plain torch", distances)}, {}


def _query_and_gallery(bench: Bench) -> tuple[Extraction, Extraction, Tensor]:
    options = bench.options
    query, gallery = (
        Extraction((), torch.empty(images, 0), bench.cache(images)) for images in (options.queries, options.gallery)
    )
    draw = torch.Generator().manual_seed(0)
    return query, gallery, torch.randint(options.gallery, (options.queries, options.top_k), generator=draw)


STAGES = {
    "scoring, one query": scoring, "pass": one_pass, "compiled pass": compiled_pass, "training step": training,
    "second stage": second_stage, "second stage, query by query": query_by_query,
}  # fmt: skip
_WHOLE = second_stage, query_by_query  # long enough without repetitions


def measure(bench: Bench, matrix_rate: float) -> Iterator[Row]:
    """The table of one case."""
    for stage in bench.options.stages:
        prepare = STAGES[stage]
        with torch.set_grad_enabled(prepare is training):
            works, errors = prepare(bench)
            rounds = min(bench.options.rounds, 3 if prepare in _WHOLE else bench.options.rounds)
            medians = medians_on(bench.device, {name: work.call for name, work in works.items()}, rounds)
            slowest = medians[next(iter(works))]
            for name, work in works.items():
                yield bench.labels | {
                    "stage": stage, "contender": name,
                    "ms": 1e3 * medians[name],
                    "useful TFLOP/s": work.useful / medians[name] / 1e12,
                    "executed TFLOP/s": work.executed / medians[name] / 1e12,
                    "useful, % of matrix product": 100 * work.useful / medians[name] / matrix_rate,
                    "executed, % of it": 100 * work.executed / medians[name] / matrix_rate,
                    "times as fast as the first": slowest / medians[name],
                    "peak MB": peak_memory(work.call) / 1e6,
                    "error": f"{errors[name]:.1e}" if name in errors else None,
                }  # fmt: skip
            del works, errors


def measure_tiles(bench: Bench, matrix_rate: float) -> list[Row]:
    """Time the forward and the backward kernel with several tile sizes, to find the best for this device."""
    from cace_pyg.kernels import relu_gram_triton

    pairs, n, compared = bench.options.pairs, bench.case.n, bench.case.compared
    x_a, x_b = (torch.rand(pairs, n, compared, device=bench.device, dtype=bench.dtype) for _ in range(2))
    left, right = (torch.rand(pairs, n, device=bench.device) for _ in range(2))
    vectors = torch.stack([left, right], 1)
    calls = {}
    for sizes in TILES:
        tile = relu_gram_triton.Tile(*sizes)
        calls["forward", tile] = lambda tile=tile: relu_gram_triton.products(x_a, x_b, left, right, 1.0, 0.0, tile)
        calls["backward", tile] = lambda tile=tile: relu_gram_triton.gradient(
            x_a, x_b, vectors, vectors, 1.0, 0.0, tile
        )
    able = {}
    for key, call in calls.items():
        try:  # a large tile may need more shared memory than the GPU has
            able[key] = call() is not None and call
        except Exception as error:
            print(f"{key}: {type(error).__name__}: {str(error).splitlines()[0]}")
    rows = []
    for (what, tile), seconds in medians_on(bench.device, able, bench.options.rounds).items():
        flops = 2.0 * pairs * n**2 * compared * (1 if what == "forward" else 2)
        shape = "×".join(map(str, tile[:3]))
        rows.append(
            bench.labels
            | {
                "kernel": what, "tile": f"{shape}, {tile.warps} warps, {tile.stages} stages", "ms": 1e3 * seconds,
                "TFLOP/s": flops / seconds / 1e12, "% of matrix product": 100 * flops / seconds / matrix_rate,
            }
        )  # fmt: skip
    return rows


_LISTED = 12


def measure_shares(bench: Bench) -> Iterator[Row]:
    """The time of each kernel in a pass and a training step of plain torch, the longest first."""
    for stage, prepare in (("pass", one_pass), ("training step", training)):
        with torch.set_grad_enabled(prepare is training):
            call = prepare(bench)[0]["plain torch"].call
            call()
            activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
            with profile(activities=activities[: 1 + (bench.device.type == "cuda")]) as recorded:
                for _ in range(5):
                    call()
                if bench.device.type == "cuda":
                    torch.cuda.synchronize(bench.device)
        own = "self_device_time_total" if bench.device.type == "cuda" else "self_cpu_time_total"
        kernels = [kernel for kernel in recorded.key_averages() if getattr(kernel, own) > 0]
        kernels = [kernel for kernel in kernels if bench.device.type == "cpu" or kernel.self_cpu_time_total == 0]
        total = sum(getattr(kernel, own) for kernel in kernels)
        kernels.sort(key=lambda kernel: -getattr(kernel, own))
        for kernel in kernels[:_LISTED]:
            yield bench.labels | {
                "stage": stage, "kernel": kernel.key[:110], "calls": kernel.count / 5, "ms": getattr(kernel, own) / 5e3,
                "% of all kernels": 100 * getattr(kernel, own) / total,
            }  # fmt: skip


def matrix_product(precision: str, options: argparse.Namespace, device: torch.device) -> tuple[float, Row]:
    """Flops per second of a square matrix product of random numbers, and its row of the table."""
    size = 256 if options.quick else 8192
    a, b = (torch.rand(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    seconds = medians_on(device, {"": lambda: a @ b}, options.rounds)[""]
    rate = 2.0 * size**3 / seconds
    blank = dict.fromkeys(["times as fast as the first", "peak MB", "error"])
    row = {"case": "", "precision": precision, "stage": f"matrix product of {size}", "contender": "plain torch"}
    speed = {"useful TFLOP/s": rate / 1e12, "executed TFLOP/s": rate / 1e12}
    shares = {"useful, % of matrix product": 100.0, "executed, % of it": 100.0}
    return rate, row | {"ms": 1e3 * seconds} | speed | shares | blank


def medians_on(device: torch.device, functions: dict, rounds: int, times: int = 1) -> dict:
    """Median seconds of a call, until the device has finished; ``times`` calls in sequence are timed together."""

    def finished(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return run

    medians = interleaved_medians({name: finished(call) for name, call in functions.items()}, rounds)
    return {name: seconds / times for name, seconds in medians.items()}


def _as_float(prepared: PairOperand) -> PairOperand:
    compared = Clues(prepared.compared.features.float(), prepared.compared.grid)
    return PairOperand(compared, prepared.intra.float(), prepared.projected.float(), prepared.individual.float())


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds, also on a CPU: does it run?")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="(default: all)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="(default: all)")
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["bf16", "fp32"],
                        help="precision of clues and weights (default: bf16 fp32)")  # fmt: skip
    parser.add_argument(
        "--queries", type=int, default=3368, help="queries of the second stage (default: 3368, as Market-1501)"
    )
    parser.add_argument(
        "--gallery",
        type=int,
        default=19281,
        help="images in the cache (default: 19281, Market-1501's queries and gallery)",
    )
    parser.add_argument("--top_k", type=int, default=100, help="pairs per query (default: 100)")
    parser.add_argument("--pairs", type=int, default=2048, help="pairs of a pass (default: 2048)")
    parser.add_argument("--batch", type=int, default=16, help="images of a step of the joint phase (default: 16)")
    parser.add_argument("--anchors", type=int, default=96, help="triplets of a step of the pair phase (default: 96)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tiles", action="store_true", help="time the kernels with several tile sizes instead")
    what.add_argument("--shares", action="store_true", help="list the time of plain torch by kernel instead")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and (options.tiles or not options.quick):
        print(f"skipped: no CUDA device (torch {torch.__version__}); --quick runs small sizes on the CPU")
        return
    if options.quick:
        options.queries, options.gallery, options.top_k, options.pairs = 3, 8, 4, 8
        options.batch, options.anchors, options.rounds = 2, 2, 1
    table: list[Row] = []
    name = "gpu_tiles" if options.tiles else "gpu_shares" if options.shares else "gpu"
    try:
        for precision in options.precisions:
            rate, row = matrix_product(precision, options, device)
            if name == "gpu":
                table.append(row)
            for case in options.cases:
                if precision == "fp32" and case in ("paper", "released") and not options.quick:
                    continue  # float32 has no matrix units, so the kernel, which computes twice, cannot be faster
                bench = Bench(case, precision, options, device)
                if options.tiles:
                    table.extend(measure_tiles(bench, rate) if bench.case.is_linear else [])
                else:
                    table.extend(measure_shares(bench) if options.shares else measure(bench, rate))
                del bench
    finally:  # GPU hours are expensive: keep what was measured before an error
        if table:
            save_results(name, table, None, options.quick)


if __name__ == "__main__":
    main()
