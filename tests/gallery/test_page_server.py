"""The page on a real port: clients that are slow, that leave, and that send too much."""

import json
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from cace_pyg.gallery.page import serve
from cace_pyg.gallery.page.app import _MOST_SEARCHES

PATIENCE = 2  # s
UPLOAD = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def address(shown_gallery, capfd):
    ready, told = threading.Event(), []

    def listens(*server_and_address):
        told.extend(server_and_address)
        ready.set()

    asked = {"port": 0, "ready": listens, "patience": PATIENCE}
    thread = threading.Thread(target=serve, args=(shown_gallery,), kwargs=asked)
    thread.start()
    assert ready.wait(30)
    server, at = told
    capfd.readouterr()
    yield urlsplit(at)
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


def answer(address, method, path, body=None):
    connection = HTTPConnection(address.hostname, address.port, timeout=30)
    connection.request(method, path, body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


def connected(address):
    return socket.create_connection((address.hostname, address.port), timeout=30)


def all_that_comes(connection):
    """Until the server closes it."""
    came = b""
    try:
        while part := connection.recv(65536):
            came += part
    except ConnectionResetError:
        pass
    return came


def sends_now_and_then(connection, word):
    try:
        while True:
            connection.sendall(word)
            time.sleep(0.1)
    except OSError:
        pass


def test_300_slow_uploads_end_and_the_page_answers_meanwhile(address, pictures, capfd):
    with ExitStack() as stack:
        started = time.monotonic()
        slow = []
        for _ in range(300):
            slow.append(stack.enter_context(connected(address)))
            slow[-1].sendall(UPLOAD + b"abc")
        assert answer(address, "GET", "/stats")[0] == 200
        came = [all_that_comes(connection) for connection in slow]
        assert time.monotonic() - started < 10
    late, refused = (
        [response for response in came if b" 408 " in response],
        [response for response in came if b" 503 " in response],
    )
    assert len(late) + len(refused) == 300 and _MOST_SEARCHES <= len(late) < 100  # more where connecting takes long
    assert all(
        b'{"error":"Expected the whole picture within 2 s (got 3 bytes by then)' in response for response in late
    )
    assert all(b'{"error":"16 searches are under way; try again in a moment"}' in response for response in refused)
    assert answer(address, "POST", "/search", pictures[0].read_bytes())[0] == 200
    assert "Traceback" not in capfd.readouterr().err


INCOMPLETE = {  # what is sent at once, and what is sent again and again
    "nothing": (b"", b""),
    "half a line": (b"GET / HT", b""),
    "headers in drops": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-Drop: 1\r\n"),
    "a body nobody reads": (b"POST /stats HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", b"a"),
    "one request": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    "the next in drops": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET"),
}


def test_connections_without_a_whole_request_are_closed(address):
    def seconds_until_closed(start, word):
        with connected(address) as connection:
            started = time.monotonic()
            connection.sendall(start)
            sender = threading.Thread(target=sends_now_and_then, args=(connection, word)) if word else None
            if sender:
                sender.start()
            all_that_comes(connection)
            seconds = time.monotonic() - started
            if sender:
                sender.join(5)
            return seconds

    with ThreadPoolExecutor(len(INCOMPLETE)) as pool:
        open_for = dict(
            zip(INCOMPLETE, pool.map(lambda sent: seconds_until_closed(*sent), INCOMPLETE.values()), strict=True)
        )
    assert {name: seconds for name, seconds in open_for.items() if seconds >= PATIENCE + 1.5} == {}


def test_one_connection_serves_many_requests(address):
    connection = HTTPConnection(address.hostname, address.port, timeout=30)
    for pause in (0.0, 1.2, 1.2, 0.0):  # longer than the patience with one that waits
        time.sleep(pause)
        connection.request("GET", "/stats")
        assert json.loads(connection.getresponse().read())["images"]
    connection.close()


def test_a_client_that_disconnects_prints_nothing(address, capfd, pictures):
    for left in (b"", b"abc"):
        with connected(address) as connection:
            connection.sendall(UPLOAD + left)
            time.sleep(0.2)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.3)
    assert answer(address, "POST", "/search", pictures[0].read_bytes())[0] == 200
    assert capfd.readouterr().err == ""


def test_who_sends_far_too_much_is_told_so(address):
    status, content = answer(address, "POST", "/search", bytes(50_000_000))
    assert status == 413 and "at most 10 MiB" in json.loads(content)["error"]


def test_an_error_is_one_line_on_the_terminal(address, shown_gallery, monkeypatch, caplog, capfd):
    def broken():
        raise RuntimeError("a row is damaged")

    monkeypatch.setattr(shown_gallery, "stats", broken)
    status, content = answer(address, "GET", "/stats")
    assert status == 500 and list(json.loads(content)) == ["error"]
    (line,) = caplog.messages
    assert line.startswith("/stats failed: RuntimeError: a row is damaged (") and capfd.readouterr().err == ""
