"""The typed tree and its YAML."""

import functools
import sys
from pathlib import Path

import pytest
import yaml
from torch_geometric.nn import GCNConv

from cace_pyg.config import (
    Config,
    config_of,
    config_parser,
    differences,
    from_yaml,
    parse,
)
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.graph import CorrespondenceAttention, FullyConnected
from cace_pyg.models import ConditionalSettings

SYNTHETIC = str(Path(__file__).parents[1] / "configs" / "synthetic.yaml")


def configured(*arguments):
    parser = config_parser("train", "")
    return config_of(parse(parser, ["--config", SYNTHETIC, *arguments]), parser)


def text_of(*arguments):
    return configured(*arguments).to_yaml()


def test_yaml_and_back_is_the_same_configuration():
    text = text_of("--graph.form=paper", "--graph.sharpness=1", "--joint_phase.epochs=3", "--evaluation.fusion=0.25")
    config = from_yaml(text)
    assert config.joint_phase.epochs == 3 and config.evaluation.fusion == 0.25 and config.data.root == "data/synthetic"
    builder = config.graph(32)
    assert isinstance(builder, CorrespondenceAttention) and builder.form == "paper"
    assert config.to_yaml() == text
    assert "threads: null" in text  # defaults are written out


def test_a_builder_is_one_word_away():
    config = configured("--graph", "FullyConnected")
    assert isinstance(config.graph(32), FullyConnected)
    config = configured("--graph", "CorrespondenceAttention", "--graph.width", "3")
    assert config.graph(32).projection.out_features == 3


def test_overrides_come_last():
    assert from_yaml(text_of(), "--conditional.backend=dense").conditional.backend == "dense"


def test_differences_leave_out_where_a_run_runs():
    before, now = text_of(), text_of("--seed=1", "--threads=1", "--device=cpu", "--graph.form=paper")
    assert differences(before, now) == [
        "graph.init_args.form: released in the run, paper now",
        "seed: 0 in the run, 1 now",
    ]


def test_a_run_older_than_a_setting_has_its_default():
    now = text_of("--joint_phase.accumulate=2")
    before = "".join(line for line in now.splitlines(True) if "accumulate" not in line and "compile" not in line)
    assert differences(before, now) == ["joint_phase.accumulate: 1 in the run, 2 now"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--joint_phase.learning_rat=1"], "near names: --joint_phase.learning_rate"),
        (["--graph=FullConnected"], "near names: FullyConnected"),
        (["--graph=FullyConnected", "--graph.k=3"], "k"),
        (["--conditional.mode=sharpen"], "sharpen"),
        (["--joint_phase.epochs=many"], "many"),
    ],
)
def test_wrong_names_and_values_are_shown(arguments, words):
    with pytest.raises(ValueError, match=words):
        configured(*arguments)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("train.epochs=3", "joint_phase.epochs"),
        ("train.validate_every=3", "validate_every"),
        ("conditional.engine=dense", "conditional.backend"),
        ("evaluation.k1=10", "k_reciprocal.k1"),
    ],
)
def test_an_old_name_is_refused_with_the_new_one(old, new, tmp_path):
    name, value = old.split("=")
    with pytest.raises(ValueError, match=f"{name} was renamed to {new} in version 0.2"):
        configured(f"--{old}")
    (tmp_path / "old.yaml").write_text(f"{name.split('.')[0]}: {{{name.split('.')[1]}: {value}}}\n")
    with pytest.raises(ValueError, match=f"{name} was renamed to {new} in version 0.2"):
        parse(config_parser("train", ""), [f"--config={tmp_path / 'old.yaml'}"])


def test_a_configuration_made_in_python_becomes_yaml():
    graph = functools.partial(CorrespondenceAttention, sharpness=16.0)
    config = Config(DataSettings(root="crops"), graph=graph, conditional=ConditionalSettings(convolution=GCNConv))
    again = from_yaml(config.to_yaml())
    assert again.graph(32).sharpness == 16.0 and again.conditional.convolution(4, 3).out_channels == 3
    assert again.to_yaml().startswith(config.to_yaml()[:200]) and again.seed == config.seed
    with pytest.raises(ValueError, match=r"a class, or functools.partial of one.*got <function"):
        Config(DataSettings(root="crops"), graph=lambda channels: CorrespondenceAttention(channels)).to_yaml()


