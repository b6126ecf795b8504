"""Sparse against dense: one graph convolution and average pooling on pair graphs, by density.

Every row goes from node features (pair, 2n, channel) and a graph to pooled features (pair, 2, channel). The learned
projection, which is the same matrix product in all rows, is left out, also in PyG's layers. The graph is given in the
form that a row takes (matrices or edges); converting matrices to edges is a separate row. Our rows are compared with
the dense matrix product before the measurement; GCNConv and DenseGCNConv add self-loops and smooth, so their results
differ, with the same arithmetic. The backward pass goes to node features and edge weights, as a learned graph needs.
"""

import argparse
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch_geometric.nn import DenseGCNConv, GCNConv
from torch_geometric.utils import to_torch_csr_tensor

from benchmarks.interleaved import interleaved_medians
from benchmarks.peak_memory import peak_memory
from benchmarks.results_file import save_results
from cace_pyg.graph import PairBlocks, block_edges
from cace_pyg.models.backends import convolve_segments
from cace_pyg.nn import DiscrepancyConv, pool_blocks, pooled_messages
from cace_pyg.nn.dense_discrepancy_conv import convolve_dense

SIZES = ((32, 72, 64), (16, 192, 128), (1, 192, 2048))  # pairs, n, channels
DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
DENSE = ("as written", "dense", "pooled", "DenseGCNConv")
STYLES = {
    "as written": ("#000000", ":"),
    "dense": ("#0072b2", "-"),
    "DenseGCNConv": ("#56b4e9", "--"),
    "pooled": ("#009e73", "-"),
    "message_passing": ("#d55e00", "-"),
    "segment_csr": ("#e69f00", "-"),
    "sparse_matrix": ("#cc79a7", "-"),
    "GCNConv": ("#d55e00", "--"),
    "pooled_messages": ("#009e73", "--"),
    "pooled_messages, edges": ("#009e73", ":"),
    "dense_to_sparse": ("#999999", "-."),
}
Row = Callable[[Tensor, Tensor], Tensor]


class Graphs(NamedTuple):
    """Pair graphs of one density in all forms: matrices, edges of all pairs, and a CSR tensor of these edges."""

    x: Tensor
    adjacency: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    image: Tensor
    matrix: Tensor


