"""A small web page for one gallery."""

from cace_pyg.gallery.page.app import gallery_page
from cace_pyg.gallery.page.serve import serve

__all__ = ["gallery_page", "serve"]
