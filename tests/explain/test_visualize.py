"""``python -m cace_pyg.visualize``: what it prints and writes, and what it refuses."""

import shutil

import networkx as nx
import numpy as np
import pytest
import torch
from PIL import Image

from cace_pyg.config import config_of, config_parser, from_yaml, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.build import build_model
from cace_pyg.engine.checkpoint import load_model, save_checkpoint
from cace_pyg.engine.distances import measure
from cace_pyg.engine.extraction import extract_clues
from cace_pyg.explain.conditional_maps import conditional_maps_figure
from cace_pyg.explain.correspondences import compare_partners
from cace_pyg.explain.pair_analysis import analyse_pair
from cace_pyg.explain.pair_report import describe_pair
from cace_pyg.explain.pair_view import picture_samples
from cace_pyg.visualize import main as visualize
from tests.random_checkpoint import make_checkpoint

FILES = {"matching.png", "clusters.png", "degrees.png", "graph.graphml"}


@pytest.fixture
def best(options, tmp_path):
    """A checkpoint whose weights are random, the pair branch's too."""
    parser = config_parser("train", "")
    config = config_of(parse(parser, options), parser)
    model = build_model(config, 5, pretrained=False)
    torch.nn.init.normal_(model.pair_stage.expansion.weight)
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    state = {"config": config.to_yaml(), "identities": 5, "fusion_weight": 0.5, "model": model.state_dict(), "epoch": 1}
    save_checkpoint(path, state)
    return path


@pytest.fixture
def pair(tiny):
    """A query, and a gallery picture of another person."""
    splits = read_market_layout(tiny)
    return splits.query[0].path, next(sample.path for sample in splits.gallery if sample.pid > splits.query[0].pid)


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_a_pair_of_a_trained_model_is_taken_apart(trained, pair, tmp_path, capsys):
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    shutil.copy(trained.best, best)
    command = ["pair", *map(str, pair), "--checkpoint", str(best), "--strongest", "3"]
    assert visualize([*command, "--format", "png"]) == 0
    folder = tmp_path / "run" / "figures" / f"pair_{pair[0].stem}__{pair[1].stem}"
    assert files(folder) == FILES
    for name in FILES - {"graph.graphml"}:
        with Image.open(folder / name) as picture:
            assert picture.format == "PNG" and min(picture.size) > 300
    printed = capsys.readouterr().out
    for words in ("individual distance", "fusion weight", "density, %", "matches that carry", "modularity"):
        assert words in printed
    assert printed.count("written: ") == 4 and str(folder / "matching.png") in printed

    before = {name: (folder / name).read_bytes() for name in FILES}
    assert visualize([*command, "--data.workers=1"]) == 0
    assert files(folder) == FILES | {"matching.svg", "clusters.svg", "degrees.svg"}
    assert b"<svg" in (folder / "clusters.svg").read_bytes()
    assert before == {name: (folder / name).read_bytes() for name in FILES}  # the same command, the same files


def test_the_distances_are_those_of_evaluation(best, tiny):
    torch.set_num_threads(1)
    config = from_yaml(torch.load(best, weights_only=True)["config"], "--evaluation.fusion=0.25")
    model, _ = load_model(best, config)
    splits = read_market_layout(tiny)
    query, gallery, distances = measure(model, splits.query, splits.gallery, config, "cpu")
    position = int(distances.index[0, 0])
    paths = query.samples[0].path, gallery.samples[position].path
    analysis = analyse_pair(best, paths, config)
    assert analysis.individual == pytest.approx(float(distances.individual()[0, position]), abs=1e-5)
    assert analysis.conditional == pytest.approx(float(distances.conditional[0, 0]), abs=1e-5)
    assert analysis.fused == pytest.approx(float(distances.two_stage(0.25)[0, position]), abs=1e-5)