@pytest.mark.parametrize(
    "option",
    ["joint_phase.epochs=-1", "evaluation.top_k=0", "pair_phase.anchors=0", "joint_phase.learning_rate=nan",
     "evaluation.fusion=3", "conditional.width=0", "loss.alpha=3", "data.height=0", "threads=0"],
)  # fmt: skip
def test_values_out_of_range_are_named(option):
    with pytest.raises(ValueError, match=option.split("=")[0]):
        configured(f"--{option}")


def test_options_override_the_file_wherever_it_stands():
    parser = config_parser("train", "")
    assert parse(parser, ["--joint_phase.epochs=3", f"--config={SYNTHETIC}"]).joint_phase.epochs == 3


@pytest.mark.parametrize(
    ("text", "words"), [("data: [", "bad.yaml, line 1 is not YAML"), ("", "bad.yaml to contain keys"), ("3", "got 3")]
)
def test_a_broken_file_is_named(tmp_path, text, words):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(ValueError, match=words):
        parse(config_parser("train", ""), [f"--config={tmp_path / 'bad.yaml'}"])


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "some.yaml").write_text(text)
        return ["--data.root=x", f"--config={tmp_path / 'some.yaml'}"]

    return write


def refusal(*arguments):
    parser = config_parser("train", "")
    with pytest.raises(ValueError) as caught:
        config_of(parse(parser, arguments), parser)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "graph: {class_path: antigravity.Thing}",
        "graph: antigravity.Thing",
        "graph: antigravity",
        "conditional: {convolution: antigravity.Thing}",
        "conditional: {convolution: {class_path: antigravity.Thing, init_args: {}}}",
        "conditional: {class_path: antigravity.Thing}",
        "backbone: {name: {class_path: antigravity.Thing}}",
        "loss: {class_path: antigravity.Thing, init_args: {}}",
    ],
)
def test_no_module_is_imported_because_a_file_names_it(written, text):
    assert "antigravity" not in sys.modules  # of the standard library: opens a web browser
    assert "Expected" in refusal(*written(text))
    with pytest.raises(ValueError):
        from_yaml(f"data: {{root: x}}\n{text}\n")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("option", ["graph", "graph.class_path", "graph.help", "conditional.convolution"])
def test_no_module_is_imported_because_an_option_names_it(option):
    assert f"Expected {option.removesuffix('.class_path').removesuffix('.help')} as" in refusal(
        "--data.root=x", f"--{option}=antigravity.Thing"
    )
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("group", ["data", "backbone", "conditional", "evaluation"])
def test_no_other_file_is_read_because_a_configuration_names_it(written, group, tmp_path):
    (tmp_path / "other.yaml").write_text("root: elsewhere\n")
    words = f"Expected {group} as keys with values"
    assert words in refusal(*written(f"{group}: {tmp_path / 'other.yaml'}"))
    with pytest.raises(ValueError, match=words):
        from_yaml(f"seed: 1\n{group}: {tmp_path / 'other.yaml'}\n")
    with pytest.raises(ValueError, match="Expected the text of a configuration"):
        from_yaml(str(tmp_path / "other.yaml"))
    assert f"Expected an option for each setting of {group}" in refusal(f"--{group}={tmp_path / 'other.yaml'}")


@pytest.mark.parametrize("method", ["k_reciprocal", "propagation"])
def test_a_method_given_as_an_option(method):
    assert f"to re-rank by it, give --neighbours.method {method}" in refusal(f"--{method}")


