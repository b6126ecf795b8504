"""Searches a gallery, or several galleries of one model, for one picture, among single pictures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cace_pyg.gallery.embedder import Embedded
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.in_memory import InMemory, PictureLists
from cace_pyg.gallery.search_request import SearchRequest
from cace_pyg.gallery.search_result import SearchHit, SearchResult
from cace_pyg.gallery.stored_pair_stage import StoredPairStage
from cace_pyg.retrieval import euclidean_distance, rank


class Searched(NamedTuple):
    """One of the galleries that are searched.

    Attributes:
        stage: its pair stage and codec.
        table: a snapshot.
        where: a checked filter over its columns.
        gallery: its folder, for the hits; None if it is the only gallery.
    """

    stage: StoredPairStage
    table: GalleryTable
    where: str | None = None
    gallery: Path | None = None


def search_pictures(
    searched: Sequence[Searched], memory: InMemory | None, query: Embedded, asked: SearchRequest, seconds: float
) -> SearchResult:
    """Both stages on one version of each table.

    The first stage takes the pictures with the nearest embeddings from the tables; the second re-ranks the first of
    them by both distances, and neighbours, if they are asked for, rank all of these.

    Args:
        searched: the galleries, all with the same model and calibration.
        memory: has the kept neighbours of the only gallery; None if no neighbours are asked for.
        query: one picture.
        asked: the filters are those of ``searched``.
        seconds: that the query's embedding took.
    """
    clock = [time.perf_counter()]
    rows = _nearest(searched, query, asked.nearest)
    stage, table = searched[0].stage, searched[0].table
    calibration = stage.embedder.calibration
    size = sum(part.table.count(part.where) for part in searched) if calibration is not None else 0
    threshold = None
    if calibration is not None and asked.false_alarms:
        threshold = calibration.threshold(asked.false_alarms, max(size, 1))
    if not rows:
        spent = {"embedding": seconds, "first_stage": time.perf_counter() - clock[0]}
        return SearchResult((), (), spent, threshold)
    individual = euclidean_distance(query.embedding, torch.stack([row["embedding"] for row in rows]))
    order = rank(individual)[0, : asked.nearest]
    rows, individual = [rows[position] for position in order], individual[:, order]
    clock.append(time.perf_counter())
    conditional = _conditional(searched, query, rows[: asked.first_stage])
    fused = stage.fused(individual, conditional)
    looked_at = conditional.size(1) if stage.embedder.fusion_weight > 0 else len(rows)
    probability = calibration.probability(fused[0, :looked_at], size).tolist() if calibration else []
    ranking = rank(fused)[0].tolist()
    clock.append(time.perf_counter())
    hits = as_hits(rows, individual[0], conditional[0], fused[0], probability, ranking)
    if memory is not None and asked.neighbours:
        hits, ranking = _by_neighbours(stage, memory.neighbours(table), table, query, hits, conditional[0])
        clock.append(time.perf_counter())
    stages = ("first_stage", "second_stage", "neighbours")
    spent = {"embedding": seconds}
    spent |= {name: later - sooner for name, (sooner, later) in zip(stages, pairwise(clock), strict=False)}
    top_k = asked.top_k
    return SearchResult(tuple(hits[position] for position in ranking[:top_k]), tuple(hits[:top_k]), spent, threshold)


def as_hits(
    rows: Sequence[Mapping[str, Any]],
    individual: Tensor,
    conditional: Tensor,
    fused: Tensor,
    probability: Sequence[float],
    ranking: Sequence[int],
) -> list[SearchHit]:
    """Every row as a hit, in the order of the first stage.

    Args:
        rows: ``image``, ``camera``, ``time`` and ``metadata`` of each, and ``gallery`` where there are several.
        individual: distances, ``(row,)``.
        conditional: of the first rows.
        fused: ``(row,)``.
        probability: of the first rows.
        ranking: positions of the rows, nearest first by both stages.
    """
    ranks = {position: number for number, position in enumerate(ranking, start=1)}
    return [
        SearchHit(
            image=row["image"],
            rank=ranks[position],
            first_stage_rank=position + 1,
            distance=float(fused[position]),
            individual=float(individual[position]),
            conditional=float(conditional[position]) if position < len(conditional) else None,
            camera=row["camera"],
            time=row["time"],
            metadata=row["metadata"],
            probability=probability[position] if position < len(probability) else None,
            gallery=row.get("gallery"),
        )
        for position, row in enumerate(rows)
    ]


def _by_neighbours(
    stage: StoredPairStage,
    kept: PictureLists,
    table: GalleryTable,
    query: Embedded,
    hits: list[SearchHit],
    conditional: Tensor,
) -> tuple[list[SearchHit], list[int]]:
    """The hits with their ranks by neighbours, still in the order of the first stage; and the ranking."""
    rows, lists = kept
    at = {row["image"]: position for position, row in enumerate(rows)}
    wanted = [at[hit.image] for hit in hits]
    weight = stage.embedder.fusion_weight
    told = dict(zip(wanted, conditional.tolist() if weight > 0 else [0.0] * len(wanted), strict=False))
    others = [position for position in lists.nearest(query.embedding).tolist() if position not in told]
    found = stage.distances(table, query, torch.tensor([0]), [rows[position] for position in others])[0].tolist()
    told |= dict(zip(others, found if weight > 0 else [0.0] * len(others), strict=True))
    distance = lists.rerank(
        query.embedding,
        np.array(list(told)),
        np.array(list(told.values()), np.float32),
        np.array(wanted),
        stage.embedder.config.k_reciprocal,
    )
    ranking = rank(distance[None])[0].tolist()
    ranks = {position: number for number, position in enumerate(ranking, start=1)}
    ranked = [
        replace(hit, rank=ranks[position], neighbour_distance=float(distance[position]))
        for position, hit in enumerate(hits)
    ]
    return ranked, ranking


def _nearest(searched: Sequence[Searched], query: Embedded, count: int) -> list[dict[str, Any]]:
    """The nearest pictures of each gallery, each with ``gallery``; a picture of several is that of the first."""
    found: dict[str, dict[str, Any]] = {}
    for part in searched:
        for row in part.table.nearest(query.embedding[0].numpy(), count, part.where):
            found.setdefault(row["image"], row | {"gallery": part.gallery})
    return list(found.values())


def _conditional(searched: Sequence[Searched], query: Embedded, rows: Sequence[Mapping[str, Any]]) -> Tensor:
    """The pair stage's distances to rows, ``(1, row)``; ``(1, 0)`` if the model's fusion weight is 0."""
    if searched[0].stage.embedder.fusion_weight == 0:
        return torch.empty(1, 0)
    distance = torch.empty(1, len(rows))
    for part in searched:
        own = [position for position, row in enumerate(rows) if row["gallery"] == part.gallery]
        if own:
            picked = [rows[position] for position in own]
            distance[:, own] = part.stage.distances(part.table, query, torch.tensor([0]), picked)
    return distance
