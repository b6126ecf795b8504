"""A persistent gallery: pictures on disk, ready for both stages."""

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import yaml
from PIL import Image

from cace_pyg.engine.checkpoint import copy_network, load_checkpoint, save_checkpoint
from cace_pyg.explain.pair_view import view_pair
from cace_pyg.gallery.add_pictures import add_pictures
from cace_pyg.gallery.cameras import check_camera, learn_cameras, read_cameras, warn_of_new_cameras
from cace_pyg.gallery.clue_codec import ClueCodec, Precision
from cace_pyg.gallery.columns import Value
from cace_pyg.gallery.corrections import Corrections
from cace_pyg.gallery.damage import read_again
from cace_pyg.gallery.drift import drift_of
from cace_pyg.gallery.embedder import Embedder
from cace_pyg.gallery.entries import TRACK, has_tracks, keeps_clues, left_without_clues
from cace_pyg.gallery.explanation import Explanation
from cace_pyg.gallery.gallery_table import GalleryTable, is_gallery
from cace_pyg.gallery.in_memory import InMemory, all_pictures
from cace_pyg.gallery.kept_neighbours import KeptNeighbours, Pictures, is_kept
from cace_pyg.gallery.neighbour_lists import NeighbourLists, check_neighbours
from cace_pyg.gallery.new_picture import Added, image_name
from cace_pyg.gallery.search_entries import search_entries
from cace_pyg.gallery.search_pictures import Searched, search_pictures
from cace_pyg.gallery.search_request import SearchRequest
from cace_pyg.gallery.search_result import SearchHit, SearchResult
from cace_pyg.gallery.stored_pair_stage import StoredPairStage
from cace_pyg.gallery.unfinished_lists import Measure
from cace_pyg.models import FrozenExtractor
from cace_pyg.read_picture import Picture, read_picture
from cace_pyg.retrieval import Calibration

P = TypeVar("P", bound=Picture)

