"""The page's routes."""

import asyncio
import io
import logging
import secrets
import threading
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import NamedTuple

from matplotlib.figure import Figure
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cace_pyg.gallery.cameras import check_camera, query_cameras
from cace_pyg.gallery.describe import describe_drift, hits_as_dicts
from cace_pyg.gallery.describe_people import sightings_as_dicts
from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.gallery_table import FilterError
from cace_pyg.gallery.kept_neighbours import IncompleteNeighboursError
from cace_pyg.gallery.page.upload import UploadError, decode_upload, read_upload
from cace_pyg.gallery.people import People
from cace_pyg.gallery.search_result import SearchHit, SearchResult

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/elements.js": ("elements.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/person": ("person.html", "text/html"),
    "/person.js": ("person.js", "text/javascript"),
}
_LOG = logging.getLogger(__name__)
_MOST_HITS = 100
_LARGEST_NUMBER = 2**53  # the largest integer that JavaScript represents exactly
_LONGEST_LINE = 500
_MOST_SEARCHES = 16  # at once; the picture of each is in memory, up to 10 MiB
_LARGEST_KEPT = (1024, 1024)  # pixels of a query that is kept for explanations: 3 MiB
_LEFT = "the client has gone"
_FIGURES = ("correspondences", "conditional_maps")


def gallery_page(gallery: Gallery, hosts: Sequence[str], patience: float = 30) -> Starlette:
    """An ASGI application for one gallery.

    Routes: ``GET /``, the page; ``GET /stats``; ``POST /search?where=…&top_k=…&camera=…`` with a picture as the body
    returns both rankings and a token (``camera`` took the picture; only for a model with
    ``evaluation.standardise_cameras``, whose gallery has ``query_cameras`` in ``/stats``); ``GET /thumbnail?image=…``;
    ``GET /explain?query=TOKEN&image=…&figure=correspondences`` (or ``conditional_maps``) returns a PNG; ``GET
    /person?person=7``, the page of a person; ``GET /sightings?person=7``, its data; ``POST /correct?a=…&b=…&same=yes``
    (or ``no``) stores a correction of two pictures and identifies everybody again, if only this machine can reach the
    page. Errors come as ``{"error": …}``. One search or drawing runs at a time; it is skipped if the client has gone.
    Sixteen searches can wait, including those whose pictures are still arriving.

    Args:
        gallery: what is searched.
        hosts: host names that the page answers to, against DNS rebinding; ``*``: any.
        patience: seconds within which a picture must have arrived.
    """
    page = _Page(gallery, "*" not in hosts, patience)
    routes = [Route(path, _file(*file)) for path, file in _FILES.items()]
    routes += [
        Route("/stats", page.stats),
        Route("/search", page.search, methods=["POST"]),
        Route("/thumbnail", page.thumbnail),
        Route("/explain", page.explain),
        Route("/sightings", page.sightings),
        Route("/correct", page.correct, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(SafeHeaders),
            Middleware(OneLineErrors),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={HTTPException: _error, UploadError: _error, FilterError: _error},
    )


class _Page:
    """What the routes share."""

    def __init__(self, gallery: Gallery, private: bool, patience: float):
        self.gallery = gallery
        self.people = People(gallery)
        self.private = private
        self.patience = patience
        self.searches = 0
        self.queries = RecentQueries()
        self.turn = asyncio.Lock()
        self.warning: str | None = None  # that the scores differ from the calibration's; computed once

    async def stats(self, request: Request) -> Response:
        stats = await run_in_threadpool(self.gallery.stats)
        told = {name: stats[name] for name in ("images", "cameras", "times", "metadata", "model", "calibration")}
        if self.warning is None:
            async with self.turn:  # it needs the model
                self.warning = await run_in_threadpool(describe_drift, self.gallery, "this gallery")
        known = query_cameras(self.gallery.path, self.gallery.embedder)
        return JSONResponse(told | {"private": self.private, "warning": self.warning, "query_cameras": known})

    async def search(self, request: Request) -> Response:
        _refuse_other_sites(request)
        _refuse_unknown(request, ("where", "top_k", "camera"))
        camera = request.query_params.get("camera") or None
        with _told():
            check_camera(self.gallery.path, self.gallery.embedder, camera)
        where, top_k = request.query_params.get("where") or None, _whole(request, "top_k", 10)
        if self.searches >= _MOST_SEARCHES:
            busy = f"{_MOST_SEARCHES} searches are under way; try again in a moment"
            raise HTTPException(503, busy, {"Connection": "close"})  # do not wait for the rest of the picture
        self.searches += 1
        try:
            return await self._search(request, where, top_k, camera)
        finally:
            self.searches -= 1

    async def _search(self, request: Request, where: str | None, top_k: int, camera: str | None) -> Response:
        try:
            body = await read_upload(request.stream(), self.patience)
        except ClientDisconnect:
            raise HTTPException(503, _LEFT) from None

        def search() -> Response:
            picture = decode_upload(body)
            found = self.gallery.search(picture, top_k, where, camera=camera)
            picture.thumbnail(_LARGEST_KEPT)
            token = self.queries.keep(RecentQuery(picture, found, camera))
            rankings = {"hits": hits_as_dicts(found.hits), "first_stage": hits_as_dicts(found.first_stage)}
            return JSONResponse({"query": token, "seconds": dict(found.seconds), **rankings})

        return await self._in_turn(request, search)

    async def thumbnail(self, request: Request) -> Response:
        _refuse_unknown(request, ("image",))
        found = await run_in_threadpool(self.gallery.thumbnail, request.query_params.get("image", ""))
        if found is None:
            raise HTTPException(404, "this image is not in the gallery")
        return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})

    async def explain(self, request: Request) -> Response:
        _refuse_unknown(request, ("query", "image", "figure"))
        asked = request.query_params
        figure = asked.get("figure", _FIGURES[0])
        if figure not in _FIGURES:
            raise HTTPException(400, f"Expected figure {' or '.join(_FIGURES)} (got {figure!r})")
        query = self.queries.get(asked.get("query", ""))
        hit = query.hit(asked.get("image", "")) if query else None
        if query is None or hit is None:
            raise HTTPException(404, "this search is over: search again")

        def explain() -> Response:
            if hit.image not in self.gallery:
                raise HTTPException(404, "this image is not in the gallery any more: search again")
            explanation = self.gallery.explain(query.picture, hit, query.camera)
            drawn = explanation.figure() if figure == "correspondences" else explanation.conditional_maps()
            return Response(_png(drawn), media_type="image/png")

        return await self._in_turn(request, explain)

    async def sightings(self, request: Request) -> Response:
        _refuse_unknown(request, ("person",))
        person = _whole(request, "person", 1, _LARGEST_NUMBER)

        def look() -> Response:
            with _told():
                found = self.people.sightings(person)
                others = self.people.resembling(person)
            pairs = [
                {"mine": sightings_as_dicts([mine])[0], "theirs": sightings_as_dicts([theirs])[0], "probability": sure}
                for mine, theirs, sure in others
            ]
            told = {"sightings": sightings_as_dicts(found), "resembling": pairs, "private": self.private}
            return JSONResponse({"person": person, **told})

        return await self._in_turn(request, look)

    async def correct(self, request: Request) -> Response:
        _refuse_other_sites(request)
        _refuse_unknown(request, ("a", "b", "same"))
        if not self.private:
            raise HTTPException(403, "corrections are off because other machines can reach this page")
        a, b, same = (request.query_params.get(name, "") for name in ("a", "b", "same"))
        if same not in ("yes", "no"):
            raise HTTPException(400, f"Expected same yes or no (got {same[:40]!r})")

        def say() -> Response:
            with _told():
                self.people.say(a, b, same == "yes")
                found = self.people.identify()
            now = {sighting.image: sighting.person for sighting in self.people.sightings()}
            return JSONResponse({"people": found.people, "changed": found.changed, "a": now[a], "b": now[b]})

        return await self._in_turn(request, say)

    async def _in_turn(self, request: Request, work: Callable[[], Response]) -> Response:
        """Run work in a thread, in order of arrival; skip it if the client has gone meanwhile."""
        async with self.turn:
            if await request.is_disconnected():
                raise HTTPException(503, _LEFT)
            return await run_in_threadpool(work)


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = files(__package__).joinpath(name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint


def _refuse_other_sites(request: Request) -> None:
    """Refuse requests from pages of other sites, which the browser would send."""
    headers = request.headers
    origin = headers.get("origin")
    same = origin is None or origin.split("://")[-1] == headers.get("host")
    if not same or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "this search came from another site")


