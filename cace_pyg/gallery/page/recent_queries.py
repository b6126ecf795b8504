"""The last queries of a page."""

import secrets
import threading
from collections import OrderedDict
from typing import NamedTuple

from PIL import Image

from cace_pyg.gallery.search_result import SearchHit, SearchResult


class RecentQuery(NamedTuple):
    """A picture and what was found for it."""

    picture: Image.Image
    found: SearchResult

    def hit(self, image: str) -> SearchHit | None:
        """The hit of an image; none where it was not among them."""
        return next((hit for hit in (*self.found.hits, *self.found.first_stage) if hit.image == image), None)


class RecentQueries:
    """Keeps the last queries in memory, each behind a token that cannot be guessed; never on disk."""

    def __init__(self, most: int = 32):
        self._most = most
        self._queries: OrderedDict[str, RecentQuery] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, query: RecentQuery) -> str:
        """Keep one, forget the oldest; returns its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._queries[token] = query
            while len(self._queries) > self._most:
                self._queries.popitem(last=False)
        return token

    def get(self, token: str) -> RecentQuery | None:
        """The query of a token; none where it is unknown or forgotten."""
        with self._lock:
            return self._queries.get(token)
