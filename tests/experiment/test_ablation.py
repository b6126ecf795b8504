"""Ablations: every row runs, a study goes on where it stopped, and its tables say what the runs say."""

import csv
import json
from typing import get_args

import pytest
import torch

from cace_pyg.ablate import main as ablate
from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.experiment.ablation import BASELINE, RowResult
from cace_pyg.experiment.ablation_table import ablation_markdown
from cace_pyg.experiment.studies import STUDIES, StudyName, StudyRow
from cace_pyg.retrieval import Difference
from tests.frozen_networks import SmallReid, write_onnx


@pytest.fixture
def study(options, tmp_path):
    """Arguments of a study on the tiny set."""
    (tmp_path / "base.yaml").write_text("{}")
    short = [option for option in options if not option.startswith("--run_dir")]
    ours = ["--conditional.compare=verification", "--conditional.node_wise=square", "--conditional.edges=inter"]
    begin = ["--config", str(tmp_path / "base.yaml"), "--run_dir", str(tmp_path / "study"), "--quick"]
    return [*begin, *short, *ours, "--conditional.width=8", "--graph.sharpness=8"]


@pytest.mark.parametrize("name", get_args(StudyName))
def test_the_rows_of_every_study_are_configurations_and_controls_are_rows(name, study):
    names = [row.name for row in STUDIES[name]]
    assert len(set(names)) == len(names)
    parser = config_parser("train", "")
    base = [option for option in study[4:] if option != "--quick"]
    for row in STUDIES[name]:
        assert row.control is None or row.control in names
        config = config_of(parse(parser, [*base, *row.options]), parser)
        assert config.joint_phase.epochs == 0 or name == "mixup"


@pytest.mark.parametrize("name", get_args(StudyName))
def test_every_row_of_every_study_runs(name, study, tmp_path, capsys):
    assert ablate(["--study", name, *study, "--seeds", "1"]) == 0
    folder = tmp_path / "study" / name
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [BASELINE, *(row.name for row in STUDIES[name])]
    for row in rows[1:]:
        gained = float(row["mAP_over_baseline_mean"])
        assert gained == pytest.approx(float(row["mAP"]) - float(rows[0]["mAP"]), abs=2e-3)
        assert float(row["mAP_over_baseline_low"]) <= gained <= float(row["mAP_over_baseline_high"])
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.csv", "gains.png", "gains.svg"}
    printed = capsys.readouterr()
    assert BASELINE in printed.out and f"ablation: {len(rows)}/{len(rows)} run" in printed.err
    assert "joint" not in printed.err


def test_a_study_goes_on_and_counts_each_seed(study, tmp_path, capsys):
    only = [f"--skip={row.name}" for row in STUDIES["components"][1:]]
    assert ablate(["--study", "components", *study, "--seeds", "1", *only]) == 0
    control = tmp_path / "study" / "the_same_pair_branch_without_a_graph" / "seed0"
    written = (control / "metrics.json").stat().st_mtime_ns
    assert ablate(["--study", "components", *study, "--seeds", "2", *only]) == 0
    assert (control / "metrics.json").stat().st_mtime_ns == written  # done before, so not run again
    with (tmp_path / "study" / "components" / "table.csv").open() as file:
        baseline, row = csv.DictReader(file)
    reached = [json.loads((control.parent / f"seed{seed}" / "metrics.json").read_text()) for seed in range(2)]
    assert float(row["mAP"]) == pytest.approx(50 * sum(metrics["two_stage"]["mAP"] for metrics in reached), abs=1e-3)
    assert float(baseline["mAP"]) == pytest.approx(
        50 * sum(metrics["individual"]["mAP"] for metrics in reached), abs=1e-3
    )
    assert len(row["mAP_over_baseline_seeds"].split()) == 2
    assert set(row["fusion_weights"].split()) == {f"{metrics['fusion_weight']:.2g}" for metrics in reached}
    capsys.readouterr()
    assert ablate(["--study", "components", *study, "--seeds", "1", *only, "--pair_phase.margin=0.9"]) == 2
    assert "has a run of another configuration:\n  pair_phase.margin" in capsys.readouterr().err


