"""Counts the queries that have a match, by the labels alone."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cace_pyg.data.sample import Sample


class Matches(NamedTuple):
    """Numbers of queries with and without a match in the gallery."""

    counted: int  # with a match
    absent: int  # the identity is not in the gallery
    same_camera: int  # the identity is in the gallery, but only in pictures of the query's own camera


def count_matches(
    query: Sequence[Sample], gallery: Sequence[Sample], same_camera: Literal["remove", "keep"] = "remove"
) -> Matches:
    """How many queries have a match, by the rules of :func:`cace_pyg.retrieval.evaluate`.

    Args:
        query: pictures; a query that is also in the gallery is not its own match.
        gallery: pictures; distractors never match.
        same_camera: see :func:`cace_pyg.retrieval.evaluate`.
    """
    cameras: dict[int, Counter[int]] = defaultdict(Counter)
    for sample in gallery:
        if sample.pid > 0:
            cameras[sample.pid][sample.camid] += 1
    in_gallery = {sample.path for sample in gallery}
    counted = absent = 0
    for sample in query:
        others = cameras.get(sample.pid, Counter()) - Counter([sample.camid] if sample.path in in_gallery else [])
        absent += not others
        counted += bool(others if same_camera == "keep" else set(others) - {sample.camid})
    return Matches(counted, absent, len(query) - counted - absent)
