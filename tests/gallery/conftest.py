"""A model of random weights, and pictures to index."""

from datetime import datetime, timedelta

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
