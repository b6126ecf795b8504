"""Computes the rows: trains, chooses the weight on held-out people, and ranks."""

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from benchmarks.opponents.people import People
from benchmarks.opponents.row_files import queries_of, read_row, write_row
from benchmarks.opponents.rows import UNTRAINED, Recipe, build, bytes_a_picture, measure_row, train
from benchmarks.origin import origin
from cace_pyg.config import Config, KReciprocalSettings, PropagationSettings
from cace_pyg.data import Sample
from cace_pyg.engine.distances import Distances, labels_of
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.neighbour_rows import (
    MOST_LISTED,
    Measure,
    NeighbourChoice,
    measure_neighbours,
    search_choice,
)
from cace_pyg.engine.neighbours import Neighbours, method_of
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import (
    FusionChoice,
    Metrics,
    choose_fusion_weight,
    distance_blocks,
    evaluate_blocks,
    k_reciprocal_distance,
)

_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SEARCHED = ("learning_rate", "clue_dropout")


def compute_rows(people: People, recipe: Recipe, source: dict[str, Any], options: argparse.Namespace) -> None:
    """Compute every row and seed that has no file yet."""
    for row in dict.fromkeys(["individual", *options.rows]):
        if row in UNTRAINED:
            path = options.out / f"{row}.json"
            if read_row(path, source) is None:
                write_row(path, _header(row, source) | untrained_row(row, people))
            continue
        own = recipe
        if row in options.search:
            own = search(row, people, recipe, source, options)
        for seed in options.seeds:
            path, settings = options.out / f"{row}_{seed}.json", source | asdict(own) | {"seed": seed}
            if read_row(path, settings) is None:
                content = trained_row(
                    row, people, own, seed, options.deeper, options.neighbours, options.follow, options.tune
                )
                write_row(path, _header(row, settings) | content)


def search(row: str, people: People, recipe: Recipe, source: dict[str, Any], options: argparse.Namespace) -> Recipe:
    """The learning rate, and then the clue dropout, that are best on the held-out people after fewer steps."""
    path = options.out / f"search_{row}.json"
    short = replace(recipe, steps=options.search_steps)
    settings = source | {key: value for key, value in asdict(short).items() if key not in _SEARCHED}
    content = read_row(path, settings) or _header(row, settings) | {"tried": []}

    def score(learning_rate: float, clue_dropout: float) -> float:
        tried = {"learning_rate": learning_rate, "clue_dropout": clue_dropout}
        for attempt in content["tried"]:
            if tried.items() <= attempt.items():
                return attempt["mAP"]
        started = time.perf_counter()
        model, config = build(row, people.features, replace(short, **tried), seed=0)
        train(model, config, people)
        choice = _choose(measure_row(model, config, people, "held_out")[2], people)
        _, mAP, rank1 = max(choice.curve, key=lambda point: point[1])
        found = {"mAP": mAP, "rank1": rank1, "fusion_weight": choice.weight}
        content["tried"].append(tried | found | {"seconds": round(time.perf_counter() - started, 1)})
        write_row(path, content)
        print(f"{row} {content['tried'][-1]}", flush=True)
        return mAP

    rate = max(options.learning_rates, key=lambda learning_rate: score(learning_rate, recipe.clue_dropout))
    dropout = max([recipe.clue_dropout, *options.clue_dropouts], key=lambda clue_dropout: score(rate, clue_dropout))
    return replace(recipe, learning_rate=rate, clue_dropout=dropout)


