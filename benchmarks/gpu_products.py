"""The inter blocks of many pairs on a GPU, by shape: the fused kernel, plain torch, torch.compile and FlexAttention.

"vectors" is one pass of the form that pools first: R times a vector on each side, with R = ReLU(X_a X_bᵀ). "map" is
what a function of each node needs: R to the 16th power, the degrees of both sides, and R times the scaled clues (64
channels) of the other side. The bare products are only the matrix products of these.

FlexAttention is given the logarithm of the ReLU'd score: its softmax then has the weights R / degree, and the
exponential of its log-sum-exp is the degree. It needs one call per side, two if the degrees come first, and heads of at
most about 256 channels. Clues are random, in bfloat16, and about half of the products are negative. "TFLOP/s" counts
the bare products once, even if an implementation computes them again. "error" is ‖difference‖ / ‖value‖ from float32 on
the same clues.

--compile_only fills torch's cache of compiled code, which several processes can do at once, and measures nothing.
Without a GPU, nothing is measured, and a message says so. --quick then runs small sizes once on the CPU.
"""

import argparse
import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention

from benchmarks.gpu import matrix_product, medians_on
from benchmarks.results_file import save_results
from cace_pyg.kernels import ReluGram, relu_gram_products, relu_gram_products_reference, runs_on
from cace_pyg.nn import convolve_blocks

MOVED = 64  # channels of the clues that the map path moves
SQUARINGS = 4  # R to the 16th power
Found = tuple[Tensor, ...]


def vectors(x_a: Tensor, x_b: Tensor, left: Tensor, right: Tensor) -> Found:
    """R @ right and Rᵀ @ left in plain torch, ``(pair, n)`` each."""
    return relu_gram_products_reference(ReluGram(x_a, x_b), left, right)


def vectors_by_flex(x_a: Tensor, x_b: Tensor, left: Tensor, right: Tensor) -> Found:
    """The same with FlexAttention; a vector is the first of 16 channels, the fewest that it can move."""
    wide = [torch.nn.functional.pad(vector.to(x_a).unsqueeze(-1), (0, 15)) for vector in (left, right)]
    return _flex(x_a, x_b, wide[1], 1)[0][..., 0], _flex(x_b, x_a, wide[0], 1)[0][..., 0]


def maps(x_a: Tensor, x_b: Tensor, clues_a: Tensor, clues_b: Tensor) -> Found:
    """The convolved clues of both sides in plain torch, inter edges only, ``(pair, n, channel)`` each."""
    inter, nothing = (x_a @ x_b.mT).relu(), x_a.new_empty(len(x_a), 0, 0)
    for _ in range(SQUARINGS):
        inter = inter * inter
    return convolve_blocks(clues_a, clues_b, nothing, inter, nothing)


def maps_by_flex(x_a: Tensor, x_b: Tensor, clues_a: Tensor, clues_b: Tensor) -> Found:
    """The same with FlexAttention: degrees first, then the scaled clues."""
    power = 2**SQUARINGS
    degree_a, degree_b = _flex(x_a, x_b, clues_b, power)[1], _flex(x_b, x_a, clues_a, power)[1]
    scale_a, scale_b = (torch.where(degree > 0, degree, 1.0).rsqrt().unsqueeze(-1) for degree in (degree_a, degree_b))
    to_a, _ = _flex(x_a, x_b, (scale_b * clues_b).to(clues_b), power)
    to_b, _ = _flex(x_b, x_a, (scale_a * clues_a).to(clues_a), power)
    kept_a, kept_b = ((degree > 0).unsqueeze(-1) * x for degree, x in ((degree_a, clues_a), (degree_b, clues_b)))
    return kept_a - scale_a * to_a, kept_b - scale_b * to_b


def _flex(own: Tensor, other: Tensor, values: Tensor, power: int) -> tuple[Tensor, Tensor]:
    """A power of R times values, and the degrees, both of one side; ``(pair, n, channel)`` and ``(pair, n)``."""

    def logarithm(score: Tensor, *_: Tensor) -> Tensor:
        return power * torch.log(torch.relu(score))

    heads = (clues.unsqueeze(1) for clues in (own, other, values))
    averaged, more = flex_attention(*heads, score_mod=logarithm, scale=1.0, return_aux=AuxRequest(lse=True))
    degree = more.lse.exp()
    return (torch.nan_to_num(averaged) * degree.unsqueeze(-1)).squeeze(1), degree.squeeze(1)


