"""The command that indexes on Ray, one of whose workers is killed: most of a minute, and most of that is waiting."""

import json
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow.parquet

from cace_pyg import Gallery
from cace_pyg.search import main as search

ENDED, FAILED = "ended.json", "failed.txt"


class Ended(NamedTuple):
    """The arguments of ``index`` without its gallery, the gallery, and how the command ended."""

    index: list[str]
    gallery: str
    status: int
    printed: str
    errors: str


def killed_on_ray(folder, checkpoint, pictures):
    """Write into the folder how the command ended, or why it could not be watched."""
    try:
        ended = _killed_on_ray(folder, checkpoint, pictures)
    except BaseException:
        (folder / FAILED).write_text(traceback.format_exc())
        raise
    (folder / "ending").write_text(json.dumps(ended))
    (folder / "ending").replace(folder / ENDED)


def _killed_on_ray(folder, checkpoint, pictures):
    """580 pictures, one of them unreadable; the worker is killed where it waits for the last one."""
    named = []
    for number in range(580):
        named.append(folder / "crops" / f"{number:03d}.jpg")
        named[-1].parent.mkdir(exist_ok=True)
        shutil.copy(pictures[number % len(pictures)], named[-1])
    named[100].write_bytes(b"no picture")
    pipe = named[-1].resolve()
    pipe.unlink()
    os.mkfifo(pipe)
    told = [
        {
            "path": f"crops/{path.name}", "camera": str(number % 4) if number % 4 else None, "size": number / 7,
            "time": datetime(2026, 1, 31, 12, number % 60, 0, 250_000), "floor": number % 3 or None,
            "left": datetime(2026, 2, 1, 12, number % 60) if number % 5 else None,
        }
        for number, path in enumerate(named)
    ]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(told), folder / "table.parquet")
    index = ["index", str(folder / "table.parquet"), "--checkpoint", str(checkpoint), "--device", "cpu"]
    gallery, out, error = (folder / name for name in ("ray.lance", "out.txt", "error.txt"))
    arguments = [*index, "--gallery", str(gallery), "--ray", "--workers=2"]
    run = multiprocessing.get_context("fork").Process(target=_command, args=(arguments, out, error))
    run.start()
    descriptor = _wait_for(lambda: _open_to_write(pipe), run)
    victim = _wait_for(lambda: _reader_of(pipe, psutil.Process(run.pid).children(recursive=True)), run)
    assert str(named[-70].absolute()) in Gallery.open(gallery).stamps()  # of the same task
    victim.kill()
    shutil.copy(pictures[0], folder / "whole.jpg")
    os.replace(folder / "whole.jpg", pipe)
    os.close(descriptor)
    run.join(180)
    return Ended(index, str(gallery), run.exitcode, out.read_text(), error.read_text())


def _command(arguments, out, error):
    for stream, path in ((1, out), (2, error)):  # also what is printed by Ray's own libraries
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    # with Ray's own 15, its workers would wait for minutes beside other tests
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    sys.exit(search(arguments))


def _wait_for(condition, process, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.is_alive():
        if found := condition():
            return found
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the command ended, or nothing happened for minutes: see out.txt and error.txt beside this")


def _open_to_write(pipe):
    """Its descriptor; none while nobody reads."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _reader_of(pipe, processes):
    """Who reads from a named pipe."""
    for process in processes:
        links = [path for path in Path(f"/proc/{process.pid}/fd").glob("*") if path.is_symlink()]
        if any(os.path.realpath(link) == str(pipe) for link in links):
            return process
    return None
