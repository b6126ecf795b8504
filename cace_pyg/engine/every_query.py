"""The clues of every query, on every rank."""

from collections.abc import Iterator

import torch

from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.ranks import Ranks
from cace_pyg.models import PreparedClues

_TOGETHER = 16  # queries sent at a time: some megabytes each


def every_query(query: Extraction, ranks: Ranks) -> Iterator[PreparedClues]:
    """The clues of each query in turn, the same on all ranks; the rank that has them sends them to the others."""
    parts = ranks.gather_objects(range(query.first, query.first + len(query.prepared)))
    for sender, part in enumerate(parts):
        for start in range(0, len(part), _TOGETHER):
            own = None
            if sender == ranks.rank:
                wanted = torch.arange(start, min(start + _TOGETHER, len(part)))  # a slice would send all of them
                own = query.prepared.select(wanted)
            sent = ranks.send(own, sender)
            for position in range(len(sent)):
                yield sent.select(slice(position, position + 1))
