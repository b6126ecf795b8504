"""The picture at the top of the README: a query next to the same person and next to another person who looks alike.

The query is one of the rendered test people. By the network's own embedding its nearest picture shows another person,
and after the pair stage it shows the right one. Lines connect the clues with the largest weights.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from cace_pyg.config import from_yaml
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.evaluation import evaluate_model
from cace_pyg.explain.pair_analysis import analyse_pair
from cace_pyg.viz.correspondences import draw_joined_pictures, matches_to_draw
from cace_pyg.viz.style import GREY, picture_array, verdict_color


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.correspondence_figure", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, default="runs/synthetic/checkpoints/best.ckpt", help="of make demo")
    parser.add_argument("--root", help="data set; default: that of the checkpoint")
    parser.add_argument("--query", default="1149_c3s1_000001_00.jpg", help="file name of the query")
    parser.add_argument("--strongest", type=int, default=18, help="lines in each pair (default: 18)")
    parser.add_argument("--output", type=Path, default="docs/correspondences.png", help="(default: %(default)s)")
    options = parser.parse_args()
    state = load_checkpoint(options.checkpoint)
    overrides = [f"--data.root={options.root}"] if options.root else []
    config = from_yaml(state["config"], "--device=cpu", "--data.workers=0", *overrides)
    splits, (model, _) = read_splits(config.data), load_model(options.checkpoint, config)
    query = next(sample for sample in splits.query if sample.path.name == options.query)
    gallery = [
        sample for sample in splits.gallery if sample.pid > 0 and (sample.pid, sample.camid) != (query.pid, query.camid)
    ]
    measured = evaluate_model(model, (query,), tuple(gallery), config, state["fusion_weight"])
    individual = measured.distances.individual()[0]
    fused = measured.distances.two_stage(measured.fusion_weight)[0]
    right = [sample.pid == query.pid for sample in gallery]
    same = min((i for i in range(len(gallery)) if right[i]), key=lambda i: float(fused[i]))
    other = min((i for i in range(len(gallery)) if not right[i]), key=lambda i: float(individual[i]))
    config = replace(config, evaluation=replace(config.evaluation, fusion=str(measured.fusion_weight)))

    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    for axes, chosen in zip(figure.subplots(1, 2), (same, other), strict=True):
        pair = (query.path, gallery[chosen].path)
        view = analyse_pair(options.checkpoint, pair, config).view
        pictures = picture_array(pair[0]), picture_array(pair[1])
        drawn = matches_to_draw(view.matches, view.grid, options.strongest)
        draw_joined_pictures(axes, pictures, drawn, view.grid, right[chosen])
        title = "the same person, another camera" if right[chosen] else "another person, dressed alike"
        axes.set_title(title, fontsize=12, color=verdict_color(right[chosen]), fontweight="bold", pad=8)
        places = [1 + int((ranked < ranked[chosen]).sum()) for ranked in (individual, fused)]
        axes.set_xlabel(
            f"rank {places[0]} by the network alone, rank {places[1]} after the pair stage",
            fontsize=10, color=GREY, labelpad=8,
        )  # fmt: skip
    figure.savefig(options.output, dpi=125, facecolor="white")
    print(options.output)


if __name__ == "__main__":
    main()
