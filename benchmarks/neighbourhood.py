"""The picture in docs/neighbours.md: some rendered people as a graph of neighbours, before and after the pair stage.

An edge joins two pictures that are among each other's nearest. It shows the people of the test set with the most edges
between them by the individual embedding: first the person with the most, then repeatedly the one with the most edges
to those chosen.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from cace_pyg.config import NeighbourSettings, from_yaml
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.distances import measure
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.neighbour_rows import configured_choice, measure_neighbours
from cace_pyg.retrieval import NeighbourGraph
from cace_pyg.viz import neighbourhoods


def mutual_edges(graph: NeighbourGraph, k: int) -> list[tuple[int, int]]:
    """Pairs of images that are among each other's ``k`` nearest besides themselves, the smaller number first."""
    lists = graph.to_csr(k + 1)
    both = lists.multiply(lists.T.tocsr()).tocoo()
    return [(int(a), int(b)) for a, b in zip(both.row, both.col, strict=True) if a < b]


def confused_people(edges: list[tuple[int, int]], pids: list[int], count: int) -> list[int]:
    """The people with the most edges between them, without distractors, whose identities are unknown."""
    between = torch.zeros(max(pids) + 1, max(pids) + 1)
    for a, b in edges:
        if pids[a] != pids[b] and min(pids[a], pids[b]) > 0:
            between[pids[a], pids[b]] += 1
            between[pids[b], pids[a]] += 1
    chosen = [int(between.sum(1).argmax())]
    while len(chosen) < count:
        to_chosen = between[chosen].sum(0)
        to_chosen[chosen] = -1
        chosen.append(int(to_chosen.argmax()))
    return chosen


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.neighbourhood", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, default="runs/synthetic/checkpoints/best.ckpt", help="of make demo")
    parser.add_argument("--root", help="data set; default: that of the checkpoint")
    parser.add_argument("--people", type=int, default=4, help="to show (default: 4)")
    parser.add_argument("-k", type=int, default=6, help="nearest of a picture (default: 6)")
    parser.add_argument("--output", type=Path, default="docs/neighbours.png", help="(default: docs/neighbours.png)")
    options = parser.parse_args()
    state = load_checkpoint(options.checkpoint)
    config = from_yaml(state["config"], "--device=cpu", *([f"--data.root={options.root}"] if options.root else []))
    config = replace(config, neighbours=NeighbourSettings("k_reciprocal"))
    splits, (model, _) = read_splits(config.data), load_model(options.checkpoint, config)
    weight = fusion_weight_of(config, state["fusion_weight"])
    choice = configured_choice(config, weight)
    assert choice is not None  # a method was given
    measured = measure(model, splits.query, splits.gallery, config, "cpu")
    near = measure_neighbours(model, *measured, config, choice, weight, "cpu")
    samples = [*splits.query, *splits.gallery]
    pids = [sample.pid for sample in samples]
    before, after = (mutual_edges(near.decided_by(fusion), options.k) for fusion in (0.0, weight))
    chosen = confused_people(before, pids, options.people)
    shown = [image for person in chosen for image, pid in enumerate(pids) if pid == person]
    place = {image: position for position, image in enumerate(shown)}
    graphs = {
        title: [(place[a], place[b]) for a, b in edges if a in place and b in place]
        for title, edges in (("individual embedding", before), ("both stages", after))
    }
    figure = neighbourhoods([samples[image].path for image in shown], [pids[image] for image in shown], graphs)
    figure.savefig(options.output, dpi=100, facecolor="white")
    for title, edges in (("individual embedding", before), ("both stages", after)):
        known = [(a, b) for a, b in edges if min(pids[a], pids[b]) > 0]
        right = sum(pids[a] == pids[b] for a, b in known)
        print(f"{title}: {right} of {len(known)} edges of the whole test set join pictures of one person")
    print(options.output)


if __name__ == "__main__":
    main()