def trained_row(
    row: str,
    people: People,
    recipe: Recipe,
    seed: int,
    deeper: Sequence[int] = (),
    neighbours: bool = False,
    follow: Sequence[int] = (),
    tune: bool = False,
) -> dict[str, Any]:
    """Train it, choose its fusion weight on the held-out people, and rank the query and gallery pictures once.

    Args:
        row: of :data:`TRAINED`.
        people: see there.
        recipe: see there.
        seed: of weights, batches and dropout.
        deeper: further depths of the second stage to rank at.
        neighbours: also re-rank by neighbours that both stages choose.
        follow: counts of gallery neighbours to follow; one is chosen on the held-out people for each depth.
        tune: with ``neighbours`` also by the settings of the re-ranking that are best on the held-out people; with
            ``follow`` only where neighbours are followed.
    """
    started = time.perf_counter()
    model, config = build(row, people.features, recipe, seed)
    train(model, config, people)
    seconds = round(time.perf_counter() - started, 1)
    content: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in model.pair_branch()),
        "training_seconds": seconds,
    }
    for top_k in (recipe.top_k, *deeper):
        at = replace(config, evaluation=replace(config.evaluation, top_k=top_k))
        is_first = top_k == recipe.top_k
        title = f"{row} seed {seed}, top {top_k}"
        found = _ranked(title, model, at, people, recipe.fusion, neighbours and is_first, tune and not follow)
        if follow:
            title = f"{row} seed {seed}, {top_k} followed"
            weight = found["fusion_weight"]
            found["followed"] = _followed(title, model, at, people, weight, follow, neighbours, tune)
        if is_first:
            content |= found
        else:
            content.setdefault("deeper", {})[str(top_k)] = found
    if people.elsewhere[0]:
        content["elsewhere"] = _elsewhere(f"{row} seed {seed}, elsewhere", model, config, people, content)
    return content


