"""What the page's server answers, and what it refuses."""

import asyncio
import io
import tempfile
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cace_pyg.gallery.page import gallery_page
from cace_pyg.gallery.page.app import RecentQueries, RecentQuery
from cace_pyg.gallery.page.upload import MOST_BYTES
from cace_pyg.gallery.search_result import SearchResult


@pytest.fixture
def client(shown_gallery):
    return TestClient(gallery_page(shown_gallery, ["testserver"]))


@pytest.fixture
def query(splits):
    return splits.query[0].path


def encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def test_a_search_gives_both_rankings_as_python_does(client, shown_gallery, query, splits):
    answer = client.post("/search", params={"top_k": 7}, content=query.read_bytes()).json()
    found = shown_gallery.search(query, 7)
    assert [hit["image"] for hit in answer["hits"]] == [hit.image for hit in found.hits]
    assert [hit["image"] for hit in answer["first_stage"]] == [hit.image for hit in found.first_stage]
    assert [hit["distance"] for hit in answer["hits"]] == pytest.approx([hit.distance for hit in found.hits])
    assert answer["hits"][0]["metadata"]["pid"] in {sample.pid for sample in splits.gallery}
    filtered = client.post("/search", params={"where": "camera = 'c1'"}, content=query.read_bytes()).json()
    assert filtered["hits"] and {hit["camera"] for hit in filtered["hits"]} == {"c1"}
    assert client.post("/search", params={"where": "pid = 12345"}, content=query.read_bytes()).json()["hits"] == []


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pictures_of_three_kinds_whatever_their_name(client, query, kind):
    assert client.post("/search", content=encoded(Image.open(query), kind)).status_code == 200


def test_a_hit_is_explained_by_both_figures(client, query):
    answer = client.post("/search", content=query.read_bytes()).json()
    image = answer["hits"][1]["image"]
    thumbnail = client.get("/thumbnail", params={"image": image})
    assert Image.open(io.BytesIO(thumbnail.content)).format == "JPEG"
    figures = []
    for figure in ("correspondences", "conditional_maps"):
        drawn = client.get("/explain", params={"query": answer["query"], "image": image, "figure": figure})
        assert drawn.headers["content-type"] == "image/png"
        figures.append(np.asarray(Image.open(io.BytesIO(drawn.content)).convert("RGB")))
    assert all(min(figure.shape[:2]) > 200 and figure.std() > 10 for figure in figures)


def test_what_cannot_be_asked(client, shown_gallery, query):
    token = client.post("/search", params={"top_k": 1}, content=query.read_bytes()).json()["query"]
    known = client.post("/search", content=query.read_bytes()).json()["hits"][5]["image"]
    for path, asked, status in (
        ("/thumbnail", {"image": "/etc/passwd"}, 404),
        ("/thumbnail", {"image": "x' OR '1' = '1"}, 404),
        ("/thumbnail", {}, 404),
        ("/explain", {"query": "guessed", "image": known}, 404),
        ("/explain", {"query": token, "image": "/etc/passwd"}, 404),
        ("/explain", {"query": token, "image": known, "figure": "../page"}, 400),
        ("/../app.py", {}, 404),
        ("/search", {}, 405),
    ):
        found = client.get(path, params=asked)
        assert found.status_code == status and found.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (lambda: b"", 422, "got nothing"),
        (lambda: b"GIF89a" + bytes(99), 415, "JPEG, PNG or WebP"),
        (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "JPEG, PNG or WebP"),
        (lambda: bytes(MOST_BYTES + 1), 413, "at most 10 MiB"),
        (lambda: encoded(Image.new("L", (7000, 6000)), "PNG"), 413, "at most 40 megapixels"),
        (lambda: encoded(Image.new("1", (9500, 9500)), "PNG"), 413, "at most 40 megapixels"),
        (
            lambda: encoded(Image.new("1", (20_000, 20_000)), "PNG"),
            413,
            "at most 40 megapixels",
        ),  # Pillow opens none such
        (lambda: encoded(Image.effect_noise((80, 90), 50), "JPEG")[:-900], 422, "expected a whole file"),
        (lambda: encoded(Image.effect_noise((80, 90), 50), "PNG")[:600], 422, "expected a whole file"),
    ],
    ids=["empty", "gif", "svg", "bytes", "pixels", "more", "bomb", "jpeg", "png"],
)
def test_uploads_are_checked(client, body, status, words):
    answer = client.post("/search", content=body())
    assert answer.status_code == status and words in answer.json()["error"]