def test_a_group_may_be_given_as_a_whole():
    assert configured("--loss={margin: 0.7}").loss.margin == 0.7


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("loss.pairwise_weight", "a number of at least 0"),
        ("embedding.channels", "a whole number above 0"),
        ("data.height", "a whole number above 0"),
        ("augmentation.flip", "a number"),
        ("k_reciprocal.k1", "a whole number above 0"),
        ("sync_batchnorm", "true or false"),
        ("device", "text"),
    ],
)
def test_null_is_refused_where_a_setting_takes_none(written, key, expected):
    group, _, name = key.rpartition(".")
    text = f"{group}: {{{name}: null}}" if group else f"{name}: null"
    assert refusal(*written(text)) == f"Expected {key} as {expected} (got null)"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--loss.margin=inf", "Expected loss.margin as a number of at least 0 (got inf)"),
        ("--graph.sharpness=.nan", "Expected graph.sharpness as a number (got "),
        ("--backbone.earlier=conv3", "Expected backbone.earlier as a list or null (got 'conv3'); write '[conv3]'"),
        ("--run_dir=", "Expected run_dir as text (got an empty string)"),
        ("--data.root=", "Expected data.root as text (got an empty string)"),
        ("--graph.form=", "Expected graph.form as paper or released (got an empty string)"),
    ],
)
def test_numbers_are_finite_and_names_are_not_empty(option, words):
    assert refusal("--data.root=x", option).startswith(words)


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}",
        "data: &d {root: *d}",
        "- 1",
        "1: 2",
        "data: {root: x}\nseed: 1\ndata: {height: 64}",
        "? [1, 2]\n: 3",
        "a: " + "{a: " * 50 + "1" + "}" * 50,
    ],
)
def test_trees_that_are_no_configuration_are_refused(written, text):
    assert len(refusal(*written(text)).splitlines()) <= 5


WRONG = [
    None,
    "word",
    -1,
    0,
    1.5,
    True,
    [1, 2],
    {"a": 1},
    float("inf"),
    10**30,
    "os.path",
    {"class_path": "x.Y"},
    "a\nb",
]


def test_every_error_of_a_setting_is_at_most_five_lines_and_names_it():
    """Each setting with each wrong value; what is refused is refused as ValueError, with its name."""
    tree = yaml.safe_load(Config(DataSettings(root="x")).to_yaml())
    settings = [(group, name) for group, value in tree.items() if isinstance(value, dict) for name in value]
    settings += [(group, None) for group in tree]
    parser = config_parser("train", "")
    for group, name in settings:
        for value in WRONG:
            changed = {"data": {"root": "x"}}  # not the whole tree, of which reading takes four times as long
            changed[group] = value if name is None else {**changed.get(group, {}), name: value}
            try:
                config_of(parse(parser, ["--config", yaml.dump(changed)]), parser)
            except ValueError as error:
                assert len(str(error).splitlines()) <= 5, (group, name, value)
                assert ("graph" if group == "graph" else name or group) in str(error), (group, name, value)


def test_a_configuration_that_comes_with_the_library_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = config_parser("train", "")
    for said in (["--config", "synthetic"], ["--config=synthetic"]):
        assert config_of(parse(parser, said), parser).to_yaml() == text_of()
    (tmp_path / "synthetic").write_text("data: {root: mine}\nseed: 5\n")
    here = config_of(parse(parser, ["--config", "synthetic"]), parser)
    assert here.seed == 5 and here.data.root == "mine"  # a file of that name wins


def test_a_name_of_no_configuration_is_answered_with_those_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = config_parser("train", "")
    with pytest.raises(ValueError, match=r"comes with cace_pyg: dukemtmc, .*, synthetic \(got synthetik, which is nei"):
        parse(parser, ["--config", "synthetik"])
    with pytest.raises(FileNotFoundError, match=r"no file at configs/on_top\.yaml; --config on_top takes the one that"):
        parse(parser, ["--config", "configs/on_top.yaml"])
    with pytest.raises(ValueError, match=r"File does not exist: '.*configs/mine\.yaml'"):
        parse(parser, ["--config", "configs/mine.yaml"])
