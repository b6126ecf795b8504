"""Searches a gallery entry by entry: tracks, several pictures of one person, and neighbours of good matches."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cace_pyg.engine.candidates import follow_neighbours
from cace_pyg.gallery.embedder import Embedded
from cace_pyg.gallery.entries import Entries, has_tracks
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.in_memory import InMemory
from cace_pyg.gallery.search_pictures import as_hits
from cace_pyg.gallery.search_request import SearchRequest
from cace_pyg.gallery.search_result import SearchResult
from cace_pyg.gallery.stored_pair_stage import StoredPairStage
from cace_pyg.retrieval import euclidean_distance, form_sets, rank, set_distance
from cace_pyg.retrieval import top_k as nearest


def search_entries(
    stage: StoredPairStage, memory: InMemory, table: GalleryTable, query: Embedded, asked: SearchRequest, seconds: float
) -> SearchResult:
    """Both stages on the entries of one version of the table.

    The first stage compares mean embeddings; the second compares the nearest entries, or follows the gallery's
    neighbours of good matches (:func:`cace_pyg.engine.candidates.follow_neighbours`), by all pairs of views.

    Args:
        stage: of the gallery.
        memory: has all entries.
        table: a snapshot.
        query: one or several pictures of one person.
        asked: with a checked filter.
        seconds: that the query's embedding took.
    """
    clock = [time.perf_counter()]
    of_query = form_sets(query.embedding, [0] * len(query.embedding))
    everyone = asked.gallery_neighbours > 0
    entries = _entries_of(memory, table, of_query.embedding, asked.nearest, asked.where, everyone)
    if entries is None:
        spent = {"embedding": seconds, "first_stage": time.perf_counter() - clock[0]}
        return SearchResult((), (), spent)
    weight, calibration = stage.embedder.fusion_weight, stage.embedder.calibration
    distance = euclidean_distance(of_query.embedding, entries.sets.embedding)
    nearest_first = rank(distance)[0]
    order = nearest_first[: asked.nearest]
    clock.append(time.perf_counter())
    near = order[: asked.first_stage] if weight > 0 else order[:0]
    look = _LookAtEntries(stage, table, query, of_query.views[0], entries)
    if asked.gallery_neighbours and len(near):
        embeddings = of_query.embedding, entries.sets.embedding
        follows = _NearestEntries(entries.sets.embedding, asked.gallery_neighbours)
        index, conditional = follow_neighbours(*embeddings, near[None], follows, weight, look)
        near = index[0]
        order = torch.cat([near, order[~torch.isin(order, near)]])
    else:
        conditional = look([near])[None]
    individual = distance[:, order]
    fused = stage.fused(individual, conditional)
    ranking = rank(fused)[0].tolist()
    clock.append(time.perf_counter())
    shown = entries.sets.views[order, 0].tolist()
    hits = as_hits([entries.rows[view] for view in shown], individual[0], conditional[0], fused[0], [], ranking)
    size, alone = len(entries.sets), len(query.embedding) == 1
    first_stage_rank = nearest_first.argsort() + 1
    for place, entry in enumerate(order.tolist()):
        told = look.nearest_view(place) if place < len(near) else {}
        looked_at = place < len(near) or weight == 0
        if calibration and alone and looked_at and len(entries.sets.members[entry]) == 1:
            told["probability"] = float(calibration.probability(fused[0, place].numpy(), size))
        told["first_stage_rank"] = int(first_stage_rank[entry])
        hits[place] = replace(hits[place], pictures=entries.pictures(entry), **told)
    spent = {"embedding": seconds, "first_stage": clock[1] - clock[0], "second_stage": clock[2] - clock[1]}
    by_the_first = sorted(hits, key=lambda hit: hit.first_stage_rank)
    top_k = asked.top_k
    return SearchResult(tuple(hits[place] for place in ranking[:top_k]), tuple(by_the_first[:top_k]), spent)


def _entries_of(
    memory: InMemory, table: GalleryTable, query: Tensor, count: int, where: str | None, everyone: bool
) -> Entries | None:
    """All entries that pass a filter, or in a gallery without tracks the nearest; None if nothing passes."""
    if not (everyone or has_tracks(table)):
        rows = table.nearest(query[0].numpy(), count, where)
        return Entries.of(rows, torch.stack([row["embedding"] for row in rows])) if rows else None
    entries = memory.entries(table)
    if where is None or entries is None:
        return entries
    let_through = {row["image"] for row in table.rows(where, ["image"])}
    chosen = entries.of_pictures(let_through)
    return replace(entries, sets=entries.sets.select(chosen)) if chosen else None


class _LookAtEntries:
    """The second stage's distances of a query to entries, and by which of their views they come."""

    def __init__(self, stage: StoredPairStage, table: GalleryTable, query: Embedded, asked: Tensor, entries: Entries):
        self.entries = entries
        self.asked = asked
        self._measure = partial(stage.distances, table, query, asked)
        self._nearest: list[tuple[int, int]] = []  # of each entry: picture of the query, row

    def __call__(self, lists: Sequence[Tensor]) -> Tensor:
        """Of the entries in the only list, ``(entry,)``."""
        (near,) = lists
        views, of_entry = self.entries.views(near.tolist())
        pairs = self._measure([self.entries.rows[view] for view in views.tolist()])
        for place in range(len(near) if pairs.size(1) else 0):
            here = (of_entry == place).nonzero().flatten()
            best = int(pairs[:, here].argmin())
            self._nearest.append((int(self.asked[best // len(here)]), int(views[here[best % len(here)]])))
        return set_distance(pairs.flatten(), of_entry.repeat(len(self.asked)), len(near))

    def nearest_view(self, place: int) -> dict[str, Any]:
        """The view of the entry in that place by which it is nearest, and the picture of the query."""
        picture, view = self._nearest[place]
        row = self.entries.rows[view]
        return {name: row[name] for name in ("image", "camera", "time", "metadata")} | {"query_picture": picture}


class _NearestEntries:
    """The nearest entries of an entry, without itself; computed when asked for, since only few are."""

    def __init__(self, embedding: Tensor, count: int):
        self.embedding = embedding
        self.count = min(count, len(embedding) - 1)

    def __call__(self, position: int) -> list[int]:
        distance = euclidean_distance(self.embedding[position : position + 1], self.embedding)
        distance[0, position] = torch.inf
        return nearest(distance, max(1, self.count))[0, : self.count].tolist()
