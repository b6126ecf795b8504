"""Small graphs, a tiny data set and one trained run, which many tests share.

Slow imports are inside the functions that need them, because pytest-xdist's first process reads this file but runs no
test.
"""

import gc
import os
from contextlib import redirect_stdout
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir
from types import SimpleNamespace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from filelock import FileLock

from tests import fake_trees

if TYPE_CHECKING:
    import torch


_RUN = pytest.StashKey[str]()
LONG = (
    "test_writers.py", "test_in_interpreter.py", "test_killed.py", "test_tutorial.py", "test_damaged.py",
    "test_docs.py", "test_release.py",
)  # fmt: skip


def pytest_configure(config):
    config.stash[_RUN] = getattr(config, "workerinput", {}).get("trees", uuid4().hex)
    gc.disable()  # until the tests are imported: a fifth of that time


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["trees"] = node.config.stash[_RUN]


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):  # the last process
        rmtree(_trees(config), ignore_errors=True)


def _trees(config):
    """The folder of public_tree: in memory if possible, because 235,000 names can take a minute on a disk."""
    memory = Path("/dev/shm")
    return (memory if os.access(memory, os.W_OK) else Path(gettempdir())) / f"cace_pyg_{config.stash[_RUN]}"


def pytest_collection_modifyitems(items):
    """Put files with slow tests first, so that no worker is busy alone at the end, and what waits for Ray last."""
    items.sort(key=lambda item: (item.path.name not in LONG) + 2 * ("begin_on_ray" in item.fixturenames))


def pytest_collection_finish():
    """Keep the garbage collector from looking through imported modules, which took a quarter of an export's time."""
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # after freeze() the usual numbers would make it look through everything again


@pytest.fixture(autouse=True, scope="session")
def whole_float32():
    """Switch off TF32: its 10 bits of mantissa, the default for convolutions on a GPU, are too few for comparisons."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(autouse=True)
def seeded():
    """Make every test draw the same numbers, whether it runs alone or with others."""
    import torch

    torch.manual_seed(0)


def soft_adjacency(pairs: int, nodes: int, isolated: int = 2, self_loops: bool = True) -> "torch.Tensor":
    """Symmetric, weighted, about half of the entries not zero; the first ``isolated`` nodes have no edge; float64."""
    import torch

    upper = torch.rand(pairs, nodes, nodes, dtype=torch.float64)
    upper = upper * (torch.rand(pairs, nodes, nodes) < 0.5)
    adjacency = upper + upper.mT
    if not self_loops:
        adjacency.diagonal(dim1=1, dim2=2).zero_()
    adjacency[:, :isolated] = 0
    adjacency[:, :, :isolated] = 0
    return adjacency


@pytest.fixture
def make_adjacency():
    return soft_adjacency


@pytest.fixture
def report(request, monkeypatch):
    """Draw a report only for tests marked ``report``, with one query, because it takes longer than a test's run."""
    from cace_pyg.experiment import run as experiment
    from cace_pyg.explain import run_report

    if request.node.get_closest_marker("report") is None:
        monkeypatch.setattr(experiment, "report_run", lambda *_: None)
    else:
        choose = run_report.choose_queries
        monkeypatch.setattr(run_report, "choose_queries", lambda evaluation: choose(evaluation)[:1])


@pytest.fixture(scope="session")
def make_once(tmp_path_factory, worker_id):
    """``make_once(name, make)`` returns a folder that ``make(folder)`` has filled, once for all workers."""
    own = tmp_path_factory.getbasetemp()
    top = own if worker_id == "master" else own.parent

    def once(name, make):
        folder, done = top / name, top / f"{name}.done"
        with FileLock(top / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def tiny(make_once):
    """12 + 6 rendered identities of 48×24 pixels."""
    from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic

    settings = SyntheticSettings(
        train_identities=12, test_identities=6, images_per_identity=6, cameras=4, distractors=4, junk=4,
        height=48, width=24,
    )  # fmt: skip
    return make_once("tiny", lambda folder: make_synthetic(folder, settings, progress=False))


@pytest.fixture(scope="session")
def public_tree(make_once, request):
    """``public_tree(name)`` returns a tree of a public data set in its full size, below a folder of its own."""
    trees = _trees(request.config)
    places = {
        "market1501": ("renamed_c9", fake_trees.market),
        "dukemtmc": ("any name", fake_trees.duke),
        "occluded_duke": ("occluded", fake_trees.occluded_duke),
        "msmt17": ("first", fake_trees.msmt17),
    }

    def tree(name):
        called, make = places[name]
        make_once(name, lambda _: make(trees / name / called))
        return trees / name / called

    return tree


def run_options(root, run_dir):
    """Dotted options of a run with both phases."""
    chosen = {
        "data.root": root, "data.height": 48, "data.width": 24, "data.workers": 0, "data.hold_out": 0.3,
        "run_dir": run_dir, "threads": 1, "backbone.name": "small_cnn", "embedding.channels": 16,
        "joint_phase.num_identities": 4, "joint_phase.num_instances": 4,
        "joint_phase.epochs": 2, "joint_phase.batches_per_epoch": 4, "joint_phase.warmup_epochs": 1,
        "joint_phase.learning_rate": 0.01, "validate_every": 1,
        "pair_phase.epochs": 2, "pair_phase.batches_per_epoch": 4,
        "pair_phase.anchors": 6, "pair_phase.clue_dropout": 0.3, "pair_phase.mirror": 0.5, "evaluation.top_k": 10,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in chosen.items()]


@pytest.fixture
def options(tiny, tmp_path, report):
    """Dotted options of a run with both phases into ``tmp_path / "run"``."""
    return run_options(tiny, tmp_path / "run")


@pytest.fixture(scope="session")
def exported(tiny, make_once):
    """A checkpoint with random weights, and the folder of ONNX files that the README's command made from it."""
    from tests.random_checkpoint import make_checkpoint
    from tests.run_module import run_module

    def make(folder):
        checkpoint = make_checkpoint(folder / "checkpoints" / "best.ckpt", tiny)
        assert run_module("cace_pyg.export", "--checkpoint", str(checkpoint)) == 0

    folder = make_once("exported", make)
    return folder / "checkpoints" / "best.ckpt", folder / "onnx"


@pytest.fixture(scope="session")
def trained(tiny, make_once):
    """A finished run: its folder, its best checkpoint, and what it printed. Do not write into the folder."""
    from cace_pyg.train import main as train

    def make(folder):
        with (folder.parent / "printed.txt").open("w") as file, redirect_stdout(file):
            assert train(run_options(tiny, folder)) == 0

    folder = make_once("trained", make)
    return SimpleNamespace(
        folder=folder, best=folder / "checkpoints" / "best.ckpt", printed=(folder.parent / "printed.txt").read_text()
    )
