"""Galleries that last: pictures indexed, found again by both stages, and explained."""

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.explanation import Explanation
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.new_picture import Added
from cace_pyg.gallery.search_result import SearchHit, SearchResult
from cace_pyg.gallery.several_galleries import search_galleries

__all__ = ["Added", "Embedder", "Explanation", "Gallery", "SearchHit", "SearchResult", "search_galleries"]
