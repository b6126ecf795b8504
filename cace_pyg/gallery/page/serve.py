"""Serves the page on a port."""

import asyncio
import ipaddress
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.page.app import gallery_page

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")
_MOST_CONNECTIONS = 512


def serve(
    gallery: Gallery,
    host: str = "127.0.0.1",
    port: int = 8000,
    browser: bool = False,
    ready: Callable[[uvicorn.Server, str], object] | None = None,
    patience: int = 30,
) -> None:
    """Answer until stopped by Ctrl-C.

    Args:
        gallery: what is searched.
        host: address to listen on. Unless it is loopback, everybody who can reach it can search: there is no password.
        port: 0: any free port.
        browser: open the page in the browser.
        ready: called with the server and its address once it listens.
        patience: seconds within which a client must send its next request, send the whole picture, and take the answer;
            otherwise the connection is closed.

    Raises:
        RuntimeError: it cannot listen on the address.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RuntimeError(f"cannot listen on {host}, port {port}: {error}; choose another --port or --host") from error
    open_to_others = not _is_loopback(host)
    if open_to_others:
        print(
            f"warning: everybody who can reach {host} can search this gallery; there is no password and no encryption",
            file=sys.stderr,
        )
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    app = gallery_page(gallery, ["*"] if open_to_others else [*_LOOPBACK_NAMES, host], patience)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",  # not needed, and a second Ctrl-C would print its traceback
        log_level="warning",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=patience,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    print(f"{len(gallery)} pictures: {address} (Ctrl-C stops)", flush=True)
    if browser:
        webbrowser.open(address)
    if ready:
        ready(server, address)
    with listening, suppress(KeyboardInterrupt):  # uvicorn has closed everything when it passes on the signal
        server.run(sockets=[listening])


class _Protocol(H11Protocol):
    """uvicorn's HTTP protocol with a time limit for each request that starts with the connection.

    uvicorn's own limit starts after the first answer and ends with the next byte: a client that sends nothing, or a
    header now and then, would stay for ever.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:  # else the next request has arrived already
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
