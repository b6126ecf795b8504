"""The page of a person: what it shows, and what can be said on it."""

import shutil
from datetime import datetime, timedelta

import pytest
from starlette.testclient import TestClient

from cace_pyg import Gallery
from cace_pyg.gallery.page import gallery_page
from cace_pyg.gallery.people import People
from tests.gallery.test_people import calibrated, numbers, pair_of  # noqa: F401

NOON = datetime(2026, 1, 31, 12)


@pytest.fixture(scope="module")
def identified(calibrated, splits, tmp_path_factory):  # noqa: F811
    gallery = Gallery.create(tmp_path_factory.mktemp("identified") / "people.lance", calibrated)
    cameras = [f"c{sample.camid}" for sample in splits.gallery]
    gallery.add(
        [sample.path for sample in splits.gallery], cameras, [NOON + timedelta(minutes=i) for i in range(len(cameras))]
    )
    People(gallery).identify()
    return gallery


@pytest.fixture
def gallery(identified, tmp_path):
    return Gallery.open(shutil.copytree(identified.path, tmp_path / "people.lance"))


@pytest.fixture
def client(gallery):
    return TestClient(gallery_page(gallery, ["testserver"]))


def test_the_sightings_of_a_person_as_python_has_them(client, gallery):
    people = People(gallery)
    person = max(numbers(gallery).values(), key=list(numbers(gallery).values()).count)
    found = client.get("/sightings", params={"person": person}).json()
    expected = people.sightings(person)
    assert [sighting["image"] for sighting in found["sightings"]] == [sighting.image for sighting in expected]
    assert [sighting["time"] for sighting in found["sightings"]] == [sighting.time.isoformat() for sighting in expected]
    assert [pair["theirs"]["person"] for pair in found["resembling"]] == [
        theirs.person for _, theirs, _ in people.resembling(person)
    ]
    page = client.get("/person", params={"person": person})
    assert page.status_code == 200 and "person.js" in page.text
    assert client.get("/person.js").headers["content-type"].startswith("text/javascript")


def test_what_is_said_is_kept_and_obeyed(client, gallery):
    a, b = pair_of(gallery, same=True)
    answer = client.post("/correct", params={"a": a, "b": b, "same": "no"})
    assert answer.status_code == 200 and answer.json()["a"] != answer.json()["b"]
    assert numbers(gallery)[a] == answer.json()["a"] and numbers(gallery)[b] == answer.json()["b"]
    (said,) = People(gallery).corrections.read()
    assert not said.same and {said.image_a, said.image_b} == {a, b}
    answer = client.post("/correct", params={"a": b, "b": a, "same": "yes"}).json()
    assert answer["a"] == answer["b"] == numbers(gallery)[a]


def test_what_cannot_be_said_is_refused_with_a_reason(client, gallery):
    a, b = pair_of(gallery, same=False)
    before = numbers(gallery)
    for asked, headers, status, words in (
        ({"a": a, "b": b, "same": "perhaps"}, {}, 400, "Expected same yes or no"),
        ({"a": a, "b": a, "same": "yes"}, {}, 400, "Expected two pictures"),
        ({"a": a, "b": "/etc/passwd", "same": "yes"}, {}, 400, "which is not"),
        ({"a": a, "b": b, "same": "yes"}, {"origin": "http://elsewhere.example"}, 403, "another site"),
        ({"a": a, "b": b, "same": "yes", "c": "1"}, {}, 400, "Expected the parameters"),
    ):
        answer = client.post("/correct", params=asked, headers=headers)
        assert answer.status_code == status and words in answer.json()["error"]
    for person, words in (("999", "Expected a person"), ("0", "whole number"), ("x", "whole number")):
        answer = client.get("/sightings", params={"person": person})
        assert answer.status_code == 400 and words in answer.json()["error"]
    assert client.get("/correct").status_code == 405
    everybody = TestClient(gallery_page(gallery, ["*"]))
    answer = everybody.post("/correct", params={"a": a, "b": b, "same": "yes"})
    assert answer.status_code == 403 and "other machines can reach this page" in answer.json()["error"]
    assert numbers(gallery) == before and People(gallery).corrections.read() == ()


def test_a_gallery_that_nobody_identified_says_so(shown_gallery):
    answer = TestClient(gallery_page(shown_gallery, ["testserver"])).get("/sightings", params={"person": 1})
    assert answer.status_code == 400 and "nobody is identified yet" in answer.json()["error"]
