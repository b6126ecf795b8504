"""The cost of a gallery's compact clues in mAP and Rank-1: both stages with images in int8, float16 and float32.

Queries are never compressed: they come directly from the network. A gallery also stores individual embeddings in half
precision, so these are rounded in both compact forms. With --evaluation.gallery_clues all rows have as many clues.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from matplotlib.figure import Figure

from benchmarks.gallery_search import random_checkpoint
from benchmarks.results_file import save_results
from cace_pyg.config import Config, from_yaml
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import labels_of, measure, measure_pairs
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.extraction import Extraction
from cace_pyg.gallery.clue_codec import ClueCodec, Precision
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import euclidean_distance, evaluate, rerank, top_k
from cace_pyg.viz.style import SERIES


def compressed(gallery: Extraction, model: CaceNet, precision: Precision, clues: int | None) -> tuple[Extraction, int]:
    """A gallery after storing and reading it, and the bytes of clues per image."""
    codec = ClueCodec(gallery.prepared, precision, clues)
    prepared = codec.decode(codec.encode(gallery.prepared), model)
    return Extraction(gallery.samples, gallery.embedding.half().float(), prepared), codec.bytes_per_image


def compare(checkpoint: Path, config: Config, fusion: float) -> Iterator[dict]:
    """The results of both stages at every precision."""
    splits = read_splits(config.data)
    model, _ = load_model(checkpoint, config)
    clues = config.evaluation.gallery_clues
    every = replace(config, evaluation=replace(config.evaluation, gallery_clues=None))
    query, gallery, _ = measure(model, splits.query, splits.gallery, every, "cpu")
    prepared = gallery.prepared if clues is None else model.pair_stage.keep_clues(gallery.prepared, clues)
    exact = replace(gallery, prepared=prepared)
    kept_arrays = prepared.compared.features, prepared.projected, prepared.individual
    whole = sum(array[0].nbytes for array in kept_arrays)
    for precision in ("float32", *get_args(Precision)):
        kept, size = (exact, whole) if precision == "float32" else compressed(gallery, model, precision, clues)
        individual = euclidean_distance(query.embedding, kept.embedding)
        index = top_k(individual, config.evaluation.top_k)
        conditional = measure_pairs(model, query, kept, index, config.evaluation.pairs_per_batch, "cpu")
        labels = labels_of(query.samples, kept.samples)
        first = evaluate(individual, **labels, **config.evaluation.policy())
        both = evaluate(rerank(individual, index, conditional, fusion), **labels, **config.evaluation.policy())
        yield {
            "checkpoint": f"{checkpoint.parent.parent.name}",
            "clues": clues or "all",
            "precision": precision,
            "clue_bytes": size,
            "individual_mAP": f"{100 * first.mAP:.2f}",
            "individual_rank1": f"{100 * first.rank1:.2f}",
            "two_stage_mAP": 100 * both.mAP,
            "two_stage_rank1": 100 * both.rank1,
        }


def plot(rows: list[dict]) -> Figure:
    """The change of two-stage mAP by precision."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    exact = [row for row in rows if row["precision"] == "float32"]
    for number, precision in enumerate(get_args(Precision)):
        compact = [row for row in rows if row["precision"] == precision]
        change = [
            row["two_stage_mAP"] - reference["two_stage_mAP"] for row, reference in zip(compact, exact, strict=True)
        ]
        places = [place + 0.3 * number for place in range(len(change))]
        axes.bar(places, change, 0.28, color=SERIES[number], label=f"{precision}, {compact[0]['clue_bytes']:,} bytes")
    axes.axhline(0, color="#000000", lw=0.8)
    axes.set(xticks=range(len(exact)), xlabel="checkpoint", ylabel="mAP after both stages, over float32")
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.gallery_precision", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=[], help="of trained models")
    parser.add_argument(
        "--config", default="configs/synthetic.yaml", help="of random weights, if there is no checkpoint"
    )
    parser.add_argument("--name", default="gallery_precision", help="of the results file")
    parser.add_argument("--quick", action="store_true", help="random weights, a few pictures; written to *_quick")
    options, overrides = parser.parse_known_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if options.quick or not options.checkpoints:
            settings = SyntheticSettings(
                train_identities=2, test_identities=4 if options.quick else 20, distractors=0, junk=0, seed=7
            )
            overrides += [f"--data.root={make_synthetic(Path(folder) / 'pictures', settings, progress=False)}"]
            options.checkpoints = [random_checkpoint(Path(folder) / "r.ckpt", ["--config", options.config, *overrides])]
        rows = []
        for checkpoint in options.checkpoints:
            state = load_checkpoint(checkpoint)
            config = from_yaml(state["config"], *overrides)
            for row in compare(checkpoint, config, fusion_weight_of(config, state["fusion_weight"])):
                print({name: value if isinstance(value, str) else round(value, 3) for name, value in row.items()})
                rows.append(row)
    save_results(options.name, rows, plot(rows), options.quick)


if __name__ == "__main__":
    main()
