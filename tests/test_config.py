"""The typed tree and its YAML."""

from pathlib import Path

import pytest

from cace_pyg.config import (
    config_of,
    config_parser,
    differences,
    from_yaml,
    parse,
    to_yaml,
)
from cace_pyg.graph import CorrespondenceAttention, FullyConnected

SYNTHETIC = str(Path(__file__).parents[1] / "configs" / "synthetic.yaml")


def parsed(*arguments):
    parser = config_parser("train", "")
    return parse(parser, ["--config", SYNTHETIC, *arguments])


def test_yaml_and_back_is_the_same_configuration():
    text = to_yaml(parsed("--graph.form=paper", "--graph.sharpness=1", "--train.epochs=3", "--evaluation.fusion=0.25"))
    config = from_yaml(text)
    assert config.train.epochs == 3 and config.evaluation.fusion == 0.25 and config.data.root == "data/synthetic"
    builder = config.graph(32)
    assert isinstance(builder, CorrespondenceAttention) and builder.form == "paper"
    assert to_yaml(parse(config_parser("train", ""), ["--config", text])) == text
    assert "threads: null" in text  # defaults are written out


def test_a_builder_is_one_word_away():
    config = config_of(parsed("--graph", "FullyConnected"), config_parser("train", ""))
    assert isinstance(config.graph(32), FullyConnected)
    config = config_of(parsed("--graph", "CorrespondenceAttention", "--graph.width", "3"), config_parser("train", ""))
    assert config.graph(32).projection.out_features == 3


def test_overrides_come_last():
    assert from_yaml(to_yaml(parsed()), "--conditional.engine=dense").conditional.engine == "dense"


def test_differences_leave_out_where_a_run_runs():
    before, now = to_yaml(parsed()), to_yaml(parsed("--seed=1", "--threads=1", "--device=cpu", "--graph.form=paper"))
    assert differences(before, now) == [
        "graph.init_args.form: released in the run, paper now",
        "seed: 0 in the run, 1 now",
    ]


def test_a_run_older_than_a_setting_has_its_default():
    now = to_yaml(parsed("--train.accumulate=2"))
    before = "".join(line for line in now.splitlines(True) if "accumulate" not in line and "compile" not in line)
    assert differences(before, now) == ["train.accumulate: 1 in the run, 2 now"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--train.learning_rat=1"], "near names: --train.learning_rate"),
        (["--graph=FullConnected"], "near names: FullyConnected"),
        (["--graph=FullyConnected", "--graph.k=3"], "k"),
        (["--conditional.mode=sharpen"], "sharpen"),
        (["--train.epochs=many"], "many"),
    ],
)
def test_wrong_names_and_values_are_shown(arguments, words):
    with pytest.raises(ValueError, match=words):
        parsed(*arguments)


@pytest.mark.parametrize(
    "option",
    ["train.epochs=-1", "evaluation.top_k=0", "pair_phase.anchors=0", "train.learning_rate=nan",
     "evaluation.fusion=3", "conditional.width=0", "loss.alpha=3", "data.height=0", "threads=0"],
)  # fmt: skip
def test_values_out_of_range_are_named(option):
    with pytest.raises(ValueError, match=option.split("=")[0]):
        parsed(f"--{option}")


def test_options_override_the_file_wherever_it_stands():
    parser = config_parser("train", "")
    assert parse(parser, ["--train.epochs=3", f"--config={SYNTHETIC}"]).train.epochs == 3


@pytest.mark.parametrize(
    ("text", "words"), [("data: [", "bad.yaml, line 1 is not YAML"), ("", "bad.yaml to hold keys"), ("3", "got 3")]
)
def test_a_broken_file_is_named(tmp_path, text, words):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        parse(config_parser("train", ""), [f"--config={tmp_path / 'bad.yaml'}"])
