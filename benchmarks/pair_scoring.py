"""One query against K gallery images: the engines beside the equations as written and the bare matrix product.

Every row computes the same embeddings of the same pairs; before anything is timed they are compared. Clues come from
per-image caches where an engine has them, as in evaluation.
"""

import argparse
import csv
from pathlib import Path

import torch

from benchmarks.interleaved import interleaved_medians
from benchmarks.origin import origin
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead

RESULTS = Path(__file__).parent / "results"


def as_written(model: ConditionalEmbedding, query: Clues, gallery: Clues) -> torch.Tensor:
    """Eq. 2–7 on whole matrices, nothing shared between pairs: what a direct transcription does."""
    theta, pairs = model.convolution.lin.weight, []
    for k in range(len(gallery)):
        x_a, x_b = query.features[0], gallery.features[k]
        w, w_inter = model.builder.intra_weight, model.builder.inter_weight
        inter = (x_a * w_inter) @ x_b.T
        top, bottom = torch.cat([(x_a * w) @ x_a.T, inter], 1), torch.cat([inter.T, (x_b * w) @ x_b.T], 1)
        adjacency = torch.cat([top, bottom]).relu()
        root = adjacency.sum(1).rsqrt()
        x = torch.cat([x_a, x_b])
        y = (x - root[:, None] * (adjacency @ (root[:, None] * x))) @ theta.T
        if model.settings.node_wise == "magnitude":
            y = y.abs()
        pairs.append(torch.stack([y[: len(x_a)].mean(0), y[len(x_a) :].mean(0)]))
    return model.encoder(model.expansion(torch.stack(pairs)))


def make_rows(n: int, channels: int, gallery: int, node_wise: str, width: int | None, slow: bool) -> dict:
    """The functions to time, checked to give the same numbers; each returns ``(pair, 2, embedding)``."""
    torch.manual_seed(0)
    grid = (n // 8, 8)
    query, images = Clues(torch.rand(1, n, channels), grid), Clues(torch.rand(gallery, n, channels), grid)
    models = {}
    for engine in ("pooled", "dense", "message_passing"):
        settings = ConditionalSettings(engine=engine, residual=False, node_wise=node_wise, width=width)
        head = EmbeddingHead(channels, 256, batch_norm=False)
        models[engine] = ConditionalEmbedding(channels, CorrespondenceAttention(channels, "paper"), head, settings)
        models[engine].load_state_dict(models["pooled"].state_dict())

    def engine_row(engine: str):
        model = models[engine]
        cached_query, cached_images = model.prepare(query), model.prepare(images)
        repeated = torch.zeros(gallery, dtype=torch.long)
        return lambda: torch.stack(model(cached_query.select(repeated), cached_images), dim=1)

    weight = models["pooled"].builder.inter_weight
    rows = {
        "as written": lambda: as_written(models["dense"], query, images),
        "dense": engine_row("dense"),
        "pooled": engine_row("pooled"),
    }
    if slow:
        rows["message_passing"] = engine_row("message_passing")
    reference = rows["as written"]()
    for name, function in rows.items():
        torch.testing.assert_close(
            function(), reference, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    weighted = query.features * weight
    rows["bare inter product"] = lambda: weighted @ images.features.mT
    return rows


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pair_scoring", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--n", type=int, default=192, help="clues an image, a multiple of 8 (default: 192)")
    parser.add_argument("--channels", type=int, default=2048, help="size of a clue (default: 2048)")
    parser.add_argument("--gallery", type=int, default=32, help="gallery images (default: 32)")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds (default: 9)")
    parser.add_argument("--message_passing", action="store_true", help="time the edge-list engine too: much slower")
    options = parser.parse_args()
    if options.quick:
        options.n, options.channels, options.gallery, options.rounds = 48, 128, 8, 3
    table = []
    print(origin())
    for node_wise, width in (("identity", None), ("identity", 64), ("magnitude", 64)):
        rows = make_rows(options.n, options.channels, options.gallery, node_wise, width, options.message_passing)
        medians = interleaved_medians(rows, options.rounds)
        print(f"\nnode_wise {node_wise}, width {width or options.channels}: n {options.n}, D {options.channels}, "
              f"one query against {options.gallery}")  # fmt: skip
        for name, seconds in medians.items():
            per_pair = 1e3 * seconds / options.gallery
            ratio = medians["as written"] / seconds
            print(f"  {name:20} {per_pair:9.3f} ms a pair   {ratio:7.1f} times as fast as written")
            table.append([node_wise, width or options.channels, name, f"{per_pair:.4f}", f"{ratio:.2f}"])
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("pair_scoring_quick.csv" if options.quick else "pair_scoring.csv")
    with path.open("w", newline="") as file:
        file.write(f"# {origin()}\n")
        csv.writer(file, lineterminator="\n").writerows(
            [["node_wise", "width", "form", "ms_a_pair", "speed_up"], *table]
        )
    print(f"\n{path}")


if __name__ == "__main__":
    main()
