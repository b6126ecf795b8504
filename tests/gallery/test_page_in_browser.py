"""The page, clicked through in a real browser."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime

import pytest

from cace_pyg.gallery.page import serve
from cace_pyg.search import main as search
from tests.forkserver import FORKSERVER
from tests.gallery.test_cameras import camera_of, filled, standardising  # noqa: F401
from tests.gallery.test_page_people import calibrated, gallery, identified  # noqa: F401
from tests.gallery.test_people import numbers, pair_of

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  document.getElementById("drop").dispatchEvent(
    new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        try:
            started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium (apt install chromium, or playwright install chromium): {error}"[:200])
        yield started
        started.close()


@contextmanager
def served(shown):
    """The address of a gallery's page."""
    listens, told = threading.Event(), []

    def ready(*server_and_address):
        told.extend(server_and_address)
        listens.set()

    thread = threading.Thread(target=serve, args=(shown, "127.0.0.1", 0, False, ready))
    thread.start()
    assert listens.wait(30)
    server, at = told
    try:
        yield at
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def address(shown_gallery):
    with served(shown_gallery) as at:
        yield at


@pytest.fixture
def page(browser, address):
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.wrong, page.asked = [], []
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(address)
    yield page
    assert not page.wrong
    assert all(url.startswith((address, "blob:")) for url in page.asked)
    context.close()


def images(page, ranking):
    page.wait_for_selector(f"#{ranking} .hit")
    return [hit.get_attribute("data-image") for hit in page.query_selector_all(f"#{ranking} .hit")]


def until(page, condition):
    """Wait until a condition holds; what it gave."""
    for _ in range(200):
        if found := condition():
            return found
        page.wait_for_timeout(100)
    raise AssertionError("waited 20 s in vain")


def shown(page, figure):
    """Wait until a figure is there; its width in pixels."""
    return until(page, lambda: page.evaluate("(id) => document.getElementById(id).naturalWidth", figure))


def test_a_dropped_picture_is_searched_and_explained(page, shown_gallery, splits):
    query = splits.query[0].path
    page.evaluate(DROP, [query.name, base64.b64encode(query.read_bytes()).decode()])
    found = shown_gallery.search(query, 10)
    assert images(page, "hits") == [hit.image for hit in found.hits]
    assert images(page, "first_stage") == [hit.image for hit in found.first_stage]
    assert "nearest, in" in page.inner_text("#status") and not page.is_visible("#query_camera")
    page.locator("#hits .hit").nth(2).click()
    assert found[2].path.name in page.inner_text("#why_title")
    assert shown(page, "correspondences") > 500 and shown(page, "conditional_maps") > 300
    assert f"{found[2].distance:.3f}" in page.inner_text("#facts")
    page.locator("#close").click()
    assert not page.is_visible("#why")


def test_the_keyboard_is_enough(page, splits):
    page.set_input_files("#picture", splits.query[1].path)
    hits = images(page, "hits")
    page.locator("#hits .hit").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#why[open]")
    assert page.inner_text("#why_title").startswith("2. ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#why_title").startswith("4. ")
    page.keyboard.press("ArrowLeft")
    shown(page, "conditional_maps")
    page.keyboard.press("Escape")
    assert not page.is_visible("#why")
    until(page, lambda: page.evaluate("() => document.activeElement.dataset.image") == hits[2])  # where it was left


def test_filters_narrow_the_answer_and_errors_are_told(page, splits):
    page.set_input_files("#picture", splits.query[0].path)
    cameras = {sample.path.name: sample.camid for sample in splits.gallery}

    def shown_cameras():
        return {cameras[image.split("/")[-1]] for image in images(page, "hits")}

    assert len(shown_cameras()) > 1
    page.select_option("#camera", "c2")
    until(page, lambda: shown_cameras() == {2})
    page.fill("#where", "nonsense =")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status.wrong")
    assert "cannot filter by" in page.inner_text("#status") and not page.is_visible("#answer")
    page.wrong.clear()  # Chromium itself notes the refusal
    page.fill("#where", "pid > 100000")
    page.locator("button[type=submit]").click()
    page.get_by_text("Nothing found").wait_for()


