"""One query against K gallery images: the engines beside the equations as written and the bare matrix product.

Every row computes the same embeddings of the same pairs; before anything is timed they are compared. Clues come from
per-image caches where an engine has them, as in the second stage of an evaluation. "to the letter" multiplies the
diagonal matrices of Eq. 2-7 as matrices, "as written" scales rows and columns instead. The bare product is that of
the clues (or of the attention's projections) of all pairs and nothing else: no engine can be faster.
"""

import argparse

import torch
from matplotlib.figure import Figure

from benchmarks.as_written import as_written
from benchmarks.interleaved import interleaved_medians
from benchmarks.results_file import save_results
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead

EMBEDDING = 256
CASES = {  # form of the attention, node_wise, width
    "paper, linear": ("paper", "identity", None),
    "paper, magnitude": ("paper", "magnitude", 64),
    "released, linear": ("released", "identity", 128),
    "released, magnitude": ("released", "magnitude", 64),
}
SLOW = ("message_passing", "segment_csr", "sparse_matrix", "pooled_messages")


def make_model(engine: str, case: str, channels: int) -> ConditionalEmbedding:
    """The model of a row; weights come from torch's random state."""
    form, node_wise, width = CASES[case]
    settings = ConditionalSettings(engine=engine, node_wise=node_wise, width=width)
    head = EmbeddingHead(channels, EMBEDDING, batch_norm=False)
    model = ConditionalEmbedding(channels, CorrespondenceAttention(channels, form), head, settings)
    torch.nn.init.normal_(model.expansion.weight, std=channels**-0.5)
    return model.eval()


def make_rows(case: str, n: int, channels: int, gallery: int, chunk: int, slow: bool) -> dict:
    """The functions to time, checked to give the same numbers; each returns ``(pair, 2, embedding)``."""
    torch.manual_seed(0)
    grid = (n // 8, 8)
    query, images = Clues(torch.rand(1, n, channels), grid), Clues(torch.rand(gallery, n, channels), grid)
    reference = make_model("pooled", case, channels)

    def engine_row(engine: str):
        model = make_model(engine, case, channels)
        model.load_state_dict(reference.state_dict())
        one, many = model.prepare(query), model.prepare(images)
        starts = range(0, gallery, chunk)

        def run() -> torch.Tensor:
            found = [model(one, many.select(slice(start, start + chunk))) for start in starts]
            return torch.cat([torch.stack(both, dim=1) for both in found])

        return run

    rows = {}
    if CASES[case][0] == "paper":
        for name, diagonals in (("to the letter", "matrices"), ("as written", "vectors")):
            rows[name] = lambda diagonals=diagonals: reference.encoder(
                torch.stack([as_written(reference, query.features[0], x, diagonals) for x in images.features])
            )
    else:
        rows["as written"] = lambda: reference.encoder(
            torch.stack([released_as_written(reference, query.features[0], x) for x in images.features])
        )
    engines = ["dense", "pooled"] + [e for e in SLOW if slow and (e != "pooled_messages" or "linear" in case)]
    rows |= {engine: engine_row(engine) for engine in engines}
    _check_equal(rows)
    keys_q, keys_g = (reference.builder.prepare(clues).features for clues in (query, images))
    keys_q = keys_q[0] * reference.builder.inter_weight if CASES[case][0] == "paper" else keys_q[0]
    rows["bare product"] = lambda: keys_q @ keys_g.mT
    return rows


def released_as_written(model: ConditionalEmbedding, x_a: torch.Tensor, x_b: torch.Tensor) -> torch.Tensor:
    """One pair with the released attention on whole matrices, nothing shared with other pairs: ``(2, channel)``."""
    x = torch.cat([x_a, x_b])
    key = torch.nn.functional.normalize(model.builder.projection(x), dim=-1)
    n = len(x_a)
    self_loop = torch.eye(2 * n, dtype=torch.bool)
    adjacency = (key @ key.T).relu().masked_fill(self_loop, 0.0)
    root = adjacency.sum(1).rsqrt()
    y = (x - (root[:, None] * adjacency * root) @ x) @ model.convolution.lin.weight.T
    y = y.abs() if model.settings.node_wise == "magnitude" else y
    return (x.view(2, n, -1).mean(1)) + model.expansion(y.view(2, n, -1).mean(1))


def _check_equal(rows: dict) -> None:
    wanted = rows["as written"]()
    for name, function in rows.items():
        torch.testing.assert_close(
            function(), wanted, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def measure(case: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """The table of one case."""
    rows = make_rows(case, options.n, options.channels, options.gallery, options.chunk, options.slow)
    medians = interleaved_medians(rows, options.rounds)
    return [
        {
            "case": case,
            "width": CASES[case][2] or options.channels,
            "form": name,
            "ms a pair": f"{1e3 * seconds / options.gallery:.4f}",
            "times as written": f"{medians['as written'] / seconds:.2f}",
            "times bare product": f"{seconds / medians['bare product']:.2f}",
        }
        for name, seconds in medians.items()
    ]


def plot(table: list[dict[str, object]]) -> Figure:
    """One panel a case: milliseconds a pair of every form."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, case in zip(figure.subplots(2, 2).flat, CASES, strict=True):
        rows = [row for row in table if row["case"] == case][::-1]
        values = [float(row["ms a pair"]) for row in rows]
        bars = axes.barh([row["form"] for row in rows], values, color="#0072b2")
        axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, fontsize=8)
        axes.set(title=case, xscale="log", xlabel="ms a pair (log scale)")
        axes.set_xlim(right=max(values) * 2.5)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pair_scoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--n", type=int, default=192, help="clues an image, a multiple of 8 (default: 192)")
    parser.add_argument("--channels", type=int, default=2048, help="size of a clue (default: 2048)")
    parser.add_argument("--gallery", type=int, default=100, help="gallery images, K (default: 100)")
    parser.add_argument("--chunk", type=int, default=16, help="pairs at once, so that they stay in cache (default: 16)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--slow", action="store_true", help="time the edge-list engines too: much slower")
    options = parser.parse_args()
    if options.quick:
        options.n, options.channels, options.gallery, options.rounds = 48, 128, 8, 3
    table = [row for case in CASES for row in measure(case, options)]
    save_results("pair_scoring", table, plot(table), options.quick)


if __name__ == "__main__":
    main()
