"""A model of random weights, and pictures to index."""

import importlib.util
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cace_pyg import Gallery
from cace_pyg.data.market_layout import read_market_layout
from tests.random_checkpoint import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tiny, tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model") / "best.ckpt", tiny)


@pytest.fixture(scope="session")
def splits(tiny):
    return read_market_layout(tiny)


@pytest.fixture(scope="session")
def pictures(splits):
    """The gallery's files: more than the second stage looks at."""
    return [sample.path for sample in splits.gallery]


@pytest.fixture(scope="session")
def shown_gallery(checkpoint, splits, tmp_path_factory):
    """A gallery that no test changes; a picture a minute, from noon on."""
    made = Gallery.create(tmp_path_factory.mktemp("shown") / "people.lance", checkpoint)
    cameras = [f"c{sample.camid}" for sample in splits.gallery]
    taken = [datetime(2026, 1, 31, 12) + timedelta(minutes=i) for i in range(len(cameras))]
    pids = [{"pid": sample.pid} for sample in splits.gallery]
    made.add([sample.path for sample in splits.gallery], cameras, taken, pids)
    return made


@pytest.fixture(scope="session")
def begin_on_ray(checkpoint, pictures, tmp_path_factory, worker_id):
    """A function that begins :func:`tests.gallery.killed_on_ray.killed_on_ray`, once for all workers: its folder."""
    from tests.forkserver import FORKSERVER
    from tests.gallery.killed_on_ray import killed_on_ray

    own, begun = tmp_path_factory.getbasetemp(), []
    folder = (own if worker_id == "master" else own.parent) / "on_ray"

    def begin():
        with suppress(FileExistsError):
            folder.mkdir()
            begun.append(FORKSERVER.Process(target=killed_on_ray, args=(folder, checkpoint, pictures)))
            begun[0].start()
        return folder

    yield begin
    for process in begun:
        process.join(240)  # another worker may wait for it
        process.kill()


@pytest.fixture
def ray_runs_meanwhile(request):
    """Begin it early, if the test that needs it is among those to run, which comes last, and is not skipped."""
    wanted = any("begin_on_ray" in item.fixturenames for item in request.session.items)
    if wanted and importlib.util.find_spec("ray") and Path("/proc/self/fd").exists():
        request.getfixturevalue("begin_on_ray")()
