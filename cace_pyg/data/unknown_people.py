"""Makes some query people unknown, by removing them from the gallery."""

import random
from collections.abc import Sequence

from cace_pyg.data.sample import Sample


def without_unknown_people(
    query: Sequence[Sample], gallery: Sequence[Sample], share: float, seed: int
) -> Sequence[Sample]:
    """The gallery without the pictures of some of the query people, who are drawn by ``seed``.

    All queries stay, so the queries of these people have no match. The draw depends on the pids, not on their order.

    Args:
        query: pictures.
        gallery: pictures.
        share: of the query people, in [0, 1); 0 removes nobody.
        seed: of the draw.

    Raises:
        ValueError: the share is above 0 but removes nobody, or it removes everybody.
    """
    people = sorted({sample.pid for sample in query if sample.pid > 0})
    count = round(share * len(people))
    if share > 0 and not 0 < count < len(people):
        raise ValueError(
            f"Expected evaluation.unknown_share to remove some of the {len(people)} query people from the gallery (got "
            f"{share}, which removes {count}); give a share such as 0.3, or 0"
        )
    unknown = set(random.Random(seed).sample(people, count))
    return [sample for sample in gallery if sample.pid not in unknown] if unknown else gallery
