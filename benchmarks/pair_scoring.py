"""One query against K gallery images: the backends compared with the equations as written and the bare matrix product.

Every row computes the same embeddings of the same pairs; this is checked before the measurement. Clues come from
per-image caches if a backend has them, as in the second stage of an evaluation. "as written" multiplies the matrices
of Eq. 2-7, including the diagonal ones W, W' and D^-1/2; "as written, scaled" scales rows and columns instead, which
the paper does not say but is the obvious way. The bare product is only that of the clues (or of the attention's
projections) of all pairs: no backend can be faster. "bare products" are those that a function of each node before
pooling needs: the inter block, and each of the four blocks times its clues.
"""

import argparse
from collections.abc import Callable

import torch
from matplotlib.figure import Figure

from benchmarks.as_written import as_written, scaled
from benchmarks.dot_plot import dot_plot
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


def make_model(backend: str, case: str, channels: int) -> ConditionalEmbedding:
    """The model of a row; its weights come from torch's random state."""
    form, node_wise, width = CASES[case]
    settings = ConditionalSettings(backend=backend, node_wise=node_wise, width=width)
    head = EmbeddingHead(channels, EMBEDDING, batch_norm=False)
    model = ConditionalEmbedding(channels, CorrespondenceAttention(channels, form), head, settings)
    torch.nn.init.normal_(model.expansion.weight, std=channels**-0.5)
    return model.eval()


def make_rows(case: str, n: int, channels: int, gallery: int, chunk: int, slow: bool) -> dict:
    """The functions to time, after checking that they agree; each returns ``(pair, 2, embedding)``."""
    torch.manual_seed(0)
    grid = (n // 8, 8)
    query, images = Clues(torch.rand(1, n, channels), grid), Clues(torch.rand(gallery, n, channels), grid)
    reference = make_model("pooled", case, channels)

    def backend_row(backend: str):
        model = make_model(backend, case, channels)
        model.load_state_dict(reference.state_dict())
        query_operand, many = model.prepare(query), model.prepare(images)
        starts = range(0, gallery, chunk)

        def run() -> torch.Tensor:
            found = [model(query_operand, many.select(slice(start, start + chunk))) for start in starts]
            return torch.cat([torch.stack(both, dim=1) for both in found])

        return run

    rows = {}
    for name, one_pair in (("as written", as_written), ("as written, scaled", scaled)):
        rows[name] = lambda one_pair=one_pair: reference.encoder(
            torch.stack([one_pair(reference, query.features[0], x) for x in images.features])
        )
    backends = ["dense", "pooled"] + [e for e in SLOW if slow and (e != "pooled_messages" or "linear" in case)]
    rows |= {backend: backend_row(backend) for backend in backends}
    _check_equal(rows)
    if "magnitude" in case:
        rows["bare products"] = map_products(reference, query, images, chunk)
    keys_q, keys_g = (reference.builder.prepare(clues).features for clues in (query, images))
    keys_q = keys_q[0] * reference.builder.inter_weight if CASES[case][0] == "paper" else keys_q[0]
    rows["bare product"] = lambda: keys_q @ keys_g.mT
    return rows


def map_products(model: ConditionalEmbedding, query: Clues, images: Clues, chunk: int) -> Callable[[], None]:
    """Only the matrix products of the convolution of whole maps."""
    query_operand, many = model.prepare(query), model.prepare(images)
    keys = query_operand.compared.features * (model.builder.inter_weight if model.builder.form == "paper" else 1.0)

    def run() -> None:
        for start in range(0, len(images), chunk):
            part = many.select(slice(start, start + chunk))
            inter = keys @ part.compared.features.mT
            (
                query_operand.intra @ part.projected,
                part.intra @ part.projected,
                inter @ part.projected,
                inter.mT @ part.projected,
            )

    return run


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
            "times as fast as written": f"{medians['as written'] / seconds:.1f}",
            "as written, scaled": f"{medians['as written, scaled'] / seconds:.1f}",
            "times bare product": f"{seconds / medians['bare product']:.2f}",
        }
        for name, seconds in medians.items()
    ]


def plot(table: list[dict[str, object]]) -> Figure:
    """One panel per case: milliseconds per pair of every form."""
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    for axes, case in zip(figure.subplots(2, 2).flat, CASES, strict=True):
        rows = [row for row in table if row["case"] == case]
        dot_plot(
            axes, [str(row["form"]) for row in rows], [float(str(row["ms a pair"])) for row in rows], case, "ms a pair"
        )
    return figure


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pair_scoring", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--n", type=int, default=192, help="clues per image, a multiple of 8 (default: 192)")
    parser.add_argument("--channels", type=int, default=2048, help="size of a clue (default: 2048)")
    parser.add_argument("--gallery", type=int, default=100, help="gallery images, K (default: 100)")
    parser.add_argument("--chunk", type=int, default=64, help="pairs at once, as evaluation does (default: 64)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    parser.add_argument("--slow", action="store_true", help="also time the edge-list backends, which are much slower")
    options = parser.parse_args()
    if options.quick:
        options.n, options.channels, options.gallery, options.rounds = 48, 128, 8, 3
    table = [row for case in CASES for row in measure(case, options)]
    save_results("pair_scoring", table, plot(table), options.quick)


if __name__ == "__main__":
    main()
