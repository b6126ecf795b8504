"""What is there is not computed again, and nothing else is taken for it."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.opponents import compute_rows as computing
from benchmarks.opponents.__main__ import _few_people
from benchmarks.opponents.people import add_elsewhere, learn_elsewhere, on_cameras, read_people, standardise_cameras
from benchmarks.opponents.rows import Recipe
from benchmarks.opponents.table import print_table
from cace_pyg import Features
from cace_pyg.config import KReciprocalSettings
from cace_pyg.data import read_market_layout
from cace_pyg.engine.features import KeptFeatures
from cace_pyg.retrieval import euclidean_distance, evaluate

RECIPE, SOURCE = Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=5), {"features": "random", "held_out": 4}


def options(out, **changed):
    given = {"rows": ["qaconv"], "search": ["qaconv"], "seeds": [0], "search_steps": 1, "out": out, "deeper": [],
             "neighbours": False, "follow": [], "tune": False}  # fmt: skip
    return argparse.Namespace(**(given | {"learning_rates": [1e-3, 3e-3], "clue_dropouts": [0.0]} | changed))


def compute(out, recipe=RECIPE, **changed):
    computing.compute_rows(_few_people(), recipe, SOURCE, options(out, **changed))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("rows")
    compute(out, rows=["qaconv", "k_reciprocal"])
    return out


def test_a_row_says_how_it_was_trained_and_what_became_of_every_query(folder):
    row = json.loads((folder / "qaconv_0.json").read_text())
    tried = json.loads((folder / "search_qaconv.json").read_text())["tried"]
    rates = [(attempt["learning_rate"], attempt["clue_dropout"]) for attempt in tried]
    assert rates[:2] == [(1e-3, 0.5), (3e-3, 0.5)] and rates[2][1] == 0.0
    best = max(tried, key=lambda attempt: attempt["mAP"])
    assert (row["settings"]["learning_rate"], row["settings"]["clue_dropout"]) == (
        best["learning_rate"], best["clue_dropout"])  # fmt: skip
    test = row["test"]
    assert len(test["average_precision"]) == len(test["first_match"]) == 8 and test["query"] == "all"
    assert np.mean(test["average_precision"]) == pytest.approx(test["mAP"], abs=1e-6)
    assert np.mean([first == 1 for first in test["first_match"]]) == pytest.approx(test["rank1"])
    curve = {point["weight"]: point["mAP"] for point in row["validation"]}
    assert curve[row["fusion_weight"]] == max(curve.values())


def test_what_is_there_is_not_computed_again(folder, monkeypatch):
    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(computing, "train", fail)
    monkeypatch.setattr(computing, "untrained_row", fail)
    compute(folder, rows=["qaconv", "k_reciprocal"])
    with pytest.raises(AssertionError, match="trained again"):
        compute(folder, seeds=[0, 1])


def test_a_row_of_other_settings_is_refused(folder):
    with pytest.raises(ValueError, match=r"with settings \{'top_k': 4\} \(got \{'top_k': 5\}\)"):
        compute(folder, Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=4))


def test_the_table_stands_beside_the_network_alone(folder, capsys):
    print_table(folder)
    title, *table = capsys.readouterr().out.strip().splitlines()
    assert title == "two stages, top 5"
    lines = {line.split()[0]: line for line in table}
    assert set(lines) == {"row", "individual", "k_reciprocal", "qaconv"}
    found = {name: json.loads((folder / f"{name}.json").read_text())["test"] for name in ("individual", "qaconv_0")}
    lead = 100 * (found["qaconv_0"]["mAP"] - found["individual"]["mAP"])
    assert f"{lead:+.2f} [" in lines["qaconv"] and "+0.00 [0.00, 0.00]" in lines["individual"]


def test_one_training_is_ranked_at_several_depths_and_with_neighbours(tmp_path, capsys):
    recipe = Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=5, fusion=0.3)
    compute(tmp_path, recipe, rows=["graph"], search=[], deeper=[9], neighbours=True)
    row = json.loads((tmp_path / "graph_0.json").read_text())
    deeper = row["deeper"]["9"]
    assert row["fusion_weight"] == deeper["fusion_weight"] == 0.3
    assert row["test"]["average_precision"] != deeper["test"]["average_precision"]
    assert len({str(row[name]["average_precision"]) for name in ("test", *_NEIGHBOURS)}) == 3
    print_table(tmp_path)
    titles = [line for line in capsys.readouterr().out.splitlines() if ", top " in line and "graph" not in line]
    assert [title.split(", top ")[1] for title in titles] == ["5"] * 3 + ["9"]
    gains = row["two_stage_k_reciprocal"]["mAP"]
    print_table(tmp_path)
    assert f"{100 * gains:6.2f}" in capsys.readouterr().out


def test_held_out_people_choose_how_many_gallery_neighbours_are_followed(tmp_path, capsys):
    recipe = Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=4, fusion=0.3)
    compute(tmp_path, recipe, rows=["graph"], search=[], follow=[1, 4], neighbours=True)
    row = json.loads((tmp_path / "graph_0.json").read_text())
    followed = row["followed"]
    tried = {attempt["gallery_neighbours"]: attempt["mAP"] for attempt in followed["validation"]}
    assert set(tried) == {1, 4} and tried[followed["gallery_neighbours"]] == max(tried.values())
    rankings = row["test"], followed["test"], followed["two_stage_k_reciprocal"]
    assert len({str(ranking["average_precision"]) for ranking in rankings}) == 3
    print_table(tmp_path)
    printed = capsys.readouterr().out
    assert "two stages, 4 pictures, gallery neighbours followed" in printed
    assert f"{100 * followed['test']['mAP']:6.2f}" in printed


def test_held_out_people_choose_the_settings_of_the_re_ranking(tmp_path, monkeypatch):
    searched = []

    def distances_only(near, choice, weight, measure):
        searched.append((len(near.images), choice.two_stage, weight))
        return replace(choice, two_stage=replace(choice.two_stage, original_weight=1.0)), {}

    monkeypatch.setattr(computing, "search_choice", distances_only)
    recipe = Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=4, fusion=0.3)
    compute(tmp_path, recipe, rows=["graph"], search=[], follow=[2], neighbours=True, tune=True)
    row = json.loads((tmp_path / "graph_0.json").read_text())
    gallery = _few_people().held_out[1]  # the queries are among them
    assert searched == [(len(gallery), KReciprocalSettings(), 0.3)]
    assert "two_stage_k_reciprocal_tuned" not in row  # only where neighbours are followed
    tuned = row["followed"]["two_stage_k_reciprocal_tuned"]
    assert tuned["settings"] == {"k1": 20, "k2": 6, "original_weight": 1.0, "fusion": 0.3}
    assert tuned["average_precision"] == row["followed"]["test"]["average_precision"]


_NEIGHBOURS = ("two_stage_k_reciprocal", "two_stage_propagation")


def kept_features(file, counts, seed):
    draw = torch.Generator().manual_seed(seed)
    parts = {
        name: Features(torch.rand(count, 8, generator=draw), torch.rand(count, 6, 8, generator=draw).half(), (3, 2))
        for name, count in counts.items()
    }
    torch.save({name: vars(part) for name, part in parts.items()}, file)
    return parts


def test_another_data_set_is_ranked_with_the_weight_of_the_first(tiny, tmp_path, capsys):
    splits = read_market_layout(tiny)
    counts = {name: len(getattr(splits, name)) for name in ("train", "query", "gallery")}
    kept_features(tmp_path / "home.pt", counts, 1)
    there = kept_features(tmp_path / "there.pt", counts, 2)
    home = read_people(tmp_path / "home.pt", tiny, 4)
    people = add_elsewhere(home, tmp_path / "there.pt", tiny)
    assert people.test == home.test and people.train == home.train
    query, gallery = people.elsewhere
    assert query == gallery and [sample.pid for sample in query[: counts["train"]]] == [
        sample.pid for sample in splits.train
    ]
    embedding = torch.cat([there[name].embedding for name in counts])
    torch.testing.assert_close(people.features.embedding[KeptFeatures.positions(query)], embedding)

    recipe = Recipe(steps=1, anchors=4, confusions=3, width=4, top_k=5, fusion=0.3)
    row = computing.trained_row("no_graph", people, recipe, 0)
    pids, camids = (torch.tensor([getattr(sample, name) for sample in query]) for name in ("pid", "camid"))
    itself = torch.arange(len(query))
    alone = evaluate(euclidean_distance(embedding, embedding), pids, pids, camids, camids, own_position=itself)
    assert row["elsewhere"]["individual"]["mAP"] == pytest.approx(alone.mAP, abs=1e-6)
    assert row["elsewhere"]["two_stage"]["mAP"] != row["elsewhere"]["individual"]["mAP"]
    with pytest.raises(ValueError, match=r"Expected features of the pictures in .*'query': 1\d*"):
        kept_features(tmp_path / "few.pt", counts | {"query": 1}, 2)
        add_elsewhere(home, tmp_path / "few.pt", tiny)


def test_training_people_of_other_data_sets_and_of_some_cameras(tiny, tmp_path):
    splits = read_market_layout(tiny)
    counts = {name: len(getattr(splits, name)) for name in ("train", "query", "gallery")}
    kept_features(tmp_path / "home.pt", counts, 1)
    there = [kept_features(tmp_path / f"there{number}.pt", counts, number) for number in (2, 3)]
    home = read_people(tmp_path / "home.pt", tiny, 4)
    people = learn_elsewhere(home, [(tmp_path / f"there{number}.pt", tiny) for number in (2, 3)], 5)
    assert people.test == home.test
    every = [sample for part in (splits.train, splits.query, splits.gallery) for sample in part]
    identities = {sample.pid for sample in every if sample.pid > 0}
    learned, (query, gallery) = people.train, people.held_out
    assert {sample.pid for sample in learned}.isdisjoint(sample.pid for sample in gallery)
    assert len({sample.pid for sample in (*learned, *gallery)}) == 2 * len(identities)
    assert len({sample.pid for sample in gallery}) == 5 and set(query) <= set(gallery)
    assert {sample.camid for sample in (*learned, *gallery)} == {
        shift + sample.camid for sample in every for shift in (1, 2 + max(one.camid for one in every))
    }
    for number, features in enumerate(there):
        kept = torch.cat([features[name].embedding for name in counts])
        own = [position for position, sample in enumerate(every) if sample.pid > 0]
        found = sorted(KeptFeatures.positions((*learned, *gallery)).tolist())[
            number * len(own) : (number + 1) * len(own)
        ]
        torch.testing.assert_close(people.features.embedding[found], kept[own])

    some = on_cameras(home, [1], [2])
    assert {sample.camid for sample in (*some.train, *some.held_out[0], *some.held_out[1])} == {1}
    assert {sample.camid for sample in (*some.test[0], *some.test[1])} == {2}
    assert some.test[1] == tuple(sample for sample in home.test[1] if sample.camid == 2)
    assert on_cameras(home, None, None) == home
    some = on_cameras(home, [1], [2, 3, 5])
    query, gallery = some.test
    found = (some.features.embedding[KeptFeatures.positions(part)] for part in (query, gallery))
    literal = evaluate(euclidean_distance(*found), *(torch.tensor([getattr(sample, what) for sample in part])
                       for what in ("pid", "camid") for part in (query, gallery)))  # fmt: skip
    assert computing.untrained_row("individual", some)["test"]["mAP"] == pytest.approx(literal.mAP, abs=1e-6)


def test_each_part_is_standardised_by_its_own_gallery():
    people, found = _few_people(), standardise_cameras(_few_people())
    parts = ((people.train, people.train), people.held_out, people.test)
    for query, gallery in parts:
        of_gallery = people.features.select(KeptFeatures.positions(gallery))
        statistics = of_gallery.camera_statistics([sample.camid for sample in gallery])
        for side in (query, gallery):
            at, cameras = KeptFeatures.positions(side), [sample.camid for sample in side]
            expected = people.features.select(at).standardised(statistics, cameras)
            assert torch.equal(found.features.clues[at], expected.clues)
            torch.testing.assert_close(found.features.embedding[at], expected.embedding)
    assert found.test == people.test
