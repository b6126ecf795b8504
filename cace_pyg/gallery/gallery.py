"""A persistent gallery: pictures on disk, ready for both stages."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cace_pyg.engine.candidates import follow_neighbours
from cace_pyg.engine.checkpoint import copy_network, load_checkpoint, save_checkpoint
from cace_pyg.engine.distances import random_scores
from cace_pyg.engine.extraction import Extraction
from cace_pyg.explain.pair_view import view_pair
from cace_pyg.gallery.clue_codec import ClueCodec, Precision
from cace_pyg.gallery.corrections import Corrections
from cace_pyg.gallery.embedder import Embedded, Embedder
from cace_pyg.gallery.entries import CONFIDENCE, PERSON, TRACK, Entries, has_tracks, keeps_clues, left_without_clues
from cace_pyg.gallery.explanation import Explanation
from cace_pyg.gallery.gallery_table import GalleryTable, Value, is_gallery, read_again
from cace_pyg.gallery.kept_neighbours import KeptNeighbours, Measure, Pictures, is_kept
from cace_pyg.gallery.neighbour_lists import NeighbourLists, check_neighbours
from cace_pyg.gallery.new_picture import Added, NewPicture, image_name, read
from cace_pyg.gallery.search_result import SearchHit, SearchResult
from cace_pyg.models import FrozenExtractor
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import Picture, read_picture
from cace_pyg.retrieval import Calibration, euclidean_distance, form_sets, rank, rerank, set_distance
from cace_pyg.retrieval import top_k as nearest

P = TypeVar("P", bound=Picture)

_MODEL = "model.ckpt"
# parts of a checkpoint that a gallery keeps
_KEPT = ("config", "identities", "fusion_weight", "calibration", "model", "epoch", "layers", "network")
_FEWEST = 100  # images needed to see a drift: the scores of ten people differ from any others by chance
_SAMPLE, _PAIRS = 128, 500  # images, and pairs of them, whose scores are compared with the calibration's
_BATCH = 64  # images per commit
_FORMAT = 2  # of the table; 1 had no check sums


class Gallery:
    """Pictures of pedestrians, found again by the two stages of CACE-Net (§3.5).

    Its folder contains the model (``model.ckpt``, and in ``network`` the file of a frozen network) and a LanceDB table.
    For each image the table has its individual embedding (float16), the input of the second stage
    (:class:`ClueCodec`), a thumbnail, its path, camera, time and any other column. The first stage searches by cosine,
    exhaustively up to 50,000 images and through an index above that (:meth:`optimize`). The second stage re-ranks the
    ``first_stage`` nearest images. Every change is one commit: a killed process leaves the gallery as its last commit
    left it, and a process killed in :meth:`create` leaves a complete gallery or none. Each row has check sums, so data
    that changed on disk is an error, see ``docs/gallery.md``.

    Use :meth:`create` or :meth:`open` to make one.
    """

    def __init__(self, path: Path, embedder: Embedder, table: GalleryTable):
        self.path = path
        self.embedder = embedder
        self._table = table
        self._codec = ClueCodec(embedder.example.prepared, table.about["precision"], table.about.get("gallery_clues"))
        self._lists: tuple[Any, _Lists] | None = None  # with the versions they belong to
        self._entries: tuple[int, Entries] | None = None  # with the version they belong to

    @classmethod
    def create(
        cls,
        path: str | Path,
        checkpoint: str | Path,
        precision: Precision = "int8",
        device: str = "auto",
        gallery_clues: int | None = None,
    ) -> "Gallery":
        """Make an empty gallery.

        Args:
            path: its folder; a new one, or one without a gallery.
            checkpoint: ``best.ckpt`` of a run, or a bundle; the gallery gets a copy of the parts it needs.
            precision: of the second stage's input, see :class:`ClueCodec`.
            device: auto, cpu, cuda, cuda:1, mps.
            gallery_clues: clues kept of a picture for the second stage, each the mean of several
                (docs/gallery_clues.md); none: the model's ``evaluation.gallery_clues``, with which it was calibrated.

        Raises:
            FileExistsError: there is a gallery already.
            ValueError: ``path`` is empty or the address of an object store; or the network has diverged.
            FileNotFoundError, ValueError: see :class:`Embedder` and :class:`ClueCodec`.
            RuntimeError: LanceDB is not installed, or the folder cannot be written.
        """
        path, checkpoint = _folder(path), Path(checkpoint)
        if is_gallery(path):
            raise FileExistsError(f"there is a gallery at {path} already: add to it, or choose another --gallery")
        embedder = Embedder(checkpoint, device)
        example = embedder.example
        fewer = gallery_clues if gallery_clues is not None else embedder.config.evaluation.gallery_clues
        if fewer is not None:
            with embedder.on_cpu() as model:
                model.pair_stage.keep_clues(example.prepared, fewer)  # refuses what is not possible
        codec = ClueCodec(example.prepared, precision, fewer)
        codec.encode(example.prepared)  # refuses values that it cannot store
        state = load_checkpoint(checkpoint)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeError(f"cannot make the folder {path}: {error}; choose another --gallery") from error
        _keep_network(embedder, path / _MODEL)
        save_checkpoint(path / _MODEL, {name: state[name] for name in _KEPT if name in state})
        about = {
            "format": _FORMAT,
            "model": embedder.fingerprint,
            "precision": precision,
            "clue_bytes": codec.bytes_per_image,
            "gallery_clues": codec.clues,
        }
        return cls(path, embedder, GalleryTable.create(path, example.embedding.size(1), about))

    @classmethod
    def open(
        cls, path: str | Path, checkpoint: str | Path | None = None, device: str = "auto", overrides: Sequence[str] = ()
    ) -> "Gallery":
        """Open an existing gallery, with the model that it was made with.

        Args:
            path: its folder.
            checkpoint: the model that you expect; an error if the gallery has another one.
            device: auto, cpu, cuda, cuda:1, mps.
            overrides: dotted options, such as ``--evaluation.fusion=0.5``; none may change the model.

        Raises:
            FileNotFoundError: there is no gallery.
            ValueError: ``path`` is empty or the address of an object store; or the gallery was made by another model or
                another version of this library.
            RuntimeError: LanceDB is not installed, or the gallery is damaged.
        """
        path = _folder(path)
        table = GalleryTable(path)
        if (found := table.about["format"]) != _FORMAT:
            remedy = "index the pictures again into another --gallery" if found < _FORMAT else "update cace_pyg"
            raise ValueError(f"Expected a gallery of format {_FORMAT} at {path} (got {found}); {remedy}")
        embedder = Embedder(path / _MODEL, device, overrides)
        meant = Embedder(Path(checkpoint), device).fingerprint if checkpoint is not None else table.about["model"]
        for fingerprint, whose in ((meant, checkpoint), (embedder.fingerprint, path / _MODEL)):
            if fingerprint != table.about["model"]:
                raise ValueError(
                    f"the gallery {path} was made by model {table.about['model']}, but {whose} is model {fingerprint}; "
                    "their embeddings cannot be compared: leave --checkpoint out to use the gallery's own model, or "
                    "index the pictures into another --gallery"
                )
        return cls(path, embedder, table)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, image: str | Path) -> bool:
        """Whether an image of this name is in the gallery."""
        return bool(self._table.rows_of([image_name(image)], ["image"]))

    def add(
        self,
        pictures: Iterable[Picture],
        camera: Sequence[str | None] | None = None,
        taken: Sequence[datetime | None] | None = None,
        metadata: Sequence[Mapping[str, Value]] | None = None,
        progress: bool = False,
    ) -> Added:
        """Add pictures; pictures that are there already and have not changed are skipped, so adding twice is harmless.

        The name of an image is the absolute path of its file. A picture without a file is named by its SHA-256: that of
        the bytes of a file, or of the decoded RGB picture and its size. Images are committed 64 at a time; those
        committed stay if the call is interrupted. At most four are in memory at full size.

        Args:
            pictures: paths, or PIL images, arrays, bytes of files.
            camera: of each picture.
            taken: when each was taken; a time with a zone is stored in UTC.
            metadata: other columns of each picture: text, numbers, times, booleans, also those of numpy and pandas. NaN
                means unknown. The first value of a column sets its type.
            progress: show a bar; it counts committed images.

        Raises:
            ValueError: the number of cameras, times or metadata is not that of the pictures, or no column takes some
                metadata.
        """
        if isinstance(pictures, Picture):
            raise ValueError(f"Expected a list of pictures to add (got {_kind(pictures)} alone); put it into a list")
        if isinstance(camera, str):
            raise ValueError(f"Expected a camera for each picture, in a list (got {camera!r})")
        pictures = list(pictures)
        told: list[Sequence[Any]] = []
        for name, values, unknown in (("camera", camera, None), ("taken", taken, None), ("metadata", metadata, {})):
            if values is not None and len(values) != len(pictures):
                raise ValueError(f"Expected {name} for each of {len(pictures)} pictures (got {len(values)})")
            told.append([unknown] * len(pictures) if values is None else values)
        found = Added()
        with progress_bar(total=len(pictures), desc="index", unit="image", disable=not progress) as bar:
            for first in range(0, len(pictures), _BATCH):
                these = range(first, min(first + _BATCH, len(pictures)))
                found += self._add_batch([NewPicture.of(pictures[i], *(values[i] for values in told)) for i in these])
                bar.update(len(these))
        return found

    def prepare_for_writers(self, metadata: Sequence[Mapping[str, Value]]) -> None:
        """Make the columns that several processes will fill, so that a wrong name is refused before they start.

        Raises:
            ValueError: a column name is not allowed.
        """
        self._table.add_columns(metadata)

    def stamps(self) -> dict[str, datetime]:
        """When each image was added or last replaced, by name, on the clock of the machine that did it."""
        return {row["image"]: row["added"] for row in self._table.rows(None, ["image", "added"])}

    def remove(self, images: Sequence[str | Path] = (), where: str | None = None) -> int:
        """Remove images, by name or by a filter, with all corrections of them; returns how many images were removed.

        Raises:
            ValueError: the filter is not valid, a single name is not in a list, or the rest of a track has no clues.
        """
        if isinstance(images, str | Path):
            raise ValueError(f"Expected a list of images to remove (got {str(images)!r}); put it into a list")
        where = self._table.checked(where) if where is not None else None  # before anything is removed
        self._check_left(images, where)
        names = [image_name(image) for image in images]
        removed = self._table.remove_images(names)
        if where is not None:
            names += [row["image"] for row in self._table.rows(where, ["image"])]
            removed += self._table.remove(where)
        Corrections(self.path).forget(names)
        return removed

    @property
    def metadata_columns(self) -> dict[str, str]:
        """Columns besides camera and time, with their Arrow types."""
        return self._table.metadata_columns

    def told(self) -> list[dict[str, Any]]:
        """The facts of every picture, sorted by name: ``image``, ``sha256``, ``camera``, ``time``, ``metadata``, and
        each column of ``metadata`` by itself."""
        return _told(self._table)

    def told_with_neighbours(self) -> tuple[list[dict[str, Any]], NeighbourLists]:
        """The same, with the kept neighbours of these pictures in the same order, see :meth:`keep_neighbours`.

        Raises:
            FileNotFoundError: no neighbours are kept.
            RuntimeError: the neighbours are out of date, or the gallery is damaged.
        """
        table = self._table.snapshot()
        rows, lists = self._neighbour_lists(table)
        told = {row["image"]: row for row in _told(table)}
        return [told[row["image"]] for row in rows], lists

    def tell(self, facts: Mapping[str, Mapping[str, Value]]) -> None:
        """Set metadata columns of images in the gallery, in one commit.

        Args:
            facts: by image, with the same columns for each.

        Raises:
            ValueError: see :meth:`add`.
            RuntimeError: the gallery is damaged.
        """
        self._table.tell(facts)

    def _check_left(self, images: Sequence[str | Path], where: str | None) -> None:
        if not has_tracks(self._table):
            return
        gone = {image_name(image) for image in images}
        gone |= {row["image"] for row in self._table.rows(where, ["image"])} if where is not None else set()
        rows = self._table.rows(None, ["image", "camera", TRACK, "check_sums"])
        if left := left_without_clues(rows, gone):
            raise ValueError(
                "Expected to remove a whole track, or to keep one of its views (got all views of a track of which "
                f"{len(left)} pictures would stay, such as {left[0]}): remove these too, then add those that you keep"
            )

    def missing(self) -> list[str]:
        """Images whose file is gone."""
        named = [row["image"] for row in self._table.rows(None, ["image"])]
        return [name for name in named if not name.startswith("sha256:") and not Path(name).is_file()]

    @property
    def keeps_neighbours(self) -> bool:
        """Whether :meth:`keep_neighbours` was ever called; the lists may be out of date."""
        return is_kept(self.path)

    def keep_neighbours(self, progress: bool = False) -> int:
        """Store each picture's nearest pictures by both stages, for ``search(neighbours=True)``; see
        docs/neighbours.md.

        The first call makes the lists of all pictures; later calls update them. For a new picture, the second stage
        computes the pairs with its ``neighbours.candidates`` nearest pictures, and with those that it is near to. Lists
        are committed 64 at a time, so the next call continues after an interruption. Only one process at a time can do
        this.

        Returns:
            How many lists were written.

        Raises:
            ValueError: ``k_reciprocal.k1`` is above ``neighbours.candidates``; or tracks have no clues but those
                of their views.
            RuntimeError: the gallery is damaged.
        """
        settings = self.embedder.config
        if not all(map(keeps_clues, self._table.rows(None, ["image", "check_sums"]))):
            raise ValueError(
                f"Expected clues of every picture, to keep neighbours (got the gallery {self.path}, whose tracks keep "
                "only the clues of their views); do without neighbours, or make another --gallery"
            )
        if not self.keeps_neighbours:
            check_neighbours(settings.k_reciprocal, settings.neighbours.candidates)
        kept = KeptNeighbours.create(self.path, settings.neighbours.candidates)

        def look() -> tuple[Pictures, Measure | None]:
            table = self._table.snapshot()
            rows, pictures = _all_pictures(table)
            return pictures, self._measure(table, rows) if self.embedder.fusion_weight > 0 else None

        return kept.complete(look, progress)

    @overload
    def search(
        self,
        picture: Picture,
        top_k: int = 10,
        where: str | None = None,
        first_stage: int | None = None,
        false_alarms: float | None = None,
        neighbours: bool = False,
        *,
        gallery_neighbours: int = 0,
    ) -> SearchResult: ...

    @overload
    def search(
        self,
        picture: list[P] | tuple[P, ...],
        top_k: int = 10,
        where: str | None = None,
        first_stage: int | None = None,
        false_alarms: float | None = None,
        neighbours: bool = False,
        *,
        together: Literal[False] = False,
        gallery_neighbours: int = 0,
    ) -> list[SearchResult]: ...

    @overload
    def search(
        self,
        picture: list[P] | tuple[P, ...],
        top_k: int = 10,
        where: str | None = None,
        first_stage: int | None = None,
        false_alarms: float | None = None,
        neighbours: bool = False,
        *,
        together: Literal[True],
        gallery_neighbours: int = 0,
    ) -> SearchResult: ...

    def search(
        self,
        picture: Picture | list[P] | tuple[P, ...],
        top_k: int = 10,
        where: str | None = None,
        first_stage: int | None = None,
        false_alarms: float | None = None,
        neighbours: bool = False,
        *,
        together: bool = False,
        gallery_neighbours: int = 0,
    ) -> SearchResult | list[SearchResult]:
        """Find the images, or tracks, that most likely show the person of a picture, or of several.

        Pictures of one camera that share a value of the column ``track`` are one entry of the gallery (docs/tracks.md).
        Such a gallery is searched exhaustively, and a track passes a filter if any of its pictures does.

        Args:
            picture: a path, PIL image, array or the bytes of a file; or a list of them.
            top_k: how many to return.
            where: SQL over the columns, such as ``camera = 'c3'``, see
                :func:`cace_pyg.gallery.filter.checked_filter`.
            first_stage: how many of the nearest entries the second stage compares (default: ``evaluation.top_k``); 0:
                none.
            false_alarms: share of the people who are not in the gallery that may be mistaken for one who is, such as
                0.01; ``result.is_known`` then says whether this person is in the gallery. None: no decision.
            neighbours: rank by the neighbours that pictures have in common (:meth:`keep_neighbours`), with the settings
                ``k_reciprocal``. The pair stage compares at least as many pictures as each kept list has. A filter
                selects among the hits, but neighbours come from the whole gallery.
            together: the pictures of a list show one person and are one query, compared by the mean embedding and by
                all pairs of views, see :mod:`cace_pyg.retrieval.picture_sets`.
            gallery_neighbours: the second stage follows this many nearest images of a good match, best match first,
                instead of the query's own list (docs/candidates.md); 0: it compares the nearest of the query. The
                gallery is then searched exhaustively, with all embeddings in memory. With a filter, only neighbours
                that pass it are followed.

        Returns:
            A result, or a list with one for each picture if a list is not searched ``together``. There are fewer hits
            than ``top_k`` if the gallery, or the part that passes the filter, is smaller.

        Raises:
            ValueError: a picture cannot be read, ``top_k`` is below 1, or the filter is not valid; or the model has no
                calibration for this rate of false alarms; or there are too few pictures for neighbours; or neighbours
                and false alarms are both asked for; or one of them is asked for although several pictures are one query
                or one entry, or gallery neighbours are followed.
            FileNotFoundError: there is no such file, or no neighbours are kept.
            RuntimeError: the gallery is damaged, or its neighbours are out of date.
        """
        first_stage = self.embedder.config.evaluation.top_k if first_stage is None else first_stage
        if top_k < 1 or first_stage < 0:
            raise ValueError(f"Expected top_k of at least 1 and first_stage of at least 0 (got {top_k}, {first_stage})")
        if gallery_neighbours < 0:
            raise ValueError(f"Expected gallery_neighbours of at least 0 (got {gallery_neighbours})")
        if isinstance(picture, list | tuple) and not together:
            asked = top_k, where, first_stage, false_alarms, neighbours
            return [self.search(each, *asked, gallery_neighbours=gallery_neighbours) for each in picture]
        pictures = list(picture) if isinstance(picture, list | tuple) else [picture]
        in_entries = len(pictures) > 1 or gallery_neighbours > 0 or has_tracks(self._table)
        if in_entries:
            _check_alone(len(pictures) > 1, gallery_neighbours > 0, false_alarms, neighbours)
        where = self._table.checked(where) if where is not None else None
        if neighbours:
            self._check_neighbours(false_alarms)
        if false_alarms is not None:
            self._check_false_alarms(false_alarms, first_stage, where)
        started = time.perf_counter()
        query = self.embedder(pictures)
        seconds = time.perf_counter() - started
        if in_entries:
            wanted = top_k, where, first_stage, gallery_neighbours
            return read_again(lambda: self._search_entries(self._table.snapshot(), query, *wanted, seconds))
        asked = top_k, where, first_stage, false_alarms, neighbours
        return read_again(lambda: self._search(self._table.snapshot(), query, *asked, seconds))

    def explain(self, picture: Picture | list[P] | tuple[P, ...], hit: SearchHit) -> Explanation:
        """The pair graph of a picture and an image that was found for it.

        For pictures that were searched together, the picture nearest to the image is used; for a track, its nearest
        view.

        Raises:
            ValueError: the image is no longer in the gallery, the picture cannot be read, or ``hit`` is not a hit.
            RuntimeError: the gallery is damaged.
        """
        if not isinstance(hit, SearchHit):
            raise ValueError(f"Expected a hit, such as gallery.search(picture)[0] (got {_kind(hit)})")
        if isinstance(picture, list | tuple):
            if hit.query_picture >= len(picture):
                raise ValueError(f"Expected the pictures that the hit was found for (got {len(picture)}, too few)")
            picture = picture[hit.query_picture]
        query = self.embedder([picture])
        found = self._table.parts_of(hit.image, ["clues", "thumbnail"])
        if found is None:
            raise ValueError(f"{hit.image} is not in the gallery {self.path} any more; search again")
        if not found["clues"]:
            raise ValueError(f"{hit.image} is no longer a view of its track and has no clues; search again")
        with self.embedder.on_cpu() as model:
            view = view_pair(model, query.prepared, self._codec.decode([found["clues"]], model))
        pictures = read_picture(picture), _file_or_thumbnail(hit, found["thumbnail"])
        return Explanation(hit, view, pictures, self.embedder)

    @property
    def calibration(self) -> Calibration | None:
        """What distances mean here; None if the model has no calibration for its fusion weight."""
        return self.embedder.calibration

    def drift(self) -> float | None:
        """How far the scores of this gallery are from those of the calibration, see :meth:`Calibration.drift`.

        None if there is no calibration, or fewer than 100 images. Takes about a second.

        Raises:
            RuntimeError: the gallery is damaged.
        """
        if self.calibration is None or len(self) < _FEWEST:
            return None
        some = [row for row in self._table.some(_SAMPLE) if row["clues"]]  # a track has clues of its views at least
        if not some:
            return None
        with self.embedder.on_cpu() as model:
            embedding = torch.stack([row["embedding"] for row in some])
            images = Extraction((), embedding, self._codec.decode([row["clues"] for row in some], model))
            scores = random_scores(model, images, images, self.embedder.fusion_weight, 64, "cpu", pairs=_PAIRS)
        return self.calibration.drift(scores)

    def check_calibrated(self, missed: str, otherwise: str = "") -> Calibration:
        """The calibration; without one, a ``ValueError`` that says what cannot be done and the remedy."""
        if self.calibration is None:
            raise ValueError(
                f"the model of {self.path} has no calibration, so {missed}: python -m "
                f"cace_pyg.calibrate --checkpoint {self.path / _MODEL} --output {self.path / _MODEL} --data.root PATH "
                f"makes one, from labelled pictures{otherwise}"
            )
        return self.calibration

    def _check_false_alarms(self, false_alarms: float, first_stage: int, where: str | None) -> None:
        calibration = self.check_calibrated(
            "nothing says who is unknown", "; leave the rate of false alarms out otherwise"
        )
        if first_stage < 1 and self.embedder.fusion_weight > 0:
            raise ValueError("Expected first_stage of at least 1 where false alarms are asked for (got 0)")
        calibration.threshold(false_alarms, max(self._table.count(where), 1))  # says what is wrong with the rate

    def _check_neighbours(self, false_alarms: float | None) -> None:
        KeptNeighbours(self.path)
        if false_alarms is not None:
            raise ValueError(
                "Expected false_alarms or neighbours, not both: the decision needs the distance of the two stages, "
                "which is what the model's calibration is for; search twice"
            )

    def thumbnail(self, image: str) -> bytes | None:
        """The JPEG of an image, at most 128 × 256 pixels; None if it is not in the gallery."""
        found = self._table.parts_of(image, ["thumbnail"])
        return found["thumbnail"] if found else None

    def optimize(self, erase: bool = False, views_alone: bool = False) -> None:
        """Merge small files, and make or renew the index of a large gallery.

        Earlier versions of the table are deleted once they are a minute old. A search that still reads one of them is
        repeated on the newest version, at most three times; a process that writes meanwhile may fail with an error.
        Removed images may stay in files that are not worth rewriting. If neighbours are kept, their lists are
        completed and their files merged, too.

        Args:
            erase: rewrite everything and delete all earlier files, so that nothing is left of removed images. Processes
                that read or write meanwhile may fail.
            views_alone: keep only the clues of the views of each track. The second stage sees the same until pictures
                are added or removed.

        Raises:
            ValueError: ``views_alone`` with kept neighbours, which need the clues of all pictures.
        """
        if views_alone:
            self._drop_clues()
        self._table.optimize(erase)
        if self.keeps_neighbours:
            self.keep_neighbours()
            KeptNeighbours(self.path).optimize(erase)

    def _drop_clues(self) -> None:
        if self.keeps_neighbours:
            raise ValueError(
                f"Expected no kept neighbours, to drop all clues but those of the views of tracks (got some in "
                f"{self.path}): neighbours need the clues of all pictures"
            )
        entries = self._all_entries(self._table.snapshot()) if has_tracks(self._table) else None
        if entries is not None:
            self._table.drop_clues(entries.no_views())

    def stats(self) -> dict[str, Any]:
        """Counts, bytes, cameras, first and last time, columns and their types, the model."""
        about, table = self._table.about, self._table.stats()
        cameras: dict[str, int] = {}
        rows = self._table.rows(None, ["camera", "time"])
        times = [row["time"] for row in rows if row["time"]]
        for row in rows:
            cameras[row["camera"] or "unknown"] = cameras.get(row["camera"] or "unknown", 0) + 1
        tracks = None
        if has_tracks(self._table):
            named = self._table.rows(None, ["camera", TRACK])
            tracks = len({(row["camera"], row[TRACK]) for row in named if row[TRACK] is not None})
        return {
            "images": table["rows"],
            "bytes": table["bytes"],
            "bytes_on_disk": table["bytes_on_disk"],
            "bytes_per_image": table["bytes"] / max(table["rows"], 1),
            "clue_bytes_per_image": about["clue_bytes"],
            "precision": about["precision"],
            "gallery_clues": about.get("gallery_clues"),
            "model": about["model"],
            "calibration": self.calibration.summary(max(len(self), 1)) if self.calibration else None,
            "cameras": dict(sorted(cameras.items())),
            "times": [min(times).isoformat(), max(times).isoformat()] if times else None,
            "metadata": self._table.metadata_columns,
            "tracks": tracks,
            "not_indexed": table["not_indexed"],
            "neighbours": KeptNeighbours(self.path).stats() if self.keeps_neighbours else None,
        }

    def _add_batch(self, pictures: list[NewPicture]) -> Added:
        known = self._table.known([picture.image for picture in pictures])
        fresh = {
            picture.image: _still_identified(picture, known.get(picture.image))
            for picture in pictures
            if not picture.is_in(known.get(picture.image))
        }
        good, unreadable = read(list(fresh.values()), self.embedder.resize)
        if good:
            embedded = self.embedder.embed([picture.resized for picture in good])
            blobs = self._codec.encode(embedded.prepared)
            rows = zip(good, embedded.embedding.numpy(), blobs, strict=True)
            self._table.put([picture.entry(embedding, clues) for picture, embedding, clues in rows])
        replaced = sum(picture.new.image in known for picture in good)
        bad = {new.image for new, _ in unreadable}
        there = sum(picture.image not in bad for picture in pictures) - len(good)
        told = tuple((new.shown_name, reason) for new, reason in unreadable)
        return Added(len(good) - replaced, replaced, there, told)

    def _search(
        self,
        table: GalleryTable,
        query: Embedded,
        top_k: int,
        where: str | None,
        first_stage: int,
        false_alarms: float | None,
        neighbours: bool,
        seconds: float,
    ) -> SearchResult:
        """Both stages on one version of the table."""
        clock = [time.perf_counter()]
        rows = table.nearest(query.embedding[0].numpy(), max(top_k, first_stage), where)
        calibration = self.calibration
        size = table.count(where) if calibration is not None else 0
        threshold = calibration.threshold(false_alarms, max(size, 1)) if calibration and false_alarms else None
        if not rows:
            spent = {"embedding": seconds, "first_stage": time.perf_counter() - clock[0]}
            return SearchResult((), (), spent, threshold)
        individual = euclidean_distance(query.embedding, torch.stack([row["embedding"] for row in rows]))
        order = rank(individual)[0]
        rows, individual = [rows[position] for position in order], individual[:, order]
        clock.append(time.perf_counter())
        conditional = self._conditional(table, query, rows[:first_stage])
        fused = self._fused(individual, conditional)
        looked_at = conditional.size(1) if self.embedder.fusion_weight > 0 else len(rows)
        probability = calibration.probability(fused[0, :looked_at], size).tolist() if calibration else []
        ranking = rank(fused)[0].tolist()
        clock.append(time.perf_counter())
        hits = _hits(rows, individual[0], conditional[0], fused[0], probability, ranking)
        if neighbours:
            hits, ranking = self._by_neighbours(table, query, hits, conditional[0])
            clock.append(time.perf_counter())
        stages = ("first_stage", "second_stage", "neighbours")
        spent = {"embedding": seconds}
        spent |= {stage: later - sooner for stage, (sooner, later) in zip(stages, pairwise(clock), strict=False)}
        return SearchResult(
            tuple(hits[position] for position in ranking[:top_k]), tuple(hits[:top_k]), spent, threshold
        )

    def _search_entries(
        self,
        table: GalleryTable,
        query: Embedded,
        top_k: int,
        where: str | None,
        first_stage: int,
        gallery_neighbours: int,
        seconds: float,
    ) -> SearchResult:
        """Both stages on the entries of one version of the table, for one or several pictures of one person."""
        clock = [time.perf_counter()]
        asked = form_sets(query.embedding, [0] * len(query.embedding))
        entries = self._entries_of(table, asked.embedding, max(top_k, first_stage), where, gallery_neighbours > 0)
        if entries is None:
            spent = {"embedding": seconds, "first_stage": time.perf_counter() - clock[0]}
            return SearchResult((), (), spent)
        distance = euclidean_distance(asked.embedding, entries.sets.embedding)
        nearest_first = rank(distance)[0]
        order = nearest_first[: max(top_k, first_stage)]
        clock.append(time.perf_counter())
        near = order[:first_stage] if self.embedder.fusion_weight > 0 else order[:0]
        look = _LookAtEntries(self, table, query, asked.views[0], entries)
        if gallery_neighbours and len(near):
            embeddings = asked.embedding, entries.sets.embedding
            follows = _NearestEntries(entries.sets.embedding, gallery_neighbours)
            weight = self.embedder.fusion_weight
            index, conditional = follow_neighbours(*embeddings, near[None], follows, weight, look)
            near = index[0]
            order = torch.cat([near, order[~torch.isin(order, near)]])
        else:
            conditional = look([near])[None]
        individual = distance[:, order]
        fused = self._fused(individual, conditional)
        ranking = rank(fused)[0].tolist()
        clock.append(time.perf_counter())
        shown = entries.sets.views[order, 0].tolist()
        hits = _hits([dict(entries.rows[view]) for view in shown], individual[0], conditional[0], fused[0], [], ranking)
        size, alone = len(entries.sets), len(query.embedding) == 1
        first_stage_rank = nearest_first.argsort() + 1
        for place, entry in enumerate(order.tolist()):
            told = look.nearest_view(place) if place < len(near) else {}
            looked_at = place < len(near) or self.embedder.fusion_weight == 0
            if self.calibration and alone and looked_at and len(entries.sets.members[entry]) == 1:
                told["probability"] = float(self.calibration.probability(fused[0, place].numpy(), size))
            told["first_stage_rank"] = int(first_stage_rank[entry])
            hits[place] = replace(hits[place], pictures=entries.pictures(entry), **told)
        spent = {"embedding": seconds, "first_stage": clock[1] - clock[0], "second_stage": clock[2] - clock[1]}
        by_the_first = sorted(hits, key=lambda hit: hit.first_stage_rank)
        return SearchResult(tuple(hits[place] for place in ranking[:top_k]), tuple(by_the_first[:top_k]), spent)

    def _entries_of(
        self, table: GalleryTable, query: Tensor, count: int, where: str | None, everyone: bool
    ) -> Entries | None:
        """All entries that pass a filter, or in a gallery without tracks the nearest; None if nothing passes."""
        if not (everyone or has_tracks(table)):
            rows = table.nearest(query[0].numpy(), count, where)
            return Entries.of(rows, torch.stack([row["embedding"] for row in rows])) if rows else None
        entries = self._all_entries(table)
        if where is None or entries is None:
            return entries
        let_through = {row["image"] for row in table.rows(where, ["image"])}
        chosen = entries.of_pictures(let_through)
        return replace(entries, sets=entries.sets.select(chosen)) if chosen else None

    def _all_entries(self, table: GalleryTable) -> Entries | None:
        """All entries of a snapshot, from memory if nothing was written since; None if it is empty."""
        if self._entries is None or self._entries[0] != table.version:
            rows, embedding = table.embeddings()
            if not rows:
                return None
            self._entries = table.version, Entries.of(rows, embedding)
        return self._entries[1]

    def _by_neighbours(
        self, table: GalleryTable, query: Embedded, hits: list[SearchHit], conditional: Tensor
    ) -> tuple[list[SearchHit], list[int]]:
        """The hits with their ranks by neighbours, still in the order of the first stage; and the ranking."""
        rows, lists = self._neighbour_lists(table)
        at = {row["image"]: position for position, row in enumerate(rows)}
        wanted = [at[hit.image] for hit in hits]
        weight = self.embedder.fusion_weight
        told = dict(zip(wanted, conditional.tolist() if weight > 0 else [0.0] * len(wanted), strict=False))
        others = [position for position in lists.nearest(query.embedding).tolist() if position not in told]
        found = self._conditional(table, query, [rows[position] for position in others])[0].tolist()
        told |= dict(zip(others, found if weight > 0 else [0.0] * len(others), strict=True))
        distance = lists.rerank(
            query.embedding,
            np.array(list(told)),
            np.array(list(told.values()), np.float32),
            np.array(wanted),
            self.embedder.config.k_reciprocal,
        )
        ranking = rank(distance[None])[0].tolist()
        ranks = {position: number for number, position in enumerate(ranking, start=1)}
        ranked = [
            replace(hit, rank=ranks[position], neighbour_distance=float(distance[position]))
            for position, hit in enumerate(hits)
        ]
        return ranked, ranking

    def _neighbour_lists(self, table: GalleryTable) -> "_Lists":
        """The lists of the pictures of a snapshot, from memory if nothing was written since."""
        kept, weight = KeptNeighbours(self.path), self.embedder.fusion_weight
        versions = (table.version, kept.version, weight)
        if self._lists is None or self._lists[0] != versions:
            rows, pictures = _all_pictures(table)
            self._lists = versions, _Lists(rows, kept.read(pictures, weight))
        return self._lists[1]

    def _measure(self, table: GalleryTable, rows: list[dict[str, Any]]) -> Measure:
        """How the pair stage measures pictures of a snapshot; pictures are given by their positions in ``rows``."""
        device, model = self.embedder.device, self.embedder.model

        def some(positions: Sequence[int]) -> Callable[[int, np.ndarray], Tensor]:
            blobs = dict(zip(positions, table.clues([rows[position] for position in positions]), strict=True))

            @torch.no_grad()
            def distances(position: int, others: np.ndarray) -> Tensor:
                a = self._codec.decode([blobs[position]], model).to(device)
                b = self._codec.decode([blobs[other] for other in others.tolist()], model).to(device)
                return model.pair_stage.distance(a, b).float().cpu()

            return distances

        return some

    @torch.no_grad()
    def _conditional(self, table: GalleryTable, query: Embedded, rows: list[dict[str, Any]]) -> Tensor:
        """The second stage's distances to ``rows``, ``(1, row)``; empty if the model has no pair branch."""
        return self._pair_distances(table, query, torch.tensor([0]), rows)

    @torch.no_grad()
    def _pair_distances(
        self, table: GalleryTable, query: Embedded, asked: Tensor, rows: Sequence[Mapping[str, Any]]
    ) -> Tensor:
        """The second stage's distances from the ``asked`` pictures of a query to rows, ``(asked, row)``."""
        if not rows or self.embedder.fusion_weight == 0:
            return torch.empty(len(asked), 0)
        device, model = self.embedder.device, self.embedder.model
        clues, prepared = self._codec.decode(table.clues(rows), model).to(device), query.prepared.to(device)
        each = [
            model.pair_stage.distance(prepared.select(slice(position, position + 1)), clues).cpu()
            for position in asked.tolist()
        ]
        return torch.stack(each)

    def _fused(self, individual: Tensor, conditional: Tensor) -> Tensor:
        if not conditional.size(1):
            return individual
        index = torch.arange(conditional.size(1))[None]
        return rerank(individual, index, conditional, self.embedder.fusion_weight)


