"""The page on a port."""

import ipaddress
import socket
import sys
import webbrowser
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from cace_pyg.gallery.gallery import Gallery
from cace_pyg.gallery.page.app import gallery_page

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]", "::1")


def serve(
    gallery: Gallery,
    host: str = "127.0.0.1",
    port: int = 8000,
    browser: bool = False,
    ready: Callable[[uvicorn.Server, str], object] | None = None,
) -> None:
    """Answer until stopped by Ctrl-C.

    Args:
        gallery: what is searched.
        host: address to listen on; other than loopback, everybody who reaches it can search: there is no password.
        port: 0: any that is free.
        browser: open the page in the browser.
        ready: called with the server and its address when it listens.

    Raises:
        RuntimeError: the address cannot be listened on.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise RuntimeError(f"cannot listen on {host}, port {port}: {error}; choose another --port or --host") from error
    open_to_others = not _is_loopback(host)
    if open_to_others:
        print(
            f"warning: everybody who reaches {host} can search this gallery; there is no password and no encryption",
            file=sys.stderr,
        )
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    app = gallery_page(gallery, ["*"] if open_to_others else [*_LOOPBACK_NAMES, host])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    print(f"{len(gallery)} pictures: {address} (Ctrl-C stops)", flush=True)
    if browser:
        webbrowser.open(address)
    if ready:
        ready(server, address)
    with listening, suppress(KeyboardInterrupt):  # uvicorn has closed all when it passes the signal on
        server.run(sockets=[listening])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
