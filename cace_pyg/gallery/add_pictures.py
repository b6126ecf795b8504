"""Adds pictures to a gallery: named, decoded, embedded and written in batches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cace_pyg.gallery.clue_codec import ClueCodec
from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.entries import CONFIDENCE, PERSON
from cace_pyg.gallery.gallery_table import GalleryTable
from cace_pyg.gallery.new_picture import Added, NewPicture, read
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import Picture

_BATCH = 64  # images per commit


def add_pictures(
    table: GalleryTable,
    embedder: Embedder,
    codec: ClueCodec,
    pictures: Sequence[Picture],
    camera: Sequence[str | None] | None,
    taken: Sequence[datetime | None] | None,
    metadata: Sequence[Mapping[str, Value]] | None,
    progress: bool,
) -> Added:
    """Add pictures to a table, a commit for each batch; the last four arguments are those of :meth:`Gallery.add`.

    Raises:
        ValueError: see :meth:`Gallery.add`.
    """
    told: list[Sequence[Any]] = []
    for name, values, unknown in (("camera", camera, None), ("taken", taken, None), ("metadata", metadata, {})):
        if values is not None and len(values) != len(pictures):
            raise ValueError(f"Expected {name} for each of {len(pictures)} pictures (got {len(values)})")
        told.append([unknown] * len(pictures) if values is None else values)
    found = Added()
    with progress_bar(total=len(pictures), desc="index", unit="image", disable=not progress) as bar:
        for first in range(0, len(pictures), _BATCH):
            these = range(first, min(first + _BATCH, len(pictures)))
            batch = [NewPicture.of(pictures[i], *(values[i] for values in told)) for i in these]
            found += _add_batch(table, embedder, codec, batch)
            bar.update(len(these))
    return found


def _add_batch(table: GalleryTable, embedder: Embedder, codec: ClueCodec, pictures: Sequence[NewPicture]) -> Added:
    known = table.known([picture.image for picture in pictures])
    fresh = {
        picture.image: _still_identified(picture, known.get(picture.image))
        for picture in pictures
        if not picture.is_in(known.get(picture.image))
    }
    good, unreadable = read(list(fresh.values()), embedder.resize)
    if good:
        embedded = embedder.embed([picture.resized for picture in good], [picture.new.camera for picture in good])
        blobs = codec.encode(embedded.prepared)
        rows = zip(good, embedded.embedding.numpy(), blobs, strict=True)
        table.put([picture.entry(embedding, clues) for picture, embedding, clues in rows])
    replaced = sum(picture.new.image in known for picture in good)
    bad = {new.image for new, _ in unreadable}
    there = sum(picture.image not in bad for picture in pictures) - len(good)
    told = tuple((new.shown_name, reason) for new, reason in unreadable)
    return Added(len(good) - replaced, replaced, there, told)


def _still_identified(new: NewPicture, row: Mapping[str, Any] | None) -> NewPicture:
    """Keep the person of a picture that is added again with other facts."""
    if row is None or row["sha256"] != new.sha256:
        return new
    known = {name: row[name] for name in (PERSON, CONFIDENCE) if row.get(name) is not None}
    return replace(new, metadata={**known, **new.metadata})
