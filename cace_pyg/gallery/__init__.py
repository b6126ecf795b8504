"""Galleries that last: pictures indexed, found again by both stages, and explained."""

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.explanation import Explanation
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.new_picture import Added
from cace_pyg.gallery.search_result import SearchHit, SearchResult

__all__ = ["Added", "Embedder", "Explanation", "Gallery", "SearchHit", "SearchResult"]