_MODEL = "model.ckpt"
# parts of a checkpoint that a gallery keeps
_KEPT = ("config", "identities", "fusion_weight", "calibration", "model", "epoch", "layers", "network")
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
        read_cameras(path, embedder, filled=len(table) > 0)
        self._table = table
        self._codec = ClueCodec(embedder.example.prepared, table.about["precision"], table.about.get("gallery_clues"))
        self._pair_stage = StoredPairStage(embedder, self._codec)
        self._memory = InMemory(path, embedder)

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
            raise FileExistsError(
                f"there is a gallery at {path} already: add to it (Gallery.open in Python), or choose another folder"
            )
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
        if codec.clues != embedder.config.evaluation.gallery_clues:  # so that calibrate compares as many
            config = yaml.safe_load(state["config"])
            config["evaluation"]["gallery_clues"] = codec.clues
            state["config"] = yaml.safe_dump(config, sort_keys=False)
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
        if camera is not None and len(camera) != len(pictures):
            raise ValueError(f"Expected camera for each of {len(pictures)} pictures (got {len(camera)})")
        cameras = [None] * len(pictures) if camera is None else camera
        learn_cameras(self.path, self.embedder, pictures, cameras, progress)
        added = add_pictures(self._table, self.embedder, self._codec, pictures, camera, taken, metadata, progress)
        if added.added or added.replaced:
            warn_of_new_cameras(self.embedder, cameras)
        return added

    def prepare_for_writers(
        self, pictures: Sequence[Picture], camera: Sequence[str | None], metadata: Sequence[Mapping[str, Value]]
    ) -> None:
        """Make the columns that several processes will fill, so that a wrong name is refused before they start, and
        learn the statistics of cameras that they all need.

        Raises:
            ValueError: a column name is not allowed, or no picture can be read.
        """
        self._table.add_columns(metadata)
        learn_cameras(self.path, self.embedder, pictures, camera, progress=True)

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
        return _facts_of(self._table)

    def told_with_neighbours(self) -> tuple[list[dict[str, Any]], NeighbourLists]:
        """The same, with the kept neighbours of these pictures in the same order, see :meth:`keep_neighbours`.

        Raises:
            FileNotFoundError: no neighbours are kept.
            RuntimeError: the neighbours are out of date, or the gallery is damaged.
        """
        table = self._table.snapshot()
        rows, lists = self._memory.neighbours(table)
        told = {row["image"]: row for row in _facts_of(table)}
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
            rows, pictures = all_pictures(table)
            return pictures, self._pair_stage.between(table, rows) if self.embedder.fusion_weight > 0 else None

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
        camera: str | None = None,
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
        camera: str | None = None,
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
        camera: str | None = None,
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
        camera: str | None = None,
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
            camera: that took the pictures, one of those with statistics, for a model with
                ``evaluation.standardise_cameras``; None: an average one.

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
        check_camera(self.path, self.embedder, camera)
        first_stage = self.embedder.config.evaluation.top_k if first_stage is None else first_stage
        asked = SearchRequest(top_k, where, first_stage, false_alarms, neighbours, gallery_neighbours)
        if isinstance(picture, list | tuple) and not together:
            alone = top_k, where, first_stage, false_alarms, neighbours
            return [self.search(each, *alone, gallery_neighbours=gallery_neighbours, camera=camera) for each in picture]
        pictures = list(picture) if isinstance(picture, list | tuple) else [picture]
        in_entries = len(pictures) > 1 or gallery_neighbours > 0 or has_tracks(self._table)
        if in_entries:
            asked.check_entries(len(pictures) > 1)
        if where is not None:
            asked = replace(asked, where=self._table.checked(where))
        if neighbours:
            self._check_neighbours(false_alarms)
        if false_alarms is not None:
            self.check_false_alarms(false_alarms, first_stage, self._table.count(asked.where))
        started = time.perf_counter()
        query = self.embedder(pictures, [camera] * len(pictures))
        seconds = time.perf_counter() - started

        def look() -> SearchResult:
            searched = self.searched(asked.where)
            if in_entries:
                return search_entries(searched.stage, self._memory, searched.table, query, asked, seconds)
            return search_pictures([searched], self._memory, query, asked, seconds)

        return read_again(look)

    def searched(self, where: str | None) -> Searched:
        """The present version of the gallery, to be searched with a checked filter."""
        return Searched(self._pair_stage, self._table.snapshot(), where)

    def checked(self, where: str) -> str:
        """A filter as SQL whose every part was checked, see :func:`cace_pyg.gallery.filter.checked_filter`.

        Raises:
            ValueError: it is not valid for the columns of this gallery.
        """
        return self._table.checked(where)

    @property
    def stored_form(self) -> str:
        """The number of clues of a picture and whether they are in int4, in words.

        Distances of galleries that differ in it cannot be compared.
        """
        precision = "int4" if self._codec.precision == "int4" else "int8 or float16"
        return f"{self._codec.clues or 'all'} clues in {precision}"

    @property
    def has_tracks(self) -> bool:
        """Whether some pictures form tracks (docs/tracks.md)."""
        return has_tracks(self._table)

    def explain(
        self, picture: Picture | list[P] | tuple[P, ...], hit: SearchHit, camera: str | None = None
    ) -> Explanation:
        """The pair graph of a picture and an image that was found for it.

        For pictures that were searched together, the picture nearest to the image is used; for a track, its nearest
        view. ``camera`` is that of the search.

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
        check_camera(self.path, self.embedder, camera)
        query = self.embedder([picture], [camera])
        found = self._table.parts_of(hit.image, ["clues", "thumbnail"])
        if found is None:
            raise ValueError(f"{hit.image} is not in the gallery {self.path} any more; search again")
        if not found["clues"]:
            raise ValueError(f"{hit.image} is no longer a view of its track and has no clues; search again")
        with self.embedder.on_cpu() as model:
            view = view_pair(model, query.prepared, self._codec.decode([found["clues"]], model))
        pictures = read_picture(picture), _file_or_thumbnail(hit, found["thumbnail"])
        return Explanation(hit, view, pictures, self.embedder, (camera, hit.camera))

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
        return drift_of(self._table, self.embedder, self._codec)

    def check_calibrated(self, missed: str, otherwise: str = "") -> Calibration:
        """The calibration; without one, a ``ValueError`` that says what cannot be done and the remedy."""
        if self.calibration is None:
            raise ValueError(
                f"the model of {self.path} has no calibration, so {missed}: python -m "
                f"cace_pyg.calibrate --checkpoint {self.path / _MODEL} --output {self.path / _MODEL} --data.root PATH "
                f"makes one, from labelled pictures{otherwise}"
            )
        return self.calibration

    def check_false_alarms(self, false_alarms: float, first_stage: int, images: int) -> None:
        """Raise ``ValueError`` if a search of so many images cannot say who is unknown at this rate."""
        calibration = self.check_calibrated(
            "nothing says who is unknown", "; leave the rate of false alarms out otherwise"
        )
        if first_stage < 1 and self.embedder.fusion_weight > 0:
            raise ValueError("Expected first_stage of at least 1 where false alarms are asked for (got 0)")
        calibration.threshold(false_alarms, max(images, 1))  # says what is wrong with the rate

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
        entries = self._memory.entries(self._table.snapshot()) if has_tracks(self._table) else None
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


def _facts_of(table: GalleryTable) -> list[dict[str, Any]]:
    extra = list(table.metadata_columns)
    rows = table.rows(None, ["image", "sha256", "camera", "time", *extra])
    return sorted(
        (row | {"metadata": {name: row[name] for name in extra}} for row in rows), key=lambda row: row["image"]
    )


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