def test_a_correspondence_speaks_for_one_person_where_the_distance_grows_without_it(best, pair):
    torch.set_num_threads(1)
    config = from_yaml(torch.load(best, weights_only=True)["config"])
    analysis = analyse_pair(best, pair, config)
    view, model = analysis.view, load_model(best, config)[0]
    _, clues = extract_clues(model, picture_samples(pair), config, "cpu")
    stage = model.pair_stage
    with torch.no_grad():
        a, b = (stage.prepare(clues.select(slice(i, i + 1))) for i in (0, 1))
        blocks = stage.blocks(a, b)
        assert float(stage.distance_of(blocks, a, b)) == pytest.approx(float(stage.distance(a, b)), abs=1e-6)
        for (of_a, of_b), effect in zip(view.matches[:4, :2].astype(int), view.effects[:4], strict=True):
            inter = blocks.inter.clone()
            inter[0, of_a, of_b] = 0
            without = stage.distance_of(blocks._replace(inter=inter), a, b)
            assert effect == pytest.approx(float(without) - analysis.conditional, abs=1e-5)
    assert len(view.effects) == len(view.matches) == 20 and np.abs(view.effects).max() > 0
    speak = f"{(view.effects > 0).sum()} speak for one person, {(view.effects < 0).sum()} against"
    assert view.verdict == f"of the 20 strongest correspondences {speak}" and speak in describe_pair(analysis, 3)


def test_matching_clusters_and_statistics_are_of_the_graph_that_is_written(best, pair, tmp_path):
    config = from_yaml(torch.load(best, weights_only=True)["config"])
    analysis = analyse_pair(best, pair, config)
    n = analysis.view.grid[0] * analysis.view.grid[1]
    assert visualize(["pair", *map(str, pair), "--checkpoint", str(best), "--output", str(tmp_path / "out")]) == 0
    written = nx.read_graphml(tmp_path / "out" / "graph.graphml", node_type=int)
    assert len(written) == 2 * n == analysis.statistics.nodes
    assert written.number_of_edges() == analysis.statistics.edges
    assert dict(written.nodes(data=True)) == dict(analysis.graph.nodes(data=True))
    decisive = {(a, b - n) for a, b, is_decisive in written.edges(data="decisive") if is_decisive}
    assert decisive == {(int(a), int(b)) for a, b, _ in analysis.matching}
    clusters_a, clusters_b = analysis.node_maps("cluster")
    for number, cluster in enumerate(analysis.clusters.clusters, start=1):
        assert tuple(np.flatnonzero(clusters_a == number)) == cluster.clues_a
        assert tuple(np.flatnonzero(clusters_b == number)) == cluster.clues_b
    # the heaviest edge of all is what view_pair calls the strongest match; no matching holds one that is heavier
    assert analysis.matching[0, 2] <= analysis.view.matches[0, 2] + 1e-6


def test_a_pair_without_edges_is_described(best, pair, tmp_path, capsys):
    command = ["pair", *map(str, pair), "--checkpoint", str(best), "--output", str(tmp_path / "out"), "--format", "png"]
    model = torch.load(best, weights_only=True)
    for name, weight in model["model"].items():
        if name.startswith("pair_stage.builder"):
            weight.zero_()
    torch.save(model, best)
    assert visualize(command) == 0
    assert files(tmp_path / "out") == FILES
    printed = capsys.readouterr().out
    assert "there are no edges between the pictures" in printed and "Clusters of clues: none" in printed


def test_every_match_can_be_described(best, pair):
    config = from_yaml(torch.load(best, weights_only=True)["config"])
    analysis = analyse_pair(best, pair, config)
    shortest, every = (describe_pair(analysis, strongest) for strongest in (1, 10_000))
    assert len(every.splitlines()) - len(shortest.splitlines()) == len(analysis.matching) - 1


@pytest.fixture
def clues_of(best):
    """A model, and the clues of given pictures."""
    torch.set_num_threads(1)
    config = from_yaml(torch.load(best, weights_only=True)["config"])
    model, _ = load_model(best, config)
    return model, lambda paths: extract_clues(model, picture_samples(paths), config, "cpu")


def test_conditional_maps_are_drawn_of_the_models_own_maps(best, clues_of, pair, tmp_path):
    command = ["conditional_maps", *map(str, pair), str(pair[1]), "--checkpoint", str(best), "--output", str(tmp_path)]
    assert visualize(command) == 0
    name = f"conditional_maps_{pair[0].stem}__{pair[1].stem}"
    assert {f"{name}.png", f"{name}.svg"} <= files(tmp_path)
    model, of = clues_of
    embedding, clues = of([pair[0], pair[1], pair[1]])
    figure = conditional_maps_figure(model, embedding, clues, [pair[0], pair[1], pair[1]])
    a, b = clues.select(slice(0, 1)), clues.select(slice(1, 2))
    for_query, for_gallery = (
        feature_map[0].norm(dim=-1).detach() for feature_map in model.conditional.conditional_maps(a, b)
    )
    drawn = [axes.images[-1].get_array().flatten() for axes in figure.axes if len(axes.images) == 2]
    own_query, own_gallery = (clues.features[0].norm(dim=-1) for clues in (a, b))
    for expected in (own_query, for_query, for_query - own_query, for_gallery - own_gallery):
        assert any(np.allclose(panel, expected, atol=1e-5) for panel in drawn)
    assert len(drawn) == 1 + 2 * 3