def test_other_refusals_say_why(client, query):
    picture = query.read_bytes()
    for asked, headers, status, words in (
        ({"where": "nonsense ="}, {}, 400, "cannot filter by"),
        ({"top_k": "0"}, {}, 400, "from 1 to 100"),
        ({"top_k": "many"}, {}, 400, "got 'many'"),
        ({}, {"origin": "http://elsewhere.example"}, 403, "another site"),
        ({}, {"sec-fetch-site": "cross-site"}, 403, "another site"),
    ):
        answer = client.post("/search", params=asked, content=picture, headers=headers)
        assert answer.status_code == status and words in answer.json()["error"]
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 400
    same = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
    assert client.post("/search", content=picture, headers=same).status_code == 200


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, OSError, BaseException])
@pytest.mark.parametrize("path", ["/search", "/stats"])
def test_an_error_of_the_server_tells_the_client_nothing_and_the_log_one_line(
    client, shown_gallery, query, monkeypatch, caplog, kind, path
):
    def broken(*_, **__):
        raise kind("the file /secret/rows.lance\nis damaged")

    monkeypatch.setattr(shown_gallery, path[1:], broken)
    answer = client.post(path, content=query.read_bytes()) if path == "/search" else client.get(path)
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong on the server; see its terminal"}
    assert answer.headers["content-security-policy"]
    (line,) = caplog.messages
    told = f"{path} failed: {kind.__name__}: the file /secret/rows.lance is damaged ("
    assert line.startswith(told) and "test_page_routes.py, line" in line


def test_an_image_that_is_gone_since_the_search_is_not_explained(client, shown_gallery, query, monkeypatch):
    answer = client.post("/search", content=query.read_bytes()).json()
    monkeypatch.setattr(type(shown_gallery), "__contains__", lambda *_: False)
    asked = {"query": answer["query"], "image": answer["hits"][0]["image"]}
    found = client.get("/explain", params=asked)
    assert found.status_code == 404 and "not in the gallery any more: search again" in found.json()["error"]


def test_a_method_that_a_route_does_not_take_is_told_which_it_takes(client):
    assert client.get("/search").headers["allow"] == "POST"


def test_nothing_is_loaded_from_elsewhere_and_nothing_cached(client, query):
    for path in ("/", "/page.css", "/elements.js", "/page.js", "/icon.svg"):
        found = client.get(path)
        assert found.status_code == 200 and found.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in found.headers["content-security-policy"]
        assert found.headers["x-content-type-options"] == "nosniff"
        links = found.text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in links and "innerHTML" not in links and "<script>" not in links


def test_a_query_leaves_no_file_behind(client, shown_gallery, query, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in Path(shown_gallery.path).rglob("*")}
    answer = client.post("/search", content=query.read_bytes()).json()
    client.get("/explain", params={"query": answer["query"], "image": answer["hits"][0]["image"]})
    assert before == {path: path.stat().st_mtime_ns for path in Path(shown_gallery.path).rglob("*")}
    assert not list(tmp_path.iterdir())


def test_a_large_picture_is_searched_as_it_is_and_kept_small(client, shown_gallery, query, monkeypatch):
    kept = []
    monkeypatch.setattr(RecentQueries, "keep", lambda self, query: kept.append(query) or "token")
    large = Image.open(query).resize((1300, 2600))
    answer = client.post("/search", content=encoded(large, "PNG")).json()
    expected = [hit.distance for hit in shown_gallery.search(large)]
    assert [hit["distance"] for hit in answer["hits"]] == pytest.approx(expected)
    assert kept[0].picture.size == (512, 1024)


def test_nothing_is_drawn_for_who_has_gone(client, shown_gallery, query, monkeypatch):
    answer = client.post("/search", content=query.read_bytes()).json()
    monkeypatch.setattr(shown_gallery, "explain", lambda *_: pytest.fail("drawn in vain"))
    asked = urlencode({"query": answer["query"], "image": answer["hits"][0]["image"]}).encode()
    headers = [(b"host", b"testserver")]
    scope = {"type": "http", "method": "GET", "path": "/explain", "query_string": asked, "headers": headers}
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 503


def test_stats_tell_what_the_filters_need(client, shown_gallery, splits):
    told = client.get("/stats").json()
    assert told["images"] == len(splits.gallery) and sum(told["cameras"].values()) == told["images"]
    assert told["times"][0] == "2026-01-31T12:00:00" and told["metadata"] == {"pid": "int64"} and told["private"]
    open_to_all = TestClient(gallery_page(shown_gallery, ["*"]), base_url="http://gallery.example")
    assert not open_to_all.get("/stats").json()["private"]


def test_only_the_last_queries_are_remembered():
    queries = RecentQueries(most=2)
    tokens = [queries.keep(RecentQuery(Image.new("L", (1, 1)), SearchResult((), (), {}))) for _ in range(3)]
    assert len(set(tokens)) == 3
    assert [queries.get(token) is None for token in tokens] == [True, False, False]
