"""Queries of people whom the gallery does not know."""

import random
from collections.abc import Sequence

from cace_pyg.data.sample import Sample


def without_unknown_people(
    query: Sequence[Sample], gallery: Sequence[Sample], share: float, seed: int
) -> Sequence[Sample]:
    """The gallery without any picture of some of the query people, who are drawn by ``seed``.

    Their queries stay, and everything else does, so that a query of theirs has nobody to find. The draw depends on the
    pids, not on their order.

    Args:
        query: pictures.
        gallery: pictures.
        share: of the query people, in [0, 1); 0 takes nobody out.
        seed: of the draw.

    Raises:
        ValueError: the share takes nobody out, though it is above 0, or leaves nobody.
    """
    people = sorted({sample.pid for sample in query if sample.pid > 0})
    count = round(share * len(people))
    if share > 0 and not 0 < count < len(people):
        raise ValueError(
            f"Expected evaluation.unknown_share to take some of the {len(people)} query people out of the gallery (got "
            f"{share}, which takes {count}); give a share such as 0.3, or 0"
        )
    unknown = set(random.Random(seed).sample(people, count))
    return [sample for sample in gallery if sample.pid not in unknown] if unknown else gallery
