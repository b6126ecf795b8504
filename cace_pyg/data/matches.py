"""Which queries can be answered, as the labels say; nothing is measured."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cace_pyg.data.sample import Sample


class Matches(NamedTuple):
    """Queries by what the gallery has for them."""

    counted: int  # a match is there
    absent: int  # the identity is not
    same_camera: int  # the identity is, but only where the query's own camera took it


def count_matches(
    query: Sequence[Sample], gallery: Sequence[Sample], same_camera: Literal["remove", "keep"] = "remove"
) -> Matches:
    """How many queries have a match, by the rules of :func:`cace_pyg.retrieval.evaluate`.

    Args:
        query: pictures; one that is in the gallery too is not its own match.
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