class _LookAtEntries:
    """The second stage's distances of a query to entries, and by which of their views they come."""

    def __init__(self, gallery: Gallery, table: GalleryTable, query: Embedded, asked: Tensor, entries: Entries):
        self.entries = entries
        self.asked = asked
        self._measure = partial(gallery._pair_distances, table, query, asked)
        self._nearest: list[tuple[int, int]] = []  # of each entry: picture of the query, row

    def __call__(self, lists: Sequence[Tensor]) -> Tensor:
        """Of the entries in the only list, ``(entry,)``."""
        (near,) = lists
        views, of_entry = self.entries.views(near.tolist())
        pairs = self._measure([self.entries.rows[view] for view in views.tolist()])
        for place in range(len(near) if pairs.size(1) else 0):
            here = (of_entry == place).nonzero().flatten()
            best = int(pairs[:, here].argmin())
            self._nearest.append((int(self.asked[best // len(here)]), int(views[here[best % len(here)]])))
        return set_distance(pairs.flatten(), of_entry.repeat(len(self.asked)), len(near))

    def nearest_view(self, place: int) -> dict[str, Any]:
        """The view of the entry in that place by which it is nearest, and the picture of the query."""
        picture, view = self._nearest[place]
        row = self.entries.rows[view]
        return {name: row[name] for name in ("image", "camera", "time", "metadata")} | {"query_picture": picture}


class _NearestEntries:
    """The nearest entries of an entry, without itself; computed when asked for, since only few are."""

    def __init__(self, embedding: Tensor, count: int):
        self.embedding = embedding
        self.count = min(count, len(embedding) - 1)

    def __call__(self, position: int) -> list[int]:
        distance = euclidean_distance(self.embedding[position : position + 1], self.embedding)
        distance[0, position] = torch.inf
        return nearest(distance, max(1, self.count))[0, : self.count].tolist()


def _check_alone(together: bool, followed: bool, false_alarms: float | None, neighbours: bool) -> None:
    if followed and (neighbours or false_alarms is not None):
        other = "neighbours" if neighbours else "false_alarms"
        raise ValueError(
            f"Expected gallery_neighbours or {other}, not both: the latter needs a second stage that compares "
            "the nearest of the query; search twice"
        )
    what = "if pictures are searched together" if together else "if the gallery has tracks (a column track)"
    if false_alarms is not None:
        raise ValueError(
            f"Expected no false_alarms {what}: calibrations are learned from pairs of single pictures, and say "
            "nothing about sets; leave it out"
        )
    if neighbours:
        raise ValueError(f"Expected no neighbours {what}: they are kept for single pictures; leave it out")


class _Lists(NamedTuple):
    """Rows of a version of the table, sorted by name, and their kept neighbours."""

    rows: list[dict[str, Any]]
    lists: NeighbourLists


def _still_identified(new: NewPicture, row: Mapping[str, Any] | None) -> NewPicture:
    """Keep the person of a picture that is added again with other facts."""
    if row is None or row["sha256"] != new.sha256:
        return new
    known = {name: row[name] for name in (PERSON, CONFIDENCE) if row.get(name) is not None}
    return replace(new, metadata={**known, **new.metadata})


def _told(table: GalleryTable) -> list[dict[str, Any]]:
    extra = list(table.metadata_columns)
    rows = table.rows(None, ["image", "sha256", "camera", "time", *extra])
    return sorted(
        (row | {"metadata": {name: row[name] for name in extra}} for row in rows), key=lambda row: row["image"]
    )


def _all_pictures(table: GalleryTable) -> tuple[list[dict[str, Any]], Pictures]:
    rows, embedding = table.embeddings()
    return rows, Pictures.of([row["image"] for row in rows], [row["sha256"] for row in rows], embedding)


def _hits(
    rows: list[dict[str, Any]],
    individual: Tensor,
    conditional: Tensor,
    fused: Tensor,
    probability: list[float],
    ranking: list[int],
) -> list[SearchHit]:
    """Every row as a hit, in the order of the first stage."""
    ranks = {position: number for number, position in enumerate(ranking, start=1)}
    return [
        SearchHit(
            image=row["image"],
            rank=ranks[position],
            first_stage_rank=position + 1,
            distance=float(fused[position]),
            individual=float(individual[position]),
            conditional=float(conditional[position]) if position < len(conditional) else None,
            camera=row["camera"],
            time=row["time"],
            metadata=row["metadata"],
            probability=probability[position] if position < len(probability) else None,
        )
        for position, row in enumerate(rows)
    ]


def _keep_network(embedder: Embedder, model: Path) -> None:
    """Copy a network that is not part of the checkpoint next to it."""
    network = embedder.model.extractor
    if isinstance(network, FrozenExtractor):
        try:
            copy_network(network, model)
        except OSError as error:
            raise RuntimeError(
                f"cannot copy the network {network.path} into {model.parent}: {error}; free some space, or choose "
                "another --gallery"
            ) from error


def _folder(path: str | Path) -> Path:
    if path == "":
        raise ValueError("Expected a gallery's folder (got an empty string); name one, such as people.lance")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise ValueError(
            f"Expected a gallery's folder on a file system (got {path}); object storage is not supported, unless it is "
            "mounted as a folder"
        )
    return Path(path)


def _file_or_thumbnail(hit: SearchHit, thumbnail: bytes) -> Image.Image:
    try:
        return read_picture(hit.path or thumbnail)
    except (OSError, ValueError):  # gone or changed since: the thumbnail shows what was indexed
        return read_picture(thumbnail)


def _kind(picture: Picture) -> str:
    return repr(str(picture)) if isinstance(picture, str | Path) else type(picture).__name__