def test_the_line_between_likely_and_unlikely_is_dragged(page, splits):
    """Hits of ten probabilities, 95 % to 5 %; the shared gallery has no calibration, so its answer is rewritten."""

    def rated(route):
        answer = route.fetch()
        told = answer.json()
        for ranking in ("hits", "first_stage"):
            told[ranking] = [hit | {"probability": 0.95 - 0.1 * place} for place, hit in enumerate(told[ranking])]
        route.fulfill(response=answer, json=told)

    page.route("**/search?*", rated)
    page.set_input_files("#picture", splits.query[0].path)
    assert len(images(page, "hits")) == 10
    page.wait_for_selector("#line")
    assert "95.0 %" in page.inner_text("#hits") and "%" not in page.inner_text("#first_stage")  # it is of both stages

    def likely():
        before = page.evaluate(
            "() => [...document.querySelectorAll('#hits > li')].findIndex((li) => !li.querySelector('.hit'))"
        )
        assert page.locator("#hits .hit.unlikely").count() == 10 - before
        return before

    assert likely() == 5 and "50 %" in page.inner_text("#line") and "5 of 10 likely" in page.inner_text("#line_words")
    slider = page.locator("#likely")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert 75 < int(slider.input_value()) < 85 and likely() == 2
    slider.press("Home")
    assert page.locator(".divide").count() == 0
    slider.press("End")
    assert likely() == 0 and "Nobody here is likely" in page.inner_text("#line_words")
    assert "no proof of identity" in page.inner_text("#line_words")
    page.locator("#hits .hit").first.click()
    assert "95.0 %" in page.inner_text("#facts")


def test_without_a_calibration_there_is_no_line(page, splits):
    page.set_input_files("#picture", splits.query[0].path)
    images(page, "hits")
    assert not page.is_visible("#line") and page.locator(".divide").count() == 0
    assert "probability" not in page.inner_text("#hits")


def test_pictures_of_some_minutes(page, shown_gallery, splits):
    first, last = datetime(2026, 1, 31, 12, 5), datetime(2026, 1, 31, 12, 9)
    page.set_input_files("#picture", splits.query[0].path)
    images(page, "hits")
    page.fill("#from", f"{first:%Y-%m-%dT%H:%M:%S}")
    page.fill("#until", f"{last:%Y-%m-%dT%H:%M:%S}")
    page.locator("button[type=submit]").click()
    until(page, lambda: len(images(page, "hits")) == 5)
    found = shown_gallery.search(splits.query[0].path, len(splits.gallery))
    assert set(images(page, "hits")) == {hit.image for hit in found if first <= hit.time <= last}


def test_hits_that_are_skipped_ask_for_no_figure_and_a_refusal_is_shown_in_its_place(page, splits):
    page.set_input_files("#picture", splits.query[0].path)
    images(page, "hits")
    page.locator("#hits .hit").first.click()
    for _ in range(12):  # there are 10
        page.keyboard.press("ArrowRight")
    shown(page, "conditional_maps")
    assert page.inner_text("#why_title").startswith("10. ")
    assert page.evaluate("() => document.activeElement.id") == "close"
    assert len([url for url in page.asked if "figure=conditional_maps" in url]) <= 2
    page.route("**/explain?*", lambda route: route.fulfill(status=404, json={"error": "this search is over"}))
    page.keyboard.press("ArrowLeft")
    page.locator("#why .drawing.wrong").nth(1).wait_for()
    assert page.locator("#why .drawing.wrong").all_inner_texts() == ["this search is over"] * 2
    assert not page.is_visible("#correspondences")
    page.wrong.clear()  # Chromium itself notes the refusals


