"""Training on several processes: the same as on one, written once, and it survives the death of one."""

import csv
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch.distributed.elastic.multiprocessing.api import MultiprocessContext
from torch.distributed.run import main as torchrun

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.sample import Splits
from cace_pyg.engine import training
from cace_pyg.engine.build import build_model
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.launch_fabric import synchronise_batch_norm
from cace_pyg.engine.ranks import Ranks
from cace_pyg.engine.training import Trainer, TrainingStep
from cace_pyg.experiment import run as experiment
from cace_pyg.train import main as train
from tests.engine.on_ranks import gradients, weights
from tests.engine.on_ranks import train as train_on_ranks
from tests.forkserver import on_ranks

ACROSS = ["--joint_phase.pairs_across_ranks=true", "--loss.pairwise_weight=1", "--joint_phase.detach_clues=false"]


def configured(arguments):
    parser = config_parser("train", "")
    return config_of(parse(parser, arguments), parser)


def trained_weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["model"]


@pytest.fixture(scope="module")
def undisturbed(tiny, make_once):
    """A run on two ranks: its folder and what it printed."""

    def make(folder):
        folder.mkdir()
        (folder / "printed.txt").write_text(on_ranks(2, folder, train_on_ranks, options_of(tiny, folder / "run")))

    folder = make_once("undisturbed", make)
    return folder / "run", (folder / "printed.txt").read_text()


def options_of(tiny, folder):
    chosen = {
        "config": "configs/synthetic.yaml", "data.root": tiny, "data.height": 48, "data.width": 24, "data.workers": 0,
        "data.hold_out": 0.3, "run_dir": folder, "threads": 1, "device": "cpu", "embedding.channels": 16,
        "joint_phase.num_identities": 4, "joint_phase.num_instances": 4, "joint_phase.epochs": 3,
        "joint_phase.batches_per_epoch": 6, "validate_every": 1,
        "pair_phase.epochs": 2, "pair_phase.batches_per_epoch": 2, "pair_phase.anchors": 6, "evaluation.top_k": 10,
    }  # fmt: skip
    return [f"--{name}={value}" for name, value in chosen.items()]


@pytest.mark.parametrize(
    ("changed", "alone"), [(ACROSS, []), (ACROSS[1:], ["--joint_phase.accumulate=2"])], ids=["across", "own"]
)
def test_two_ranks_have_the_loss_and_the_gradients_of_one(options, tmp_path, changed, alone):
    """Either pairs are those of the whole batch, or each rank's are those of its half, as in two passes of one."""
    arguments = [*options, *changed]
    on_ranks(2, tmp_path, gradients, tmp_path / "two.pt", arguments)
    on_ranks(1, tmp_path, gradients, tmp_path / "one.pt", [*arguments, *alone])
    found, expected = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("two", "one"))
    assert {"identity", "triplet", "pair_identity", "pair_triplet", "classifier.weight"} <= expected["joint"].keys()
    assert any(name.startswith("extractor") for name in expected["joint"])
    assert not any(name.startswith("extractor") for name in expected["pair"])
    for phase in ("joint", "pair"):
        assert found[phase].keys() == expected[phase].keys()
        for name, value in expected[phase].items():
            torch.testing.assert_close(found[phase][name], value, rtol=1e-4, atol=1e-6)
            assert name.endswith("bias") or value.abs().max() > 1e-7, f"{name} has no gradient to compare"


def test_all_ranks_train_one_model(options, tmp_path):
    """DDP is asked to add gradients up, once a step, and the logged losses are those of all ranks."""
    changed = [
        "--joint_phase.epochs=1",
        "--pair_phase.epochs=1",
        "--joint_phase.num_identities=8",
        "--joint_phase.num_instances=2",
    ]
    on_ranks(2, tmp_path, weights, tmp_path / "found.pt", [*options, *changed])
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.pop("rank") == 0.5
    for first, second in found.values():
        assert torch.equal(first, second)
    assert not torch.equal(found["accumulate 1"][0], found["accumulate 2"][0])


