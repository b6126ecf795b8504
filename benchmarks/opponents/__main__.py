"""Other methods on the same frozen clues: same people, triplets, steps and seeds, ranked by the official protocol.

graph: the recipe of configs/on_top.yaml; no_graph: the same without edges, the control; part, nearest_counterpart,
fully_connected: other builders; smoothing: neighbours added instead of subtracted; aligned_clues: the mean similarity
of the clues that the attention connects; mutual_nearest: that of clues that are each other's nearest; qaconv: best
matches (Liao and Shao, 2020); transmatcher: two layers of query-key similarity with learned priors (Liao and Shao,
2021), the second with its own encoder layer, which makes its training slow; transmatcher_one_layer: only the first;
k_reciprocal: re-ranking by neighbours (Zhong et al., 2017).

Features come from `python -m benchmarks.extraction --data ROOT --keep FOLDER`. A hundred training people are held out.
On them the fusion weight of each row is chosen, and, for the rows of --search, first the learning rate in a shorter
training, then the clue dropout at that rate. Query and gallery are used after that, once per row and seed. Every row
has a file in --out, with the average precision of each query; rows with a file are not computed again. --time measures
microseconds per pair instead: run it on an idle machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.opponents.compute_rows import compute_rows
from benchmarks.opponents.people import (
    People,
    add_elsewhere,
    learn_elsewhere,
    on_cameras,
    read_people,
    split_people,
    standardise_cameras,
)
from benchmarks.opponents.rows import TRAINED, TRANSMATCHER_LAYERS, UNTRAINED, Recipe
from benchmarks.opponents.table import print_table
from benchmarks.opponents.timing import time_rows
from benchmarks.results_file import save_results
from cace_pyg import Features

_QUICK = {
    "steps": 2, "anchors": 6, "confusions": 3, "top_k": 5, "held_out": 4, "width": 8, "search_steps": 1, "rounds": 2,
    "learning_rates": [1e-3], "clue_dropouts": [], "follow": [2],
}  # fmt: skip


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        if options.quick:
            people, name = _few_people(), "random"
            options = argparse.Namespace(**(vars(options) | _QUICK | {"out": options.out or Path(scratch)}))
        elif not options.table:
            people, name = read_people(options.features, options.data, options.held_out), options.features.name
            if options.elsewhere:
                people = add_elsewhere(people, *map(Path, options.elsewhere))
            if options.learn_from:
                sources = [(Path(file), Path(root)) for file, root in options.learn_from]
                people = learn_elsewhere(people, sources, options.held_out)
            people = on_cameras(people, options.train_cameras, options.test_cameras)
            if options.standardise_cameras:
                people = standardise_cameras(people)
        recipe = Recipe(
            options.steps,
            options.anchors,
            options.confusions,
            mirror=options.mirror,
            width=options.width,
            top_k=options.top_k,
            precision=options.precision,
            clue_dropout=options.clue_dropout,
            fusion=options.fusion,
        )
        if options.time or options.quick:
            save_results("opponents", time_rows(people.features, recipe, options.rounds), None, options.quick)
        if not (options.time or options.table):
            source = {"features": name, "held_out": options.held_out}
            if options.elsewhere:
                source["elsewhere"] = Path(options.elsewhere[1]).name
            if options.learn_from:
                source["learn_from"] = [Path(root).name for _, root in options.learn_from]
            for name in ("train_cameras", "test_cameras"):
                if getattr(options, name) is not None:
                    source[name] = getattr(options, name)
            if options.standardise_cameras:
                source["standardise_cameras"] = True
            compute_rows(people, recipe, source, options)
        if options.table or not options.time:
            print_table(options.out)


def _few_people() -> People:
    """A dozen random people with three pictures from each of two cameras; eight of them are for training."""
    draw = torch.Generator().manual_seed(0)
    labels = [(pid, camera) for pid in range(1, 13) for camera in (1, 2, 2)]
    parts = labels + [(pid, 1) for pid in range(1, 9)] + labels[: 3 * 8]
    own = torch.rand(13, 8, 16, generator=draw)
    clues = own[[pid for pid, _ in parts]] + 0.5 * torch.rand(len(parts), 8, 16, generator=draw)
    return split_people(Features(clues.mean(1), clues.half(), (4, 2)), parts, (len(labels), 8), _QUICK["held_out"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.opponents", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--features", type=Path, help="file of benchmarks.extraction --keep")
    parser.add_argument("--data", type=Path, help="the data set they are of, in Market-1501's layout")
    parser.add_argument("--out", type=Path, help="folder of the row files")
    parser.add_argument("--rows", nargs="*", choices=UNTRAINED + TRAINED, default=UNTRAINED + TRAINED)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1200, help="(default: 1200)")
    parser.add_argument("--anchors", type=int, default=96, help="triplets per step (default: 96)")
    parser.add_argument(
        "--confusions", type=int, default=20, help="number of nearest wrong people for negatives (default: 20)"
    )
    parser.add_argument("--mirror", type=float, default=0.0, help="share of mirrored pictures (default: 0)")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of training")
    parser.add_argument(
        "--top_k", type=int, default=100, help="pictures that are re-ranked for each query (default: 100)"
    )
    parser.add_argument(
        "--deeper", nargs="*", type=int, default=[], help="further depths than --top_k, of the same nets"
    )
    parser.add_argument(
        "--neighbours", action="store_true", help="also re-rank by neighbours of both stages, at --top_k"
    )
    parser.add_argument("--tune", action="store_true", help="with --neighbours, also by the settings that are best on "
                        "the held-out people")  # fmt: skip
    parser.add_argument("--follow", nargs="*", type=int, default=[], help="also let the second stage follow this many "
                        "gallery neighbours; one of several counts is chosen on the held-out people")  # fmt: skip
    parser.add_argument("--elsewhere", nargs=2, metavar=("FEATURES", "DATA"), help="another data set, ranked with the "
                        "weight that was chosen on the first: cameras without labels")  # fmt: skip
    parser.add_argument("--learn_from", nargs=2, action="append", metavar=("FEATURES", "DATA"), help="train and choose "
                        "the weight on all people of this data set instead; may be repeated")  # fmt: skip
    parser.add_argument("--train_cameras", nargs="+", type=int, help="train and choose the weight on pictures of these "
                        "cameras only")  # fmt: skip
    parser.add_argument("--test_cameras", nargs="+", type=int, help="query and gallery pictures of these cameras only")
    parser.add_argument("--standardise_cameras", action="store_true", help="equal statistics of features in every "
                        "camera (docs/cameras.md)")  # fmt: skip
    parser.add_argument("--clue_dropout", type=float, default=0.5, help="in training (default: 0.5)")
    parser.add_argument("--fusion", type=float, help="weight of the pair stage; needed if the network was trained "
                        "on the held-out people (default: chosen on them)")  # fmt: skip
    parser.add_argument("--width", type=int, default=64, help="channels of projected clues (default: 64)")
    parser.add_argument("--held_out", type=int, default=100, help="training people (default: 100)")
    own = ["aligned_clues", "mutual_nearest", "qaconv", *TRANSMATCHER_LAYERS]
    parser.add_argument("--search", nargs="*", choices=TRAINED, default=own, help="rows with their own learning rate "
                        "and clue dropout; the others have 1e-3 and 0.5")  # fmt: skip
    parser.add_argument("--search_steps", type=int, default=600, help="(default: 600)")
    parser.add_argument("--learning_rates", nargs="+", type=float, default=[1e-3, 3e-4, 3e-3])
    parser.add_argument("--clue_dropouts", nargs="*", type=float, default=[0.0], help="besides 0.5 (default: 0)")
    parser.add_argument("--table", action="store_true", help="only print the table of the files in --out")
    parser.add_argument("--time", action="store_true", help="measure microseconds per pair instead")
    parser.add_argument("--rounds", type=int, default=15, help="of --time (default: 15)")
    parser.add_argument("--quick", action="store_true", help="random features and few steps: does it run?")
    options = parser.parse_args()
    if not (options.table or options.quick):
        if options.features is None or options.data is None:
            parser.error("--features and --data are needed; python -m benchmarks.extraction --keep makes features")
        if not options.features.is_file():
            parser.error(f"there is no file {options.features}; python -m benchmarks.extraction --keep makes features")
    if options.out is None and not (options.quick or options.time):
        parser.error("--out is needed, the folder of the row files")
    return options


if __name__ == "__main__":
    try:
        main()
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