class Shape:
    """Clues of one shape, and all implementations that compute something from them."""

    def __init__(self, stage: str, n: int, channels: int, pairs: int, device: torch.device, compiles: bool):
        torch.manual_seed(0)
        torch._dynamo.reset()  # otherwise torch gives up after too many variants of a function
        self.labels = {"stage": stage, "n": n, "channels": channels}
        normal = torch.randn(2, pairs, n, channels, device=device)
        self.x_a, self.x_b = torch.nn.functional.normalize(normal, dim=-1).bfloat16()
        operands = (self.x_a, self.x_b)
        if stage == "vectors":
            operands += tuple(torch.rand(2, pairs, n, device=device))
            plain, by_flex, bare, self.flops = vectors, vectors_by_flex, self._bare, 2.0 * n**2 * channels
        else:
            operands += tuple(torch.rand(2, pairs, n, MOVED, device=device).bfloat16())
            plain, by_flex, bare = maps, maps_by_flex, lambda: self._bare(*operands[2:])
            self.flops = 2.0 * n**2 * (channels + 2 * MOVED)
        self.flops *= pairs
        self.exact = torch.cat(plain(*(operand.float() for operand in operands)))
        self.calls: dict[str, Callable[[], object]] = {"bare products": bare, "plain torch": lambda: plain(*operands)}
        if stage == "vectors" and runs_on(device):
            self.calls["fused"] = lambda: relu_gram_products(ReluGram(*operands[:2]), *operands[2:])
        if compiles:
            in_one = torch.compile(plain, dynamic=False)
            replayed = torch.compile(plain, dynamic=False, mode="reduce-overhead")
            flex = torch.compile(by_flex, dynamic=False)
            self.calls["torch.compile"] = lambda: in_one(*operands)
            self.calls["torch.compile, reduce-overhead"] = lambda: replayed(*operands)
            self.calls["FlexAttention"] = lambda: flex(*operands)
        else:
            self.calls["FlexAttention"] = lambda: by_flex(*operands)

    def _bare(self, *clues: Tensor) -> Found:
        inter = self.x_a @ self.x_b.mT
        return (inter @ clues[1], inter.mT @ clues[0]) if clues else (inter,)

    def errors(self) -> dict[str, str]:
        """Each implementation's error, or why it cannot compute this shape. Also does all compilation."""
        found = {}
        for name, call in self.calls.items():
            try:
                result = torch.cat([part.float() for part in call()])
            except Exception as error:  # of the compiler, the GPU's memory, an old torch: reported in the row
                found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:100]
                continue
            is_bare = name == "bare products"
            found[name] = "" if is_bare else f"{float((result - self.exact).norm() / self.exact.norm()):.1e}"
        return found

    def rows(self, rounds: int, rate: float) -> list[dict[str, object]]:
        """The table of this shape; ``rate`` is that of a large square product."""
        errors = self.errors()
        able = {name: call for name, call in self.calls.items() if "Error" not in errors[name]}
        seconds = medians_on(self.x_a.device, able, rounds, times=5)
        rows = []
        for name in self.calls:
            times = {"ms": None, "TFLOP/s": None, "% of a square product": None, "times the bare products": None}
            if name in seconds:
                speed = self.flops / seconds[name]
                times = {
                    "ms": 1e3 * seconds[name],
                    "TFLOP/s": speed / 1e12,
                    "% of a square product": 100 * speed / rate,
                    "times the bare products": seconds[name] / seconds["bare products"],
                }
            rows.append(self.labels | {"contender": name} | times | {"error": errors[name]})
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu_products", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, also on a CPU, nothing compiled: does it run?"
    )
    parser.add_argument("--stages", nargs="+", choices=("vectors", "map"), default=["vectors", "map"])
    parser.add_argument("--n", nargs="+", type=int, default=[72, 128, 192], help="clues per image")
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 256, 2048], help="channels that are compared")
    parser.add_argument("--pairs", type=int, default=2048, help="(default: 2048, a pass of the second stage)")
    parser.add_argument("--rounds", type=int, default=11, help="interleaved rounds (default: 11)")
    parser.add_argument("--compile_only", action="store_true", help="fill torch's cache, measure nothing")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.quick:
        print(f"skipped: no CUDA device (torch {torch.__version__}); --quick runs small sizes on the CPU")
        return
    if options.quick:
        options.n, options.channels, options.pairs, options.rounds = [24], [16], 3, 1
    rate, _ = matrix_product("bf16", options, device)
    table: list[dict[str, object]] = []
    with torch.no_grad():
        for stage, n, channels in itertools.product(options.stages, options.n, options.channels):
            if stage == "map" and channels > 64 and not options.quick:
                continue  # the width of the recommended attention
            shape = Shape(stage, n, channels, options.pairs, device, not options.quick)
            if options.compile_only:
                print(shape.labels, shape.errors(), flush=True)
            else:
                table.extend(shape.rows(options.rounds, rate))
    if table:
        save_results("gpu_products", table, None, options.quick)


if __name__ == "__main__":
    main()
