"""The fused kernel on a GPU, beside plain torch and torch.compile: scoring, training, the second stage of Market-1501.

Two cases: the paper's attention (clues of D channels are compared) and the released one (their projections to D / 16).
"useful" flops are those of the inter block once, 2n²·channels a pair, three times as many with the backward pass;
"executed" ones count what the kernel computes again (docs/kernels.md). Both are divided by the median time, and by
what a square matrix product reaches on the same device in the same run: useful ones say what is gained, executed ones
how busy the device is. "error" is ‖difference‖ /
‖value‖ to plain torch in float32. The second stage takes its clues from a cache on the device, query by query, as an
evaluation does; "CUDA graph" replays what one query launches, some seventy kernels, at the price of one launch.

Without a GPU it says so and measures nothing; --quick then runs everything that runs on a CPU once, in small: plain
torch, and the kernel where TRITON_INTERPRET=1 is set. Such times mean nothing.
"""

import argparse
import copy
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.interleaved import interleaved_medians
from benchmarks.peak_memory import peak_memory
from benchmarks.results_file import save_results
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.kernels import (
    ReluGram,
    relu_gram_products,
    relu_gram_products_reference,
    runs_on,
)
from cace_pyg.models import (
    ConditionalEmbedding,
    ConditionalSettings,
    EmbeddingHead,
    PairOperand,
)

EMBEDDING = 256
CASES = {"paper": {"width": None}, "released": {"degree_floor": "released"}}  # width of the released case: D / 16
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
TILES = [(64, 64, 64, 4, 3), (64, 64, 64, 4, 4), (64, 64, 128, 4, 3), (64, 128, 64, 4, 3), (64, 128, 64, 8, 3),
         (128, 64, 64, 4, 3), (128, 128, 64, 8, 3), (64, 256, 64, 8, 3)]  # fmt: skip
Row = dict[str, object]


class Work(NamedTuple):
    """What a contender of a stage does: a call, and its flops, counted both ways."""

    call: Callable[[], object]
    useful: float
    executed: float