def test_it_fits_a_phone(page, splits):
    page.set_viewport_size({"width": 360, "height": 740})
    page.set_input_files("#picture", splits.query[0].path)
    images(page, "hits")
    width = "() => document.documentElement.scrollWidth"
    assert page.evaluate(width) <= 360
    page.locator("#hits .hit").first.click()
    shown(page, "conditional_maps")
    assert page.evaluate(width) <= 360
    assert page.evaluate("() => document.getElementById('why').scrollWidth") <= 360


def test_a_gallery_that_standardises_asks_which_camera_took_the_picture(browser, filled, splits):  # noqa: F811
    sample = splits.query[1]
    with served(filled) as at:
        page = browser.new_page()
        page.goto(at)
        page.wait_for_selector("#query_camera", state="visible")
        page.set_input_files("#picture", sample.path)
        unknown, expected = (
            [hit.image for hit in filled.search(sample.path, camera=camera)] for camera in (None, camera_of(sample))
        )
        assert images(page, "hits") == unknown != expected
        page.select_option("#query_camera", camera_of(sample))
        until(page, lambda: images(page, "hits") == expected)
        page.close()


def test_two_sightings_of_a_person_are_clicked_and_told_apart(browser, gallery):  # noqa: F811
    a, b = pair_of(gallery, same=True)
    with served(gallery) as at:
        page = browser.new_page()
        page.goto(f"{at}person?person={numbers(gallery)[a]}")
        for image in (a, b):
            page.locator(f'#cameras .hit[data-image="{image}"]').click()
        page.locator("#not_same").click()
        page.locator("#status", has_text="Stored.").wait_for(timeout=60_000)
        shown = [element.get_attribute("data-image") for element in page.query_selector_all("#cameras .hit")]
        page.close()
    found = numbers(gallery)
    assert found[a] != found[b] and set(shown) == {name for name in found if found[name] == found[a]}


def test_nobody_else_is_let_in_unasked(shown_gallery, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert search(["serve", "--gallery", str(shown_gallery.path), "--port", port]) == 2
    assert "choose another --port" in capsys.readouterr().err
    assert search(["serve", "--gallery", str(shown_gallery.path), "--port", "99999"]) == 2
    assert "from 0 to 65535" in capsys.readouterr().err


LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # elsewhere there is only one


def serve_forked(arguments, out, error):
    with out.open("w", buffering=1) as said, error.open("w") as wrong, redirect_stdout(said), redirect_stderr(wrong):
        sys.exit(search(arguments))


def test_any_loopback_address_answers_and_ctrl_c_ends_it(shown_gallery, tmp_path):
    arguments = ["serve", "--gallery", str(shown_gallery.path), "--host", LOOPBACK, "--port", "0"]
    run = FORKSERVER.Process(
        target=serve_forked, args=(arguments, out := tmp_path / "out", error := tmp_path / "error")
    )
    run.start()
    while not out.exists() or not (told := out.read_text()).endswith("\n"):
        assert run.is_alive()
        time.sleep(0.02)
    with urllib.request.urlopen(told.split()[2]) as answer:
        assert answer.status == 200
    os.kill(run.pid, signal.SIGINT)
    run.join(20)
    assert run.exitcode == 0 and "pictures: http://" in told
    assert "stopped" not in (wrong := error.read_text()) and "Traceback" not in wrong


def test_ctrl_c_twice_in_haste_ends_it_too(shown_gallery):
    """In a process of its own, since Python's own end of it takes part."""
    command = [sys.executable, "-m", "cace_pyg.search", "serve", "--gallery", shown_gallery.path, "--host", LOOPBACK]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        told = run.stdout.readline()
        with urllib.request.urlopen(told.split()[2]) as answer:
            assert answer.status == 200
        for _ in range(2):
            run.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert run.wait(20) == 0 and "pictures: http://" in told
        assert "stopped" not in (wrong := run.stderr.read()) and "Traceback" not in wrong
