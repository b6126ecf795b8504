"""Searches several galleries of one model as if their pictures were in one gallery."""

import time
from collections.abc import Sequence
from dataclasses import replace

from cace_pyg.gallery.damage import read_again
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.gallery_table import FilterError
from cace_pyg.gallery.search_pictures import search_pictures
from cace_pyg.gallery.search_request import SearchRequest
from cace_pyg.gallery.search_result import SearchResult
from cace_pyg.read_picture import Picture


def search_galleries(
    galleries: Sequence[Gallery],
    picture: Picture,
    top_k: int = 10,
    where: str | None = None,
    first_stage: int | None = None,
    false_alarms: float | None = None,
) -> SearchResult:
    """Find the images of several galleries that most likely show the person of a picture.

    The second stage compares the nearest images of all galleries together, so it takes as long as in one gallery, and
    the result is that of one gallery with all their images (exactly so where the first stage is exact, see
    :meth:`Gallery.optimize`). An image that is in several of them is found in the first of these.

    Args:
        galleries: made with the same model; they also need the same fusion weight and calibration, and as many stored
            clues, in int4 all or none: otherwise pictures of one gallery would come first too often.
        picture: a path, PIL image, array or the bytes of a file.
        top_k: how many images to return.
        where: SQL over columns that every gallery has, see :meth:`Gallery.search`.
        first_stage: how many of the nearest images the second stage compares (default: ``evaluation.top_k``); 0: none.
        false_alarms: see :meth:`Gallery.search`; of all galleries together.

    Returns:
        A result whose hits have the attribute ``gallery``, the folder of the gallery that has the image.

    Raises:
        ValueError: there is no gallery, or one is given twice; their models, weights, calibrations or stored clues
            differ; one has tracks; or see :meth:`Gallery.search`.
        FileNotFoundError: there is no such picture.
        RuntimeError: a gallery is damaged.
    """
    _check(galleries)
    if isinstance(picture, list | tuple):
        raise ValueError(f"Expected one picture (got {len(picture)} in a {type(picture).__name__}); search for each")
    first = galleries[0]
    first_stage = first.embedder.config.evaluation.top_k if first_stage is None else first_stage
    asked = SearchRequest(top_k, where, first_stage, false_alarms, neighbours=False, gallery_neighbours=0)
    filters = [_checked(gallery, where) for gallery in galleries]
    if false_alarms is not None:
        counted = (gallery.searched(own) for gallery, own in zip(galleries, filters, strict=True))
        first.check_false_alarms(false_alarms, first_stage, sum(part.table.count(part.where) for part in counted))
    started = time.perf_counter()
    query = first.embedder([picture])
    seconds = time.perf_counter() - started

    def look() -> SearchResult:
        searched = [
            gallery.searched(own)._replace(gallery=gallery.path)
            for gallery, own in zip(galleries, filters, strict=True)
        ]
        return search_pictures(searched, None, query, replace(asked, where=None), seconds)

    return read_again(look)


def _check(galleries: Sequence[Gallery]) -> None:
    if isinstance(galleries, Gallery) or not galleries:
        got = "none" if not isinstance(galleries, Gallery) else "one that is not in a list"
        raise ValueError(f"Expected one gallery or more, in a list (got {got})")
    for given in galleries:
        if not isinstance(given, Gallery):
            raise ValueError(f"Expected opened galleries (got {given!r}); open each with Gallery.open")
    folders = [gallery.path.resolve() for gallery in galleries]
    first = galleries[0]
    for number, gallery in enumerate(galleries):
        if folders[number] in folders[:number]:
            raise ValueError(f"Expected different galleries (got {gallery.path} twice); give each once")
        if gallery.stored_form != first.stored_form:
            raise ValueError(
                f"Expected galleries that store clues alike (got {first.path} with {first.stored_form} and "
                f"{gallery.path} with {gallery.stored_form}): otherwise pictures of one of them would come first too "
                "often; search each alone"
            )
        for what, differs in (
            ("model", gallery.embedder.fingerprint != first.embedder.fingerprint),
            ("fusion weight", gallery.embedder.fusion_weight != first.embedder.fusion_weight),
            ("calibration", gallery.calibration != first.calibration),
        ):
            if differs:
                raise ValueError(
                    f"Expected galleries with the same {what}, whose distances can be compared (got {first.path} and "
                    f"{gallery.path}, which differ in it); search each alone"
                )
        if gallery.embedder.standardises:
            raise ValueError(
                f"Expected a model without evaluation.standardise_cameras (got that of {gallery.path}): each gallery "
                "has statistics of its own, so that their distances cannot be compared; search each alone"
            )
        if gallery.has_tracks:
            raise ValueError(
                f"Expected galleries of single pictures (got {gallery.path}, which has tracks); search it alone"
            )


def _checked(gallery: Gallery, where: str | None) -> str | None:
    try:
        return where if where is None else gallery.checked(where)
    except FilterError as error:
        raise FilterError(f"in the gallery {gallery.path}: {error}") from error