class Bench:
    """One case on one device: the models of all contenders with the same weights, and clues."""

    def __init__(self, case: str, options: argparse.Namespace, device: torch.device):
        torch.manual_seed(0)
        self.case, self.options, self.device = case, options, device
        self.dtype = DTYPES[options.precision]
        self.grid = (options.n // 8, 8)
        self.compared = options.channels if case == "paper" else options.channels // 16
        self.plain = self._model()
        self.contenders = contenders(device)

    def model(self, contender: str) -> ConditionalEmbedding:
        """The pair stage by which a contender computes; weights are those of ``self.plain``."""
        made = self._model("fused" if contender == "fused" else "pooled")
        made.load_state_dict(self.plain.state_dict())
        return made.eval()  # in training each pass counts edges

    def _model(self, backend: str = "pooled") -> ConditionalEmbedding:
        channels = self.options.channels
        form = {"width": channels // 16, **CASES[self.case]}
        settings = ConditionalSettings(backend=backend, node_wise="identity", **form)
        head = EmbeddingHead(channels, EMBEDDING, batch_norm=False)
        made = ConditionalEmbedding(channels, CorrespondenceAttention(channels, self.case), head, settings)
        torch.nn.init.normal_(made.expansion.weight, std=channels**-0.5)
        return made.to(self.device, self.dtype).eval()

    def clues(self, images: int) -> Clues:
        """Random clues; drawn on the device."""
        shape = images, self.options.n, self.options.channels
        return Clues(torch.rand(shape, device=self.device, dtype=self.dtype), self.grid)

    def cache(self, images: int) -> PairOperand:
        """Prepared clues of many images, in parts, for the clues of all of them need not exist at once."""
        parts = (min(256, images - start) for start in range(0, images, 256))
        return PairOperand.concatenate([self.plain.prepare(self.clues(part)) for part in parts])

    @property
    def block_flops(self) -> float:
        """Of one inter block, 2n²·channels."""
        return 2.0 * self.options.n**2 * self.compared


def contenders(device: torch.device) -> list[str]:
    """Who can run here."""
    if device.type == "cuda":
        return ["plain torch", "torch.compile", *(["fused"] if runs_on(device) else [])]
    return ["plain torch", *(["fused"] if os.environ.get("TRITON_INTERPRET") == "1" else [])]


def products(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """One pass over the inter blocks of one image against many: their products with a vector on either side."""
    pairs = bench.options.top_k
    one, many = (bench.plain.builder.prepare(bench.clues(images)) for images in (1, pairs))
    gram = bench.plain.builder.relu_gram(one, many)
    left, right = (torch.rand(pairs, bench.options.n, device=bench.device) for _ in range(2))
    functions = {"plain torch": relu_gram_products_reference, "fused": relu_gram_products}
    functions["torch.compile"] = torch.compile(relu_gram_products_reference)
    flops = pairs * bench.block_flops
    exact = relu_gram_products_reference(ReluGram(gram.x_a.float(), gram.x_b.float(), *gram[2:]), left, right)
    found, errors = {}, {}
    for name in bench.contenders:
        found[name] = Work(lambda name=name: functions[name](gram, left, right), flops, flops)
        errors[name] = _error(torch.cat(found[name].call()), torch.cat(exact))
    return found, errors


def scoring(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """Distances of one query to its top k, from prepared clues."""
    pairs = bench.options.top_k
    one, many = bench.cache(1), bench.cache(pairs)
    exact = copy.deepcopy(bench.plain).float().distance(_as_float(one), _as_float(many))
    found, errors = {}, {}
    for name in bench.contenders:
        distance = bench.model(name).distance
        distance = torch.compile(distance) if name == "torch.compile" else distance
        flops = pairs * bench.block_flops
        call = lambda distance=distance: distance(one, many)  # noqa: E731
        found[name] = Work(call, flops, flops * (2 if name == "fused" else 1))
        errors[name] = _error(call(), exact)
    return found, errors


def training(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """All pairs of a batch of 4 × 4, forward and backward; the error is that of the clues' gradient."""
    clues = bench.clues(bench.options.batch)
    pairs = len(clues) * (len(clues) + 1) // 2
    probe = torch.randn(len(clues), len(clues), EMBEDDING, device=bench.device) / len(clues) ** 2

    def step(model: ConditionalEmbedding, all_pairs: Callable, clues: Clues) -> Tensor:
        x = clues.features.detach().requires_grad_()
        table = all_pairs(model.prepare(Clues(x, clues.grid))).embedding
        return torch.autograd.grad((table * probe.to(table)).sum(), [x, *model.parameters()])[0]

    wide = copy.deepcopy(bench.plain).float()
    exact = step(wide, wide.all_pairs, Clues(clues.features.float(), clues.grid))
    found, errors = {}, {}
    for name in bench.contenders:
        model = bench.model(name)
        all_pairs = torch.compile(model.all_pairs) if name == "torch.compile" else model.all_pairs
        call = lambda model=model, all_pairs=all_pairs: step(model, all_pairs, clues)  # noqa: E731
        flops = pairs * bench.block_flops
        # fused: two passes; backward two for each side of either pass, and one for the vectors (docs/kernels.md)
        found[name] = Work(call, 3 * flops, (11 if name == "fused" else 3) * flops)
        errors[name] = _error(call(), exact)
    return found, errors


def second_stage(bench: Bench) -> tuple[dict[str, Work], dict[str, float]]:
    """Every query against its top k out of a gallery, from one cache."""
    options = bench.options
    queries, gallery = bench.cache(options.queries), bench.cache(options.gallery)
    candidates = torch.randint(options.gallery, (options.queries, options.top_k), device=bench.device)
    found = {}
    for name in bench.contenders:
        distance = bench.model(name).distance
        distance = torch.compile(distance) if name == "torch.compile" else distance

        def call(distance=distance) -> Tensor:
            rows = range(options.queries)
            return torch.stack([distance(queries.select(slice(q, q + 1)), gallery.select(candidates[q])) for q in rows])

        flops = options.queries * options.top_k * bench.block_flops
        executed = flops * (2 if name == "fused" else 1)
        found[name] = Work(call, flops, executed)
        if bench.device.type == "cuda" and name != "torch.compile":
            replayed = _replayed(bench.model(name).distance, queries, gallery, candidates)
            found[f"{name}, CUDA graph"] = Work(replayed, flops, executed)
    return found, {}


def _replayed(
    distance: Callable, queries: PairOperand, gallery: PairOperand, candidates: Tensor
) -> Callable[[], Tensor]:
    """The same, with each query's clues copied to the place where a CUDA graph, recorded once, expects them."""
    one, many = queries.select(slice(1)), gallery.select(candidates[0])
    one = PairOperand.concatenate([one])  # a copy
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles the kernels and finds room for them, which cannot be recorded
            distance(one, many)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = distance(one, many)
    places = list(zip(_tensors(one), _tensors(many), _tensors(queries), _tensors(gallery), strict=True))

    def call() -> Tensor:
        rows = []
        for q, index in enumerate(candidates):
            for of_one, of_many, of_queries, of_gallery in places:
                of_one.copy_(of_queries[q : q + 1])
                torch.index_select(of_gallery, 0, index, out=of_many)
            graph.replay()
            rows.append(result.clone())
        return torch.stack(rows)

    return call


def _tensors(prepared: PairOperand) -> tuple[Tensor, ...]:
    return prepared.compared.features, prepared.intra, prepared.projected, prepared.individual


STAGES = {
    "products, one pass": products,
    "scoring, one query": scoring,
    "training step": training,
    "second stage": second_stage,
}


def measure(bench: Bench, matrix_rate: float) -> Iterator[Row]:
    """The table of one case."""
    for stage, prepare in STAGES.items():
        with torch.set_grad_enabled(prepare is training):
            works, errors = prepare(bench)
            # a whole second stage is repeated enough in itself
            rounds = min(bench.options.rounds, 3) if prepare is second_stage else bench.options.rounds
            medians = _medians({name: work.call for name, work in works.items()}, rounds, bench.device)
            for name, work in works.items():
                yield {
                    "case": bench.case, "precision": bench.options.precision, "stage": stage, "contender": name,
                    "ms": 1e3 * medians[name],
                    "useful TFLOP/s": work.useful / medians[name] / 1e12,
                    "executed TFLOP/s": work.executed / medians[name] / 1e12,
                    "useful, % of matrix product": 100 * work.useful / medians[name] / matrix_rate,
                    "executed, % of it": 100 * work.executed / medians[name] / matrix_rate,
                    "times as fast as plain": medians["plain torch"] / medians[name],
                    "peak MB": peak_memory(work.call) / 1e6,
                    "error": f"{errors[name]:.1e}" if name in errors else None,
                }  # fmt: skip


def measure_tiles(bench: Bench, matrix_rate: float) -> list[Row]:
    """The forward and the backward kernel with other tiles than the default: which fits this device best?"""
    from cace_pyg.kernels import relu_gram_triton

    pairs, n = bench.options.top_k, bench.options.n
    x_a, x_b = (torch.rand(pairs, n, bench.compared, device=bench.device, dtype=bench.dtype) for _ in range(2))
    left, right = (torch.rand(pairs, n, device=bench.device) for _ in range(2))
    vectors = torch.stack([left, right], 1)
    calls = {}
    for sizes in TILES:
        tile = relu_gram_triton.Tile(*sizes)
        calls["forward", tile] = lambda tile=tile: relu_gram_triton.products(x_a, x_b, left, right, 1.0, 0.0, tile)
        calls["backward", tile] = lambda tile=tile: relu_gram_triton.gradient(
            x_a, x_b, vectors, vectors, 1.0, 0.0, tile
        )
    rows = []
    for (what, tile), seconds in _medians(calls, bench.options.rounds, bench.device).items():
        flops = pairs * bench.block_flops * (1 if what == "forward" else 2)
        shape = "×".join(map(str, tile[:3]))
        rows.append(
            {
                "case": bench.case, "precision": bench.options.precision, "kernel": what,
                "tile": f"{shape}, {tile.warps} warps, {tile.stages} stages", "ms": 1e3 * seconds,
                "TFLOP/s": flops / seconds / 1e12, "% of matrix product": 100 * flops / seconds / matrix_rate,
            }
        )  # fmt: skip
    return rows


def matrix_product(options: argparse.Namespace, device: torch.device) -> tuple[float, Row]:
    """Flops a second of a square matrix product of random numbers, and its row of the table."""
    size = 256 if options.quick else 8192
    a, b = (torch.rand(size, size, device=device, dtype=DTYPES[options.precision]) for _ in range(2))
    seconds = _medians({"": lambda: a @ b}, options.rounds, device)[""]
    rate = 2.0 * size**3 / seconds
    blank = dict.fromkeys(["times as fast as plain", "peak MB", "error"])
    row = {"case": "", "precision": options.precision, "stage": f"matrix product of {size}", "contender": "plain torch"}
    speed = {"useful TFLOP/s": rate / 1e12, "executed TFLOP/s": rate / 1e12}
    shares = {"useful, % of matrix product": 100.0, "executed, % of it": 100.0}
    return rate, row | {"ms": 1e3 * seconds} | speed | shares | blank


def _medians(functions: dict, rounds: int, device: torch.device) -> dict:
    """Median seconds until the device has finished."""

    def finished(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return run

    return interleaved_medians({name: finished(call) for name, call in functions.items()}, rounds)


def _as_float(prepared: PairOperand) -> PairOperand:
    compared = Clues(prepared.compared.features.float(), prepared.compared.grid)
    return PairOperand(compared, prepared.intra.float(), prepared.projected.float(), prepared.individual.float())


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds, on a CPU too: does it run?")
    parser.add_argument("--precision", choices=DTYPES, default="bf16", help="of clues and weights (default: bf16)")
    parser.add_argument("--n", type=int, default=192, help="clues an image, a multiple of 8 (default: 192)")
    parser.add_argument("--channels", type=int, default=2048, help="size of a clue (default: 2048)")
    parser.add_argument("--queries", type=int, default=3368, help="of the second stage (default: 3368, Market-1501)")
    parser.add_argument(
        "--gallery",
        type=int,
        default=19281,
        help="images in the cache, 0.96 MB each in bf16 (default: 19281, labelled)",
    )
    parser.add_argument("--top_k", type=int, default=100, help="pairs a query (default: 100)")
    parser.add_argument("--batch", type=int, default=16, help="images of a training step (default: 16)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds (default: 15)")
    parser.add_argument("--tiles", action="store_true", help="time the kernels with several tile sizes instead")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and (options.tiles or not options.quick):
        print(f"skipped: no CUDA device (torch {torch.__version__}); --quick runs in small what runs on a CPU")
        return
    if options.quick:
        options.n, options.channels, options.queries, options.gallery = 24, 64, 3, 8
        options.top_k, options.batch, options.rounds = 4, 2, 1
    rate, row = matrix_product(options, device)
    table = [] if options.tiles else [row]
    try:
        for case in CASES:
            bench = Bench(case, options, device)
            table.extend(measure_tiles(bench, rate) if options.tiles else measure(bench, rate))
    finally:  # hours of a GPU are dear: what was measured before an error is kept
        save_results("gpu_tiles" if options.tiles else "gpu", table, None, options.quick)


if __name__ == "__main__":
    main()