def test_with_neighbours_each_row_is_followed_by_itself_re_ranked(study, tmp_path):
    skip = [f"--skip={row.name}" for row in STUDIES["alignment"] if row.name not in ("no alignment", "part alignment")]
    near = ["--neighbours.method=k_reciprocal", "--k_reciprocal.k1=5", "--k_reciprocal.k2=2", "--evaluation.fusion=0.5"]
    assert ablate(["--study", "alignment", *study, "--seeds", "1", *skip, *near]) == 0
    with (tmp_path / "study" / "alignment" / "table.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    named = [f"{name}{re_ranked}" for name in (BASELINE, "no alignment", "part alignment")
             for re_ranked in ("", ", re-ranked: k_reciprocal")]  # fmt: skip
    assert list(rows) == named
    for name, folder, stage in (
        (named[1], "individual", "k_reciprocal"),
        (named[3], "no_alignment", "two_stage_k_reciprocal"),
        (named[4], "part_alignment", "two_stage"),
        (named[5], "part_alignment", "two_stage_k_reciprocal"),
    ):
        reached = json.loads((tmp_path / "study" / folder / "seed0" / "metrics.json").read_text())[stage]
        assert float(rows[name]["mAP"]) == pytest.approx(100 * reached["mAP"], abs=1e-3)
        gained = float(rows[name]["mAP"]) - float(rows[BASELINE]["mAP"])
        assert float(rows[name]["mAP_over_baseline_mean"]) == pytest.approx(gained, abs=2e-3)
    assert rows[named[5]]["control"] == named[3]
    over = float(rows[named[5]]["mAP"]) - float(rows[named[3]]["mAP"])
    assert float(rows[named[5]]["mAP_over_control_mean"]) == pytest.approx(over, abs=2e-3)


def test_what_cannot_run_is_said_before_anything_is_trained(study, tmp_path, capsys):
    assert ablate(["--study", "components", *study, "--skip=+ magic"]) == 2
    assert "Expected --skip to name a row of components: 'the same pair branch" in capsys.readouterr().err
    assert ablate(["--study", "components", *study, "--seeds", "0"]) == 2
    assert "at least one seed" in capsys.readouterr().err
    assert ablate(["--study", "components", *study, "--joint_phase.epoch=3"]) == 2
    assert "near names: --joint_phase.epochs" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
    assert ablate([]) == 0


def test_a_table_says_the_gain_its_interval_and_its_spread():
    found = Difference(0.043, 0.02, 0.061, (0.04, 0.046), 0.0042)
    row = StudyRow("+ graph", ("--x=1",), (81.29, 90.89), "no graph", "edges")
    measured = (0.7, 0.72), (0.8, 0.8), (0.66, 0.67), (found, found), (found, found)
    results = [RowResult(row, *measured, weights) for weights in ((0.3, 0.45), (0.5, 0.5))]
    text = ablation_markdown(results, "T", ["n"])
    assert "| + graph | 71.0 ± 1.4 | 80.0 ± 0.0 | +4.3 [+2.0, +6.1] ± 0.4 | +4.3 [+2.0, +6.1] ± 0.4 |" in text
    assert "| +4.3 [+2.0, +6.1] | 0.3 0.45 | 81.29, 90.89 |" in text and "| 0.5 | 81.29, 90.89 |" in text
    assert text.splitlines()[2].count("|") == text.splitlines()[3].count("|") and "- + graph: edges." in text


def test_a_study_on_a_published_network_has_its_own_ranking_as_the_baseline(study, tmp_path, capsys):
    torch.manual_seed(3)
    weights = write_onnx(SmallReid("adaptive").eval(), tmp_path / "reid.onnx")
    published = [
        "--backbone.name=onnx", f"--backbone.weights={weights}", "--embedding.kind=published", "--joint_phase.epochs=0",
        "--loss.pairwise_weight=0", f"--embedding.cache={tmp_path / 'cache'}", "--data.height=48", "--data.width=24",
    ]  # fmt: skip
    skipped = [f"--skip={row.name}" for row in STUDIES["components"][1:-1]]
    assert ablate(["--study", "components", *study, *published, "--seeds", "2", *skipped]) == 0
    assert "ablation: 4/4 run" in capsys.readouterr().err  # two rows, two seeds, and nothing before them
    with (tmp_path / "study" / "components" / "table.csv").open() as file:
        baseline, *rows = csv.DictReader(file)
    assert len(rows) == 2 and len({row["individual_mAP"] for row in (baseline, *rows)}) == 1
    assert ablate(["--study", "mixup", *study, *published]) == 2
    assert "Expected embedding.kind trained for rows of joint training" in capsys.readouterr().err
