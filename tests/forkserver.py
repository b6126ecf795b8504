"""Processes that need not import torch: forked from one that has; and several of them as torchrun's ranks.

They compute on the CPU, whatever there is. What is compared with them has to do so too: ``--device cpu``.
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch

FORKSERVER = multiprocessing.get_context("forkserver")
# Not lancedb itself, whose threads a fork would lose.
FORKSERVER.set_forkserver_preload(
    ["tests.without_gpu", "cace_pyg.train", "cace_pyg.gallery", "pyarrow", "lance_namespace"]
)


def on_ranks(count: int, folder: Path, function: Callable, *arguments) -> str:
    """Call a function in so many processes with gloo between them, as under torchrun; what they printed, rank by rank.

    Args:
        count: of processes.
        folder: for what they print.
        function: of a module that the processes can import.
        *arguments: of the function.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    files = [folder / f"rank{rank}.txt" for rank in range(count)]
    ranks = [
        FORKSERVER.Process(target=_rank, args=(rank, count, port, file, function, arguments))
        for rank, file in enumerate(files)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        process.kill()
        process.join()
    printed = "".join(file.read_text() for file in files)
    codes = [process.exitcode for process in ranks]
    assert codes == [0] * count, f"exit statuses {codes}, {-signal.SIGKILL}: not ended within 120 s\n{printed[-3000:]}"
    return printed


def kill_at_work(function: Callable, arguments: tuple, ready: Path, seconds: float) -> None:
    """``kill -9`` a process that calls a function, so many seconds after it wrote into the file ``ready``."""
    process = FORKSERVER.Process(target=function, args=arguments)
    process.start()
    while not ready.exists() or not ready.read_text():
        assert process.is_alive()
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL  # it was at work


def _rank(rank: int, count: int, port: int, file: Path, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "tests"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    with file.open("w") as printed, redirect_stdout(printed), redirect_stderr(printed):
        sys.exit(function(*arguments))
