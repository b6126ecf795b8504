"""The multi-query benchmark: what it measures of sets, beside loops; its interval over people; its rows."""

import csv
import math
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import multi_query
from cace_pyg.retrieval import choose_views, evaluate


@pytest.fixture(scope="module")
def rankings():
    torch.manual_seed(0)
    _, asked, stage, weight = multi_query._random(Namespace())
    return multi_query.Rankings(asked, stage, weight, 10)


def test_the_further_pictures_are_of_the_same_person_and_camera(rankings):
    query, gallery = rankings.asked.query.samples, rankings.asked.gallery.samples
    for asking, others in zip(query, rankings.asked.together, strict=True):
        expected = [i for i, other in enumerate(gallery) if (other.pid, other.camid) == (asking.pid, asking.camid)]
        assert others.tolist() == expected and len(expected) == 3


@torch.no_grad()
def test_two_stages_of_sets_are_those_of_a_loop_over_pairs(rankings):
    asked, views, softness = rankings.asked, 3, 0.2
    found = rankings.two_stages(views, softness)["set against set"]
    for number in (0, 5, 17):
        pictures = [asked.query.prepared.select(slice(number, number + 1))]
        pictures += [
            asked.gallery.prepared.select(slice(int(place), int(place) + 1)) for place in asked.together[number]
        ]
        near = rankings.mean[number].argsort()[:10]
        chosen = choose_views(rankings.pictures[number], views).tolist()
        for place in near.tolist():
            other = asked.gallery.prepared.select(slice(place, place + 1))
            pairs = [float(rankings.stage.distance(pictures[view], other)) for view in chosen]
            soft = -softness * math.log(sum(math.exp(-distance / softness) for distance in pairs) / len(pairs))
            expected = (1 - rankings.weight) * float(rankings.mean[number, place]) + rankings.weight * soft
            assert float(found[number, place]) == pytest.approx(expected, abs=1e-5)


def test_people_are_drawn_with_all_their_queries():
    rng = np.random.default_rng(3)
    people = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    worse = rng.random(len(people))
    better = worse + rng.normal(0.1, 0.3, 60)[people]  # alike for all queries of a person
    mean, low, high = multi_query.over_people(better, worse, people)
    assert low < mean < high and mean == pytest.approx((better - worse).mean())
    draws = []
    for _ in range(2000):
        drawn = np.concatenate([np.flatnonzero(people == person) for person in rng.integers(60, size=60)])
        draws.append((better - worse)[drawn].mean())
    assert (low, high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.02)
    alone = multi_query.over_people(better, worse, np.arange(len(people)))
    assert high - low > 1.2 * (alone[2] - alone[1])


def test_row_files_give_the_printed_means(rankings, tmp_path, monkeypatch):
    found = multi_query.measure(rankings, 2, 0.5)
    monkeypatch.setattr(sys, "argv", ["benchmarks/multi_query.py"])
    multi_query.keep_queries(tmp_path, "random", rankings.asked, found)
    with (tmp_path / "random.csv").open() as file:
        file.readline()
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    for (stages, way), metrics in found.items():
        mean = np.mean([float(row[f"{way.replace(' ', '_')}_{stages}_ap"]) for row in rows])
        assert mean == pytest.approx(metrics.mAP, abs=1e-5)
    labels = multi_query.labels_of(rankings.asked.query.samples, rankings.asked.gallery.samples)
    assert found[1, "averaged embedding"].mAP == evaluate(rankings.mean, **labels).mAP