def make_graphs(pairs: int, n: int, channels: int, density: float) -> Graphs:
    """Random symmetric graphs with real weights; a share of about ``density`` of all entries is not zero."""
    torch.manual_seed(0)
    upper = torch.rand(pairs, 2 * n, 2 * n).triu() * (torch.rand(pairs, 2 * n, 2 * n) < density)
    adjacency = upper + upper.triu(1).mT
    edge_index, edge_weight = block_edges(to_blocks(adjacency))
    image = torch.arange(2).repeat_interleave(n).repeat(pairs)
    x = torch.randn(pairs, 2 * n, channels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that CSR tensors are in beta
        matrix = to_torch_csr_tensor(edge_index, edge_weight, size=image.numel(), is_coalesced=True)
    return Graphs(x, adjacency, edge_index, edge_weight, image, matrix)


def to_blocks(adjacency: Tensor) -> PairBlocks:
    n = adjacency.size(1) // 2
    return PairBlocks(adjacency[:, :n, :n], adjacency[:, :n, n:], adjacency[:, n:, n:])


def make_rows(graphs: Graphs) -> dict[str, Row]:
    """The timed functions of node features and weights (of the matrices or of the edges)."""
    pairs, nodes, channels = graphs.x.shape
    ours = DiscrepancyConv(1, 1)
    gcn, dense_gcn = GCNConv(channels, channels, bias=False), DenseGCNConv(channels, channels, bias=False)
    gcn.lin, dense_gcn.lin = torch.nn.Identity(), torch.nn.Identity()

    def pool(y: Tensor) -> Tensor:
        return y.view(pairs, 2, nodes // 2, channels).mean(2)

    def as_written(x: Tensor, adjacency: Tensor) -> Tensor:
        found = []
        for features, a in zip(x, adjacency, strict=True):
            degree = a.sum(1)
            root = torch.where(degree > 0, degree, 1.0).rsqrt() * (degree > 0)
            found.append(features - (root[:, None] * a * root) @ features)
        return pool(torch.stack(found))

    def on_blocks(x: Tensor, adjacency: Tensor) -> Tensor:
        n = nodes // 2
        return torch.stack(pool_blocks(x[:, :n], x[:, n:], *to_blocks(adjacency)), dim=1)

    def scalar(x: Tensor, *graph: Tensor) -> Tensor:
        return pooled_messages(ours, x.flatten(0, 1), *graph, graphs.image, pairs)

    return {
        "as written": as_written,
        "dense": lambda x, a: pool(convolve_dense(x, a, "discrepancy", "textbook")),
        "DenseGCNConv": lambda x, a: pool(dense_gcn(x, a)),
        "pooled": on_blocks,
        "message_passing": lambda x, w: pool(ours.convolve(x.flatten(0, 1), graphs.edge_index, w)),
        "segment_csr": lambda x, w: pool(convolve_segments(ours, x.flatten(0, 1), graphs.matrix, w)),
        "sparse_matrix": lambda x, w: pool(ours.convolve(x.flatten(0, 1), graphs.matrix, w, is_undirected=True)),
        "GCNConv": lambda x, w: pool(gcn(x.flatten(0, 1), graphs.edge_index, w)),
        "pooled_messages": lambda x, w: scalar(x, graphs.matrix, w),
        "pooled_messages, edges": lambda x, w: scalar(x, graphs.edge_index, w),
        "dense_to_sparse": lambda x, a: block_edges(to_blocks(a))[1],
    }


def check(rows: dict[str, Row], graphs: Graphs) -> None:
    """Check that our rows give the same results and gradients of node features as the equations as written."""
    x = graphs.x.clone().requires_grad_()
    wanted, probe = None, None
    for name, row in rows.items():
        if name in ("GCNConv", "DenseGCNConv", "dense_to_sparse"):
            continue
        out = row(x, _weights(name, graphs))
        probe = torch.randn_like(out) if probe is None else probe
        got = (out, *torch.autograd.grad((out * probe).sum(), x))
        wanted = wanted or got
        for actual, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(
                actual, other, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
            )


def _weights(name: str, graphs: Graphs) -> Tensor:
    takes_matrices = name in DENSE or name == "dense_to_sparse"
    return graphs.adjacency if takes_matrices else graphs.edge_weight


def measure(size: tuple[int, int, int], density: float, rounds: int) -> list[dict[str, object]]:
    """The table of one size and density."""
    graphs = make_graphs(*size, density)
    rows = make_rows(graphs)
    check(rows, graphs)
    probe = torch.randn(size[0], 2, size[2])

    def forward(name: str):
        with torch.no_grad():
            return rows[name](graphs.x, _weights(name, graphs))

    def both(name: str):
        inputs = [graphs.x.detach().requires_grad_(), _weights(name, graphs).detach().requires_grad_()]
        out = rows[name](*inputs)
        loss = out.sum() if name == "dense_to_sparse" else (out * probe).sum()
        return torch.autograd.grad(loss, inputs[1:] if name == "dense_to_sparse" else inputs)

    table = []
    for what, one_pass in (("forward", forward), ("forward + backward", both)):
        functions = {name: lambda name=name, one_pass=one_pass: one_pass(name) for name in rows}
        peaks = {name: peak_memory(function) for name, function in functions.items()}
        medians = interleaved_medians(functions, rounds)
        table += [
            {
                "pairs": size[0],
                "n": size[1],
                "channels": size[2],
                "density": f"{density:g}",
                "pass": what,
                "backend": name,
                "ms a pair": 1e3 * medians[name] / size[0],
                "pairs/s": size[0] / medians[name],
                "peak MB a pair": peaks[name] / 1e6 / size[0],
            }
            for name in rows
        ]
    return table


def _size(row: dict[str, object]) -> tuple[object, object, object]:
    return row["pairs"], row["n"], row["channels"]


def crossovers(table: list[dict[str, object]], sparse: str, dense: str) -> list[str]:
    """For each size and pass, the density below which the sparse row is faster, interpolated on a log-log scale."""
    lines = []
    for size in dict.fromkeys(_size(row) for row in table):
        for what in ("forward", "forward + backward"):
            times = {
                (row["backend"], float(str(row["density"]))): float(str(row["ms a pair"]))
                for row in table
                if _size(row) == size and row["pass"] == what
            }
            points = sorted({density for _, density in times})
            gains = [math.log(times[sparse, density] / times[dense, density]) for density in points]
            lines.append(f"n {size[1]}, {size[2]} channels, {what}: {sparse} {_crossover(points, gains)} {dense}")
    return lines


def _crossover(points: list[float], gains: list[float]) -> str:
    """The density at which the sparse row stops being faster; a single disturbed point in between is ignored."""
    faster = [index for index, gain in enumerate(gains) if gain < 0]
    if not faster:
        return f"is slower already at {points[0]:.0%} than"
    last = faster[-1]
    if last == len(points) - 1:
        return "is faster at every density up to 100% than"
    low, high = math.log(points[last]), math.log(points[last + 1])
    at = math.exp(low + (high - low) * gains[last] / (gains[last] - gains[last + 1]))
    return f"is faster below a density of {at:.1%} than"


def plot(table: list[dict[str, object]]) -> Figure:
    """Milliseconds per pair against density; one column per size, one row per pass."""
    sizes = list(dict.fromkeys(_size(row) for row in table))
    passes = list(dict.fromkeys(row["pass"] for row in table))
    figure = Figure(figsize=(4 * len(sizes) + 2, 7.5), layout="constrained")
    axes = figure.subplots(len(passes), len(sizes), squeeze=False, sharex=True)
    for line, what in zip(axes, passes, strict=True):
        for panel, size in zip(line, sizes, strict=True):
            of_panel = [row for row in table if _size(row) == size and row["pass"] == what]
            for name, (colour, style) in STYLES.items():
                rows = [row for row in of_panel if row["backend"] == name]
                x = [100 * float(str(row["density"])) for row in rows]
                panel.plot(x, [row["ms a pair"] for row in rows], style, color=colour, label=name, marker=".")
            panel.set(xscale="log", yscale="log", title=f"n = {size[1]}, {size[2]} channels, {what}")
            panel.set(xlabel="density, %", ylabel="ms a pair")
            panel.grid(True, color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gcn_throughput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    options = parser.parse_args()
    sizes, densities = (((2, 12, 8),), (0.1, 1.0)) if options.quick else (SIZES, DENSITIES)
    table = [row for size in sizes for density in densities for row in measure(size, density, options.rounds)]
    save_results("gcn_throughput", table, plot(table), options.quick)
    for sparse, dense in (("sparse_matrix", "dense"), ("message_passing", "dense"), ("pooled_messages", "pooled")):
        print("\n".join(crossovers(table, sparse, dense)))
    for row in table:
        if row["backend"] == "GCNConv" and row["density"] == "1":
            same = {r["backend"]: r for r in table if all(r[k] == row[k] for k in ("n", "channels", "density", "pass"))}
            ratio = float(str(row["ms a pair"])) / float(str(same["pooled_messages"]["ms a pair"]))
            print(
                f"full density, n {row['n']}, {row['channels']} channels, {row['pass']}: pooled_messages is "
                f"{ratio:.0f} times as fast as GCNConv on the edge list"
            )


if __name__ == "__main__":
    main()