def _elsewhere(
    title: str, model: CaceNet, config: Config, people: People, content: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The other data set by the network alone and by both stages, with the weight chosen on the first data set."""
    *_, distances = measure_row(model, config, people, "elsewhere")
    labels = labels_of(*people.elsewhere)
    found = {}
    for name, weight in (("individual", 0.0), ("two_stage", content["fusion_weight"])):
        metrics = evaluate_blocks(distances.blocks(weight), **labels)
        found[name] = queries_of(metrics)
        print(f"{title}, {name}: {_percent(metrics)}", flush=True)
    return found


def _ranked(
    title: str,
    model: CaceNet,
    config: Config,
    people: People,
    fusion: float | None,
    neighbours: bool,
    tune: bool,
) -> dict[str, Any]:
    """The results of a trained row at one depth of the second stage, also with neighbours that it chooses."""
    started = time.perf_counter()
    choice = _choose(measure_row(model, config, people, "held_out")[2], people)
    weight = choice.weight if fusion is None else fusion
    chosen = time.perf_counter()
    measured, labels = measure_row(model, config, people, "test"), labels_of(*people.test)
    two_stage = evaluate_blocks(measured[2].blocks(weight), **labels)
    seconds = {"validation": chosen - started, "test": time.perf_counter() - chosen}
    content = {
        "fusion_weight": weight,
        "validation": [dict(zip(("weight", "mAP", "rank1"), point, strict=True)) for point in choice.curve],
        "bytes_a_gallery_picture": bytes_a_picture(measured[1].prepared),
        "test": queries_of(two_stage),
    }
    print(f"{title}: {_percent(two_stage)}, fusion weight {weight}", flush=True)
    if neighbours and weight > 0:
        started = time.perf_counter()
        content |= _with_neighbours(title, model, measured, config, people, weight, tune)
        seconds["neighbours"] = time.perf_counter() - started
    return content | {"seconds": {name: round(value, 1) for name, value in seconds.items()}}


def _followed(
    title: str,
    model: CaceNet,
    config: Config,
    people: People,
    weight: float,
    counts: Sequence[int],
    neighbours: bool,
    tune: bool,
) -> dict[str, Any]:
    """The same with a second stage that follows the number of gallery neighbours that is best on held-out people."""
    tried = []
    for count in counts:
        at = replace(config, evaluation=replace(config.evaluation, gallery_neighbours=count))
        distances = measure_row(model, at, people, "held_out", weight)[2]
        found = evaluate_blocks(distances.blocks(weight), **labels_of(*people.held_out))
        tried.append({"gallery_neighbours": count, "mAP": found.mAP, "rank1": found.rank1})
    count = max(tried, key=lambda attempt: attempt["mAP"])["gallery_neighbours"]
    at = replace(config, evaluation=replace(config.evaluation, gallery_neighbours=int(count)))
    started = time.perf_counter()
    measured = measure_row(model, at, people, "test", weight)
    metrics = evaluate_blocks(measured[2].blocks(weight), **labels_of(*people.test))
    seconds = round(time.perf_counter() - started, 1)
    print(f"{title}: {_percent(metrics)}, {count} gallery neighbours, {seconds} s", flush=True)
    content = {"gallery_neighbours": count, "validation": tried, "test": queries_of(metrics), "seconds": seconds}
    if neighbours and weight > 0:
        # propagation ranks by pairs of its own, the same whatever the query looked at
        content |= _with_neighbours(title, model, measured, at, people, weight, tune, ["k_reciprocal"])
    return content


def _with_neighbours(
    title: str,
    model: CaceNet,
    measured: tuple[Extraction, Extraction, Distances],
    config: Config,
    people: People,
    weight: float,
    tune: bool,
    methods: Sequence[str] = ("k_reciprocal", "propagation"),
) -> dict[str, Any]:
    """The results after re-ranking by neighbours that both stages choose."""
    content, near = {}, _neighbours(model, measured, config, weight)
    held_out = None
    if tune:
        held_out = _neighbours(model, measure_row(model, config, people, "held_out", weight), config, weight)
    for settings in (KReciprocalSettings(), PropagationSettings()):
        if (method := method_of(settings)) not in methods:
            continue
        choices = {"": NeighbourChoice(settings, settings, weight)}
        if held_out is not None:
            choices["_tuned"] = search_choice(held_out, choices[""], weight, _protocol(people.held_out))[0]
        for how, choice in choices.items():
            ranking = near.ranking(choice.two_stage, choice.fusion, weight)
            found = _protocol(people.test)(ranking.blocks())
            chosen = {"settings": asdict(choice.two_stage) | {"fusion": choice.fusion}} if how else {}
            content[f"two_stage_{method}{how}"] = queries_of(found) | chosen
            print(f"{title}, {method}{how}: {_percent(found)}", flush=True)
    return content


def _neighbours(
    model: CaceNet, measured: tuple[Extraction, Extraction, Distances], config: Config, weight: float
) -> Neighbours:
    """The neighbours of all pictures, as many as a search of settings needs."""
    choice = NeighbourChoice(KReciprocalSettings(), PropagationSettings(), weight)
    return measure_neighbours(model, *measured, config, choice, weight, find_device(config.device), listed=MOST_LISTED)


def _protocol(part: tuple[Sequence[Sample], Sequence[Sample]]) -> Measure:
    return partial(evaluate_blocks, **labels_of(*part))


def untrained_row(row: str, people: People) -> dict[str, Any]:
    """The network's own ranking, or k-reciprocal re-ranking of it, with the constants of its authors."""
    started, (query, gallery) = time.perf_counter(), people.test
    query_embedding, gallery_embedding = (
        people.features.embedding[KeptFeatures.positions(part)] for part in (query, gallery)
    )
    blocks: Iterable[torch.Tensor]
    if row == "individual":
        blocks = (block for _, block in distance_blocks(query_embedding, gallery_embedding))
    else:
        blocks = [k_reciprocal_distance(query_embedding, gallery_embedding)]
    metrics = evaluate_blocks(blocks, **labels_of(query, gallery))
    print(f"{row}: {_percent(metrics)}", flush=True)
    seconds = {"test": round(time.perf_counter() - started, 1)}
    return {"parameters": 0, "bytes_a_gallery_picture": 0, "seconds": seconds, "test": queries_of(metrics)}


def _choose(distances: Distances, people: People) -> FusionChoice:
    pairs = distances.individual(), distances.index, distances.conditional
    return choose_fusion_weight(*pairs, **labels_of(*people.held_out), weights=_WEIGHTS)


def _header(row: str, settings: dict[str, Any]) -> dict[str, Any]:
    return {"row": row, "settings": settings, "origin": origin()}


def _percent(metrics: Metrics) -> str:
    return f"{100 * metrics.mAP:.2f} mAP, {100 * metrics.rank1:.2f} Rank-1"