def _refuse_unknown(request: Request, known: Sequence[str]) -> None:
    """Refuse unknown parameters: a misspelt filter would filter nothing."""
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise HTTPException(400, f"Expected the parameters {', '.join(known)} (got {unknown[0][:40]})")


def _whole(request: Request, name: str, default: int, most: int = _MOST_HITS) -> int:
    value = request.query_params.get(name, str(default))
    if not (value.isdecimal() and len(value) < 20 and 1 <= int(value) <= most):
        raise HTTPException(400, f"Expected {name} as a whole number from 1 to {most} (got {value[:40]!r})")
    return int(value)


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors about what was asked into an answer to the client."""
    try:
        yield
    except (ValueError, FileNotFoundError, IncompleteNeighboursError) as error:
        raise HTTPException(400, str(error)) from error


def _png(figure: Figure) -> bytes:
    rendered = io.BytesIO()
    figure.savefig(rendered, format="png", dpi=130, facecolor="white")
    return rendered.getvalue()


async def _error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", getattr(error, "status", 400))
    return JSONResponse({"error": getattr(error, "detail", str(error))}, status, getattr(error, "headers", None))


class RecentQuery(NamedTuple):
    """A picture, what was found for it, and the camera that took it if that is known."""

    picture: Image.Image
    found: SearchResult
    camera: str | None = None

    def hit(self, image: str) -> SearchHit | None:
        """The hit for an image; None if it was not found."""
        return next((hit for hit in (*self.found.hits, *self.found.first_stage) if hit.image == image), None)


class RecentQueries:
    """Keeps the last queries in memory, each behind a token that cannot be guessed; never on disk."""

    def __init__(self, most: int = 32):
        self._most = most
        self._queries: OrderedDict[str, RecentQuery] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, query: RecentQuery) -> str:
        """Keep a query and forget the oldest; returns its token."""
        token = secrets.token_urlsafe(16)
        with self._lock:
            self._queries[token] = query
            while len(self._queries) > self._most:
                self._queries.popitem(last=False)
        return token

    def get(self, token: str) -> RecentQuery | None:
        """The query of a token; None if it is unknown or forgotten."""
        with self._lock:
            return self._queries.get(token)


_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self' blob:; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class OneLineErrors:
    """Logs an unexpected error as one line; the client learns only that something went wrong."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_noted)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of LanceDB is not an Exception
            place = traceback.extract_tb(error.__traceback__)[-1]
            told = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_LINE]
            _LOG.error("%s failed: %s (%s, line %s)", scope.get("path"), told, place.filename, place.lineno)
            if started or scope["type"] != "http":
                raise
            answer = JSONResponse({"error": "something went wrong on the server; see its terminal"}, 500)
            await answer(scope, receive, send)


class SafeHeaders:
    """Headers so that the page loads nothing from other sites, is not framed by them, and is not cached by default."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, send_with_headers)