def test_partners_are_the_heaviest_and_the_most_similar_of_the_same_clues(best, clues_of, pair, tmp_path):
    command = ["correspondences", *map(str, pair), "--checkpoint", str(best), "--output", str(tmp_path / "out")]
    assert visualize([*command, "--strongest", "4", "--format", "svg"]) == 0
    assert files(tmp_path / "out") == {f"correspondences_{pair[0].stem}__{pair[1].stem}.svg"}
    model, of = clues_of
    _, clues = of(pair)
    learned, similar = compare_partners(model, clues.select(slice(0, 1)), clues.select(slice(1, 2)), 4)
    analysis = analyse_pair(best, pair, from_yaml(torch.load(best, weights_only=True)["config"]))
    share = np.zeros((analysis.statistics.nodes // 2,) * 2)
    for i, j, value in analysis.graph.edges(data="share"):
        if i < len(share) <= j:
            share[i, j - len(share)] = value
    start = np.argsort(-share.max(1))[:4]
    np.testing.assert_array_equal(learned[:, 0], start)
    np.testing.assert_array_equal(learned[:, 1], share[start].argmax(1))
    np.testing.assert_allclose(learned[:, 2], share[start].max(1), rtol=1e-4)
    unit = torch.nn.functional.normalize(clues.features, dim=-1).numpy()
    np.testing.assert_array_equal(similar[:, :2].T, [start, (unit[0] @ unit[1].T)[start].argmax(1)])


def test_ranked_lists_of_queries_that_are_named_and_of_chosen_ones(best, tiny, tmp_path, capsys):
    query = read_market_layout(tiny).query[1].path
    command = ["ranked_lists", "--checkpoint", str(best), "--output", str(tmp_path / "out"), "--format", "png"]
    assert visualize([*command, "--query", query.name]) == 0
    assert files(tmp_path / "out") == {f"ranked_lists_{query.stem}.png"}
    assert visualize(command) == 0
    assert 1 <= len(files(tmp_path / "out")) <= 5
    assert visualize([*command, "--query", "nobody.jpg"]) == 2
    assert "among the data set's" in capsys.readouterr().err


def test_what_it_refuses(best, pair, tmp_path, capsys):
    a, b = map(str, pair)
    no_picture = tmp_path / "no.jpg"
    no_picture.write_text("words")
    start, out = ["--checkpoint", str(best)], ["--output", str(tmp_path / "out")]
    for command, words in (
        (["pair", a, str(tmp_path / "absent.jpg"), *start], "no picture at"),
        (["pair", a, str(no_picture), *start], "cannot read the picture"),
        (["pair", a, *start], "Expected two pictures (got 1)"),
        (["correspondences", a, b, b, *start], "Expected two pictures (got 3)"),
        (["pair", a, b, *start, "--strongest", "0"], "--strongest of at least 1"),
        (["pair", a, b, *start, "--data.hight", "64"], "data.height"),
        (["pair", a, b, "--checkpoint", str(tmp_path / "absent.ckpt")], "no checkpoint at"),
        (["conditional_maps", a, *start], "at least one gallery picture"),
        (["conditional_maps", a, *[b] * 9, *start], "1 to 8 gallery images"),
        (["ranked_lists", *start, "--data.root", str(tmp_path / "absent")], "absent"),
    ):
        assert visualize([*command, *out]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    assert visualize(["pair", a, b, *start, "--output", str(no_picture)]) == 2
    assert "Expected --output to name a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        visualize(["pair", a, b])
    assert stop.value.code == 2
    assert not (tmp_path / "run" / "figures").exists()


def test_aligned_clues_have_no_conditional_maps(tiny, pair, tmp_path, capsys):
    best = str(make_checkpoint(tmp_path / "best.ckpt", tiny, **{"conditional.compare": "aligned_clues"}))
    assert visualize(["conditional_maps", *map(str, pair), "--checkpoint", best]) == 2
    assert "no conditional embeddings or maps" in capsys.readouterr().err
    assert visualize(["correspondences", *map(str, pair), "--checkpoint", best]) == 0


def test_without_arguments_it_prints_its_help(capsys):
    assert visualize([]) == 0
    bare = capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        visualize(["--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == bare and "pair A.jpg B.jpg" in bare
