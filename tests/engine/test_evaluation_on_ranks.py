"""Evaluation on several processes: the result of one, written once."""

import json
from types import SimpleNamespace

import pytest
import torch

from cace_pyg.config import from_yaml
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine import distances, evaluation
from cace_pyg.engine.checkpoint import load_checkpoint, load_model
from cace_pyg.engine.extraction import Extraction, _part
from cace_pyg.engine.measure_pairs import every_image
from cace_pyg.engine.ranks import Ranks
from cace_pyg.evaluate import main as evaluate
from cace_pyg.graph import Clues
from cace_pyg.models import PairOperand
from cace_pyg.retrieval import distance_blocks, evaluate_blocks
from tests.forkserver import on_ranks
from tests.random_checkpoint import make_checkpoint


@pytest.mark.parametrize(("ranks", "on_disk"), [(2, False), (3, True)])
def test_the_result_is_that_of_one_process(tiny, tmp_path, ranks, on_disk):
    checkpoint = make_checkpoint(tmp_path / "best.ckpt", tiny, **{"data.workers": 0, "evaluation.batch_size": 4})
    command = ["--checkpoint", str(checkpoint), "--conditional.backend=pooled", "--device=cpu", "--output"]
    if on_disk:
        command.insert(0, f"--evaluation.clues_on_disk={tmp_path}")
    printed = on_ranks(ranks, tmp_path, evaluate, [*command, str(tmp_path / "many.json")])
    assert printed.count("two_stage ") == printed.count("metrics:") == 1
    assert evaluate([*command, str(tmp_path / "alone.json")]) == 0
    many, alone = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("many", "alone"))
    assert many["environment"].pop("ranks") == str(ranks) and alone["environment"].pop("ranks") == "1"
    for result in (many, alone):
        del result["environment"]
    assert many == alone and alone["two_stage"] != alone["individual"]


@pytest.mark.parametrize(("images", "batch_size", "ranks"), [(10, 4, 3), (64, 4, 5), (7, 1, 7), (9, 4, 1), (9, 4, 3)])
def test_every_image_belongs_to_one_rank_and_batches_stay_whole(images, batch_size, ranks):
    parts = [_part(images, batch_size, Ranks(rank, ranks), "query") for rank in range(ranks)]
    assert [image for part in parts for image in range(images)[part]] == list(range(images))
    assert all(part.start % batch_size == 0 and part.stop > part.start for part in parts)


@pytest.mark.parametrize(("images", "batch_size", "ranks"), [(12, 64, 3), (12, 64, 5), (8, 4, 3), (7, 64, 7)])
def test_batches_are_smaller_where_there_would_be_fewer_than_ranks(images, batch_size, ranks):
    parts = [_part(images, batch_size, Ranks(rank, ranks), "query") for rank in range(ranks)]
    assert [image for part in parts for image in range(images)[part]] == list(range(images))
    assert all(part.stop > part.start for part in parts)


def test_too_few_pictures_are_named():
    with pytest.raises(ValueError, match=r"a query picture for each of 3 ranks \(got 2\)"):
        _part(2, 64, Ranks(0, 3), "query")


def test_both_stages_are_measured_without_the_whole_matrix(tiny, tmp_path, monkeypatch):
    checkpoint, splits, most = make_checkpoint(tmp_path / "best.ckpt", tiny), read_market_layout(tiny), []
    config = from_yaml(load_checkpoint(checkpoint)["config"], "--data.workers=0")
    model, _ = load_model(checkpoint, config)

    def watched(blocks, *labels, **policy):
        blocks = list(blocks)
        most.append(max(block.numel() for block in blocks))
        return evaluate_blocks(blocks, *labels, **policy)

    sizes = 2 * len(splits.gallery)
    monkeypatch.setattr(distances, "distance_blocks", lambda a, b: distance_blocks(a, b, sizes))
    monkeypatch.setattr(evaluation, "evaluate_blocks", watched)
    found = evaluation.evaluate_two_stage(model, splits.query, splits.gallery, config, 0.5, "cpu")
    assert found.two_stage.mAP != found.individual.mAP and len(splits.query) > 2
    assert most == [sizes, sizes]


def test_queries_travel_without_the_rest_of_what_their_rank_has():
    """A slice of a tensor would be sent with all of the tensor behind it."""
    sizes = []

    def send(own, sender):
        sizes.append(own.projected.untyped_storage().nbytes())
        return own

    nodes = torch.rand(40, 6, 5)
    prepared = PairOperand(Clues(torch.rand(40, 6, 4), (3, 2)), torch.rand(40, 6, 6), nodes, torch.rand(40, 2))
    alone = SimpleNamespace(rank=0, gather_objects=lambda own: [own], send=send)
    found = [operand.projected for operand in every_image(Extraction((), torch.rand(40, 2), prepared), alone, 1)]
    assert torch.equal(torch.cat(found), nodes)
    assert sizes == [16 * 30 * 4, 16 * 30 * 4, 8 * 30 * 4]


def test_a_published_network_wants_one_process(tmp_path, monkeypatch, capsys):
    (tmp_path / "any.yaml").write_text("{}")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert evaluate(["--config", str(tmp_path / "any.yaml")]) == 2
    assert "start python, not torchrun" in capsys.readouterr().err
