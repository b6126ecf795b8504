"""Microseconds per pair of each row, one query against many pictures."""

import torch

from benchmarks.interleaved import interleaved_medians
from benchmarks.opponents.rows import TRAINED, Recipe, build, bytes_a_picture
from cace_pyg import Features
from cace_pyg.graph import Clues

_PAIRS_PER_BATCH = 64  # as in the second stage


@torch.no_grad()
def time_rows(features: Features, recipe: Recipe, rounds: int) -> list[dict[str, object]]:
    """Time only the second stage on prepared pictures, in turns; with initial weights, which do not change the time.

    Args:
        features: a query first, then at least ``top_k`` pictures.
        recipe: of all rows.
        rounds: medians are taken over these.
    """
    pairs = recipe.top_k
    functions, sizes = {}, {}
    for row in TRAINED:
        stage = build(row, features, recipe, seed=0)[0].pair_stage.eval()
        prepared = stage.prepare(Clues(features.clues[: pairs + 1].float(), features.grid))
        query = prepared.select(slice(1))
        parts = [prepared.select(part) for part in torch.arange(1, pairs + 1).split(_PAIRS_PER_BATCH)]

        def run(stage=stage, query=query, parts=parts) -> None:
            for part in parts:
                stage.distance(query, part)

        functions[row] = run
        sizes[row] = bytes_a_picture(prepared), sum(weight.numel() for weight in stage.parameters())
    medians = interleaved_medians(functions, rounds)
    return [
        {
            "row": row,
            "us_a_pair": f"{1e6 * seconds / pairs:.1f}",
            "times_graph": f"{seconds / medians['graph']:.2f}",
            "bytes_a_gallery_picture": sizes[row][0],
            "parameters": sizes[row][1],
        }
        for row, seconds in medians.items()
    ]