def test_results_are_written_once(undisturbed):
    folder, printed = undisturbed
    assert printed.count("report:") == printed.count("two_stage ") == 1
    with (folder / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    assert (folder / "report.html").exists() and (folder / "metrics.json").exists()


def test_a_rank_that_is_killed_changes_nothing(undisturbed, tiny, tmp_path, monkeypatch):
    """By torchrun itself, which forks its ranks from a process that has imported torch: four imports less."""
    folder, _ = undisturbed
    arguments = [*options_of(tiny, tmp_path / "run"), "--resume"]
    script, logs, started = tmp_path / "script.py", tmp_path / "logs", []
    script.write_text("import sys\nfrom tests.engine.on_ranks import train\nassert train(sys.argv[1:]) == 0\n")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # docs/ranks.md
    start = MultiprocessContext._start
    monkeypatch.setattr(MultiprocessContext, "_start", lambda self: started.append(self) or start(self))
    launch = ["--standalone", "--nproc_per_node=2", "--max-restarts=2", "--run-path", "--start-method=forkserver"]
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(torchrun, [*launch, "--redirects=3", f"--log-dir={logs}", str(script), *arguments])
        last = tmp_path / "run" / "checkpoints" / "last.ckpt"
        while not last.exists():
            assert not run.done(), run.exception()
            time.sleep(0.01)
        os.kill(started[0].pids()[1], signal.SIGKILL)
        run.result()
    printed = "".join(path.read_text() for path in sorted(logs.rglob("std*.log")))
    assert len(started) == 2, printed[-3000:]
    assert printed.count("Starting with 2 processes") == 2
    assert printed.count("report:") == printed.count("two_stage ") == 1
    assert printed.count("joint 1/3: 6/6 step") == 1  # no second first epoch
    with (tmp_path / "run" / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    once, again = trained_weights(folder), trained_weights(tmp_path / "run")
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_a_run_that_ended_in_the_pair_phase_goes_on_with_the_same_clues(undisturbed, tiny, tmp_path):
    """BatchNorm's statistics are each rank's own after a step, and the clues are made with the first one's."""
    folder, _ = undisturbed
    shutil.copytree(folder, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    os.replace(last.with_name("previous.ckpt"), last)
    assert torch.load(last, weights_only=True)["log"][-1]["phase"] == "pair"
    on_ranks(2, tmp_path, train_on_ranks, [*options_of(tiny, tmp_path / "run"), "--resume"])
    once, again = trained_weights(folder), trained_weights(tmp_path / "run")
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_a_run_that_may_be_started_again_has_to_say_resume(options, tmp_path, monkeypatch, capsys):
    """Else a second start would take what another run left in the folder for its own."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert train(options) == 2
    assert "give --resume, which continues a run, or starts it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_ranks_that_see_other_folders_are_named(options, monkeypatch, capsys):
    monkeypatch.setattr(Ranks, "gather_objects", lambda self, own: [own, 3])
    assert train(options) == 2
    assert "to continue from the same epoch (got [0, 3]): every machine has to see" in capsys.readouterr().err


def test_the_anchors_are_shared_out_before_anything_is_trained(options, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "Ranks", lambda rank, count: Ranks(0, 2))
    assert train([*options, "--pair_phase.anchors=7"]) == 2
    assert "pair_phase.anchors to be a multiple of the 2 ranks (got 7)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint_is_recognised(options, trained, tmp_path, capsys):
    run = shutil.copytree(trained.folder, tmp_path / "run")
    whole, last = trained_weights(run), run / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    middle = len(content) // 2
    hole = content[:middle] + bytes(64) + content[middle + 64 :]
    left = last.with_name(".last.ckpt.1.partial")
    for broken in (b"", content[:10], content[:middle], content[:-1], hole):
        last.write_bytes(broken)
        left.write_bytes(b"by a process that was killed")
        assert train([*options, "--resume"]) == 0
        assert "truncated" in capsys.readouterr().out and not left.exists()
        again = trained_weights(run)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
    for name in ("last", "previous"):
        (run / "checkpoints" / f"{name}.ckpt").write_bytes(b"")
    assert train([*options, "--resume"]) == 2
    assert "no readable checkpoint is left" in capsys.readouterr().err


def test_passes_accumulate_the_mean_of_their_losses(options, tiny):
    samples = read_market_layout(tiny).train
    config = configured([*options, "--joint_phase.accumulate=2"])
    trainer = Trainer(build_model(config, 12, pretrained=False), config, Splits(samples, (), ()))
    phase = JointPhase(trainer.config, samples, Ranks())
    step, _ = trainer.fabric.setup(TrainingStep(trainer.model, phase), phase.optimizer(trainer.model))
    trainer.model.eval()
    images, labels = (tensor.to(trainer.fabric.device) for tensor in next(iter(phase.batches(0))))
    assert len(list(trainer._passes(phase, step, (images, labels), 0, 0))) == 2
    weight = next(trainer.model.extractor.parameters())
    found = weight.grad.clone()
    trainer.model.zero_grad()
    halves = [phase.losses(trainer.model, images[half], labels[half]) for half in (slice(0, 8), slice(8, 16))]
    (sum(sum(terms.values()) for terms in halves) / 2).backward()
    torch.testing.assert_close(found, weight.grad)


def test_the_loss_scale_of_float16_goes_on(options, tmp_path, monkeypatch):
    """Half of the float16 path of a GPU: torch has it on CPUs too, Fabric alone does not offer it."""

    def half(config):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**30, growth_interval=5)
        return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))

    monkeypatch.setattr(experiment, "launch_fabric", half)
    options = [*options, "--joint_phase.epochs=3", "--joint_phase.num_instances=2", "--pair_phase.epochs=0"]
    assert train(options) == 0
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    whole = torch.load(last, weights_only=True)
    os.replace(last.with_name("previous.ckpt"), last)  # as if it was stopped in the last epoch
    before = torch.load(last, weights_only=True)
    assert train([*options, "--resume"]) == 0
    again = torch.load(last, weights_only=True)
    assert before["precision"]["scale"] not in (2.0**30, whole["precision"]["scale"])
    assert again["precision"] == whole["precision"]
    assert all(torch.equal(whole["model"][name], again["model"][name]) for name in whole["model"])


def test_the_backbone_can_be_compiled(options, tmp_path):
    assert train([*options, "--compile=eager", "--joint_phase.epochs=1", "--pair_phase.epochs=0"]) == 0
    assert not [name for name in trained_weights(tmp_path / "run") if "_orig_mod" in name]


@pytest.mark.parametrize(
    ("changed", "ranks", "named"),
    [
        (["--joint_phase.num_identities=4"], 3, "num_identities to be a multiple of 3 ranks"),
        (["--joint_phase.num_identities=4", "--joint_phase.accumulate=3"], 1, "joint_phase.accumulate 3"),
        (["--joint_phase.num_identities=4"], 4, "pairs_across_ranks"),
    ],
)
def test_batches_that_ranks_cannot_share(options, tiny, changed, ranks, named):
    with pytest.raises(ValueError, match=named):
        JointPhase(configured([*options, *changed]), read_market_layout(tiny).train, Ranks(0, ranks))


def test_synchronised_batch_norm_keeps_names_and_weights(options):
    model = build_model(configured(options), 5, pretrained=False)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    made = synchronise_batch_norm(model, torch.device("cuda"))
    kinds = [type(layer) for layer in made.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    assert kinds and set(kinds) == {torch.nn.SyncBatchNorm}
    after = made.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_synchronised_batch_norm_wants_gpus(options, capsys):
    assert train([*options, "--sync_batchnorm=true", "--device=cpu"]) == 2
    assert "Expected GPUs for sync_batchnorm" in capsys.readouterr().err
