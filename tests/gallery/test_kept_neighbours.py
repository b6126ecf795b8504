"""Neighbours that a gallery keeps rank as the batch form does, whatever was added, removed or killed before."""

import itertools
import json
import random
import shutil
import signal
import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from cace_pyg import Gallery
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbours import Neighbours, SecondStage, ask_pair_stage, find_neighbours
from cace_pyg.gallery import unfinished_lists
from cace_pyg.gallery.damage import UnreadableTableError
from cace_pyg.gallery.kept_neighbours import IncompleteNeighboursError, KeptNeighbours, Pictures, key_of
from cace_pyg.gallery.stored_pair_stage import StoredPairStage
from cace_pyg.models import PairOperand
from cace_pyg.retrieval import euclidean_distance
from cace_pyg.retrieval.image_set import one_set
from cace_pyg.retrieval.neighbour_graph import NeighbourGraph
from cace_pyg.retrieval.two_stage import top_k
from cace_pyg.search import main as search
from tests.forkserver import kill_at_work
from tests.random_checkpoint import make_checkpoint

LISTED, FIRST_STAGE = 9, 12
NUMBERS = {"neighbours.candidates": LISTED, "k_reciprocal.k1": 6, "k_reciprocal.k2": 3}


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best.ckpt"
    return make_checkpoint(path, tiny, **NUMBERS, **{"evaluation.top_k": FIRST_STAGE})


@pytest.fixture
def gallery(model, tmp_path):
    return Gallery.create(tmp_path / "people.lance", model)


@pytest.fixture
def queries(splits):
    return [sample.path for sample in splits.query[:3]]


def pair_distances(gallery):
    stage, device = gallery.embedder.model.pair_stage, gallery.embedder.device
    return partial(measure_lists, stage, pairs_per_batch=None, device=device, progress=False)


def set_of(gallery, picture):
    """The gallery's names, a query and the gallery as the batch form takes them."""
    table, embedder = gallery._table.snapshot(), gallery.embedder
    rows, embedding = table.embeddings()
    query = embedder([picture])
    of_query = Extraction((), query.embedding, query.prepared)
    prepared = gallery._codec.decode(table.clues(rows), embedder.model)
    return [row["image"] for row in rows], of_query, Extraction((), embedding, prepared)


def batch_form(gallery, picture):
    """Its distances by name: there queries and gallery are one set, here the set of this query and the gallery."""
    names, query, others = set_of(gallery, picture)
    config, weight, ask = gallery.embedder.config, gallery.embedder.fusion_weight, pair_distances(gallery)
    listed = min(LISTED, len(names))
    near = find_neighbours(query.embedding, others.embedding, None, listed)
    index = top_k(euclidean_distance(query.embedding, others.embedding), len(names))
    second = SecondStage(index, ask(query, others, [*index]).view(index.shape))
    if weight > 0:
        near = ask_pair_stage(near, query, others, second, listed, False, ask)
    return dict(zip(names, near.ranking(config.k_reciprocal, weight, weight).whole()[0].tolist(), strict=True))


def assert_as_batch(gallery, pictures):
    for picture in pictures:
        everything = {"top_k": len(gallery), "first_stage": len(gallery)}
        found = gallery.search(picture, **everything, neighbours=True)
        assert {hit.image: hit.neighbour_distance for hit in found} == pytest.approx(
            batch_form(gallery, picture), abs=1e-5
        )
        distances = [hit.neighbour_distance for hit in found]
        assert distances == sorted(distances) and len(set(distances)) > len(gallery) / 2
        assert [hit.rank for hit in found] == list(range(1, len(gallery) + 1))


def kept(gallery):
    """The lists by name: each neighbour's name and distances, and the farthest."""
    rows, embedding = gallery._table.snapshot().embeddings()
    names = [row["image"] for row in rows]
    table = KeptNeighbours(gallery.path)
    pictures = Pictures.of(names, [row["sha256"] for row in rows], embedding)
    lists = table.read(pictures, gallery.embedder.fusion_weight)
    parts = zip(names, lists.index, lists.individual, lists.conditional, lists.farthest, strict=True)
    return {
        name: {names[i]: (a, b) for i, a, b in zip(index, individual, other, strict=True)} | {"farthest": (far, 0)}
        for name, index, individual, other, far in parts
    }


def assert_same_lists(found, expected):
    assert found.keys() == expected.keys()
    for name, neighbours in expected.items():
        assert found[name].keys() == neighbours.keys()
        for other, distances in neighbours.items():
            assert found[name][other] == pytest.approx(distances, abs=1e-5)


def test_a_query_is_ranked_as_the_batch_form_ranks_it_with_the_gallery(gallery, pictures, queries):
    gallery.add(pictures)
    assert gallery.keep_neighbours() == len(pictures)
    assert gallery.keep_neighbours() == 0  # nothing has changed
    assert_as_batch(gallery, queries)
    plain = gallery.search(queries[0], top_k=len(pictures))
    found = gallery.search(queries[0], top_k=len(pictures), neighbours=True)
    assert [hit.image for hit in found] != [hit.image for hit in plain]
    by_name = {hit.image: hit for hit in plain}
    for hit in found:  # all else is as it was
        told = by_name[hit.image]
        assert replace(hit, rank=told.rank, neighbour_distance=None) == told and told.neighbour_distance is None
    assert set(found.seconds) == {"embedding", "first_stage", "second_stage", "neighbours"}


def test_fewer_pictures_than_a_list_would_hold(gallery, pictures, queries):
    for count in (7, LISTED, LISTED + 1, LISTED + 2):
        gallery.add(pictures[:count])
        gallery.keep_neighbours()
        assert_as_batch(gallery, queries[:1])


@pytest.mark.parametrize("sizes", [(1, 1, 3, 8, 20), (20, 12, 1), (30, 2, 2)])
def test_pictures_added_in_several_commits_have_the_lists_of_all_at_once(model, pictures, sizes, tmp_path):
    """On the CPU: on a GPU a picture's clues are a little different in another batch, and int8 makes it a step."""
    gallery, together = (Gallery.create(tmp_path / name, model, device="cpu") for name in ("parts", "together"))
    together.add(pictures)
    together.keep_neighbours()
    left = list(reversed(pictures))
    for size in (*sizes, len(pictures)):
        gallery.add(left[:size])
        gallery.keep_neighbours()
        del left[:size]
    assert_same_lists(kept(gallery), kept(together))


def test_a_new_picture_costs_its_own_pairs_only(gallery, pictures, monkeypatch):
    measured = count_pairs(gallery, monkeypatch)
    gallery.add(pictures[:-1])
    gallery.keep_neighbours()
    assert len(measured) == len(set(map(frozenset, measured)))  # no pair twice, from whichever side
    lists = kept(gallery)
    edges = {frozenset((name, other)) for name, near in lists.items() for other in near if other != "farthest"}
    assert set(map(frozenset, measured)) == edges
    measured.clear()
    gallery.add(pictures[-1:])
    gallery.keep_neighbours()
    mine, lists = str(pictures[-1]), kept(gallery)
    near = {other for other in lists[mine] if other != "farthest"}
    near |= {name for name, theirs in lists.items() if mine in theirs}
    assert set(map(frozenset, measured)) == {frozenset((mine, other)) for other in near}
    assert len(measured) == len(near)
    measured.clear()
    gallery.remove([mine])
    gallery.keep_neighbours()
    lost = [name for name, theirs in lists.items() if mine in theirs]
    after = kept(gallery)
    filled = {frozenset((name, other)) for name in lost for other in after[name].keys() - lists[name].keys()}
    old = {frozenset((name, other)) for name, theirs in lists.items() for other in theirs}
    assert lost and set(map(frozenset, measured)) == filled - old and len(measured) == len(filled - old)


def count_pairs(gallery, monkeypatch):
    measured, real = [], StoredPairStage.between

    def counted(self, table, rows):
        some = real(self, table, rows)

        def of(positions):
            distances = some(positions)

            def measure(position, others):
                measured.extend((rows[position]["image"], rows[other]["image"]) for other in others)
                return distances(position, others)

            return measure

        return of

    monkeypatch.setattr(StoredPairStage, "between", counted)
    return measured


def test_what_is_removed_or_replaced_is_nobodys_neighbour(gallery, pictures, queries, tmp_path):
    mine = tmp_path / "mine.jpg"
    shutil.copy(pictures[0], mine)
    gallery.add([*pictures[1:], mine])
    gallery.keep_neighbours()
    gallery.remove(pictures[3:9])
    with pytest.raises(IncompleteNeighboursError, match=r"out of date: \d+ of .*optimize --gallery .*completes"):
        gallery.search(queries[0], neighbours=True)
    assert len(gallery.search(queries[0])) == 10
    gallery.keep_neighbours()
    assert_as_batch(gallery, queries[:1])
    shutil.copy(pictures[4], mine)
    gallery.add([mine, pictures[5]])  # the first is replaced, the second comes back
    with pytest.raises(IncompleteNeighboursError):
        gallery.search(queries[0], neighbours=True)
    gallery.keep_neighbours()
    assert_as_batch(gallery, queries)
    before = kept(gallery)
    again = shutil.copytree(gallery.path, tmp_path / "again.lance")
    shutil.rmtree(again / "neighbours.lance")
    made_anew = Gallery.open(again)
    made_anew.keep_neighbours()
    assert_same_lists(before, kept(made_anew))


def test_other_facts_of_a_picture_change_no_list(gallery, pictures):
    gallery.add(pictures)
    gallery.keep_neighbours()
    assert gallery.add(pictures[:2], camera=["c1", "c2"]).replaced == 2
    assert gallery.keep_neighbours() == 0
    assert len(gallery.search(pictures[0], neighbours=True)) == 10


def test_the_farthest_picture_is_missed_though_it_is_nobodys_neighbour(gallery, pictures):
    green = np.full((48, 24, 3), (0, 255, 0), np.uint8)
    gallery.add([*pictures, green])
    gallery.keep_neighbours()
    (name,) = {row["image"] for row in gallery._table.rows(None, ["image"])} - {str(path) for path in pictures}
    before = kept(gallery)
    assert not any(name in neighbours for neighbours in before.values())
    gallery.remove([name])
    with pytest.raises(IncompleteNeighboursError):
        gallery.search(pictures[0], neighbours=True)
    gallery.keep_neighbours()
    after = kept(gallery)
    assert any(after[name]["farthest"] < before[name]["farthest"] for name in after)
    shutil.rmtree(gallery.path / "neighbours.lance")
    gallery.keep_neighbours()
    assert_same_lists(after, kept(gallery))


@pytest.mark.parametrize("many", [True, False])
def test_erasing_leaves_nothing_of_a_removed_picture_in_the_lists(gallery, pictures, many):
    gallery.add(pictures if many else pictures[: LISTED + 1])
    gallery.keep_neighbours()
    sha256 = gallery._table.known([str(pictures[0])])[str(pictures[0])]["sha256"]
    key = key_of(str(pictures[0]), sha256).to_bytes(8, "little", signed=True)

    def there():
        return any(
            key in file.read_bytes() for file in (gallery.path / "neighbours.lance").rglob("*") if file.is_file()
        )

    assert there()
    gallery.remove(pictures[:1])
    gallery.optimize()
    assert there()  # an earlier version
    gallery.optimize(erase=True)
    assert not there()
    assert len(gallery.search(pictures[1], neighbours=True)) == min(10, len(gallery))


@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_whoever_is_stopped_leaves_lists_that_say_so_and_the_next_goes_on(
    gallery, pictures, queries, commits, monkeypatch, splits
):
    monkeypatch.setattr("cace_pyg.gallery.unfinished_lists._BATCH", 8)
    gallery.add(pictures[:25])
    gallery.keep_neighbours()
    gallery.remove(pictures[:2])
    gallery.add(pictures[25:])
    real, left = KeptNeighbours._write, [commits]

    def killed(self, keys, lists, rows):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, keys, lists, rows)

    monkeypatch.setattr(KeptNeighbours, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        gallery.keep_neighbours()
    monkeypatch.setattr(KeptNeighbours, "_write", real)
    with pytest.raises(IncompleteNeighboursError):
        gallery.search(queries[0], neighbours=True)
    gallery.remove([pictures[-1], pictures[3]])  # of those that may be in lists by now
    gallery.add([splits.train[0].path])
    gallery.keep_neighbours()
    assert_as_batch(gallery, queries[:1])
    before = kept(gallery)
    shutil.rmtree(gallery.path / "neighbours.lance")
    gallery.keep_neighbours()
    assert_same_lists(before, kept(gallery))


def keep_changing(path, pictures):
    """Remove and add some pictures and bring the lists up to date each time: until killed."""
    torch.set_num_threads(1)
    unfinished_lists._BATCH = 4
    gallery = Gallery.open(path)
    path.with_name("ready").write_text("ready")
    for count in itertools.count():
        some = pictures[count % 3 :: 3]
        for change in (gallery.remove, gallery.add):
            change(some)
            gallery.keep_neighbours()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_after_kill_9_the_next_command_makes_the_lists_that_all_pictures_at_once_would_have(gallery, pictures):
    gallery.add(pictures)
    gallery.keep_neighbours()
    ready, chosen = gallery.path.with_name("ready"), random.Random(0)
    for _ in range(2):
        kill_at_work(keep_changing, (gallery.path, pictures), ready, chosen.uniform(0, 0.8))
        ready.unlink()
        again = Gallery.open(gallery.path)
        again.add(pictures)
        again.keep_neighbours()
        found = kept(again)
        shutil.rmtree(again.path / "neighbours.lance")
        again.keep_neighbours()
        assert len(found) == len(pictures)
        assert_same_lists(found, kept(again))


def form_of_seen(gallery, picture, seen):
    """The batch form's distances by name where the query stands in the lists of some pictures only.

    Args:
        seen: names of the pictures that the second stage has looked at.
    """
    names, query, others = set_of(gallery, picture)
    config, weight, ask = gallery.embedder.config, gallery.embedder.fusion_weight, pair_distances(gallery)
    images = one_set(query.embedding, others.embedding)
    distance = euclidean_distance(images.embedding, images.embedding).fill_diagonal_(0)
    closed = distance.clone().fill_diagonal_(-1)
    closed[[i for i, name in enumerate(names, start=1) if name not in seen], 0] = torch.inf
    index = top_k(closed, LISTED + 1)
    graph = NeighbourGraph(images.embedding, index, distance.gather(1, index), distance.amax(1))
    both = Extraction((), images.embedding, PairOperand.concatenate([query.prepared, others.prepared]))
    conditional = ask(both, both, [*index[:, 1:]]).view(len(images), LISTED)
    looked_at = torch.tensor([[i for i, name in enumerate(names) if name in seen]])
    second = SecondStage(looked_at, ask(query, others, [*looked_at]).view(looked_at.shape))
    found = Neighbours(images, graph, second, conditional).ranking(config.k_reciprocal, weight, weight)
    return dict(zip(names, found.whole()[0].tolist(), strict=True))


def test_with_fewer_pairs_a_query_enters_the_lists_of_those_it_was_paired_with(gallery, pictures, queries):
    """The one difference to the batch form: a picture that the second stage did not see keeps its list as it was."""
    gallery.add(pictures)
    gallery.keep_neighbours()
    for picture in queries:
        for first_stage in (FIRST_STAGE, 2):  # at least those that are listed are looked at
            found = gallery.search(picture, len(pictures), first_stage=first_stage, neighbours=True)
            seen = {hit.image for hit in found.first_stage[: max(first_stage, LISTED)]}
            expected = pytest.approx(form_of_seen(gallery, picture, seen), abs=1e-5)
            assert {hit.image: hit.neighbour_distance for hit in found} == expected
            assert sum(hit.conditional is not None for hit in found) == first_stage


def test_a_filter_chooses_hits_and_neighbours_are_those_of_the_whole_gallery(gallery, pictures, queries, splits):
    gallery.add(pictures, camera=[f"c{sample.camid}" for sample in splits.gallery])
    gallery.keep_neighbours()
    nearest = [hit.image for hit in gallery.search(queries[0], LISTED).first_stage]
    found = gallery.search(queries[0], len(pictures), "camera = 'c2'", len(pictures), neighbours=True)
    assert len(found) == sum(sample.camid == 2 for sample in splits.gallery)
    expected = form_of_seen(gallery, queries[0], {*nearest, *(hit.image for hit in found)})
    for hit in found:
        assert hit.camera == "c2" and hit.neighbour_distance == pytest.approx(expected[hit.image], abs=1e-5)
    assert len(gallery.search(queries[0], where="camera = 'nobody'", neighbours=True)) == 0


@pytest.mark.parametrize("numbers", [(6, 1, 0.3), (9, 9, 0.0), (1, 1, 1.0), (4, 2, 0.5)])
def test_other_numbers(gallery, pictures, queries, numbers):
    gallery.add(pictures)
    names = ("k1", "k2", "original_weight")
    chosen = [f"--k_reciprocal.{name}={number}" for name, number in zip(names, numbers, strict=True)]
    other = Gallery.open(gallery.path, overrides=[*chosen, "--evaluation.fusion=0.8"])
    other.keep_neighbours()
    assert_as_batch(other, queries[:1])


def test_two_who_complete_lists_at_once_take_turns(gallery, pictures, monkeypatch):
    gallery.add(pictures[:20])
    gallery.keep_neighbours()
    gallery.add(pictures[20:22])
    other, began, threads = Gallery.open(gallery.path), threading.Event(), []
    real = KeptNeighbours._write

    def write(self, keys, lists, rows):
        if not threads:  # the first, before its first commit
            gallery.add(pictures[22:])
            threads.append(threading.Thread(target=lambda: (began.set(), other.keep_neighbours())))
            threads[0].start()
            assert began.wait(10)
            threads[0].join(0.2)
            assert threads[0].is_alive()
        real(self, keys, lists, rows)

    monkeypatch.setattr(KeptNeighbours, "_write", write)
    gallery.keep_neighbours()
    threads[0].join()
    found = kept(gallery)
    shutil.rmtree(gallery.path / "neighbours.lance")
    gallery.keep_neighbours()
    assert_same_lists(found, kept(gallery))


def test_without_a_second_stage_the_individual_embeddings_decide(gallery, pictures, queries, monkeypatch):
    gallery.add(pictures)
    alone = Gallery.open(gallery.path, overrides=["--evaluation.fusion=0"])
    measured = count_pairs(alone, monkeypatch)
    alone.keep_neighbours()
    assert measured == []
    assert_as_batch(alone, queries[:1])
    with pytest.raises(IncompleteNeighboursError):  # whose pair stage has a say
        gallery.search(queries[0], neighbours=True)
    assert gallery.keep_neighbours() == len(pictures) and measured
    assert_as_batch(gallery, queries[:1])
    assert_as_batch(alone, queries[:1])


def test_what_is_refused(gallery, pictures, queries, tiny, tmp_path):
    gallery.add(pictures[:4])
    with pytest.raises(
        FileNotFoundError, match=r"no neighbours are kept at .*search index FOLDER .*--neighbours keeps"
    ):
        gallery.search(queries[0], neighbours=True)
    gallery.keep_neighbours()
    with pytest.raises(ValueError, match=r"k_reciprocal.k1 below the number of pictures, 4 \(got 6\); add more"):
        gallery.search(queries[0], neighbours=True)
    with pytest.raises(ValueError, match="Expected false_alarms or neighbours, not both"):
        gallery.search(queries[0], first_stage=5, false_alarms=0.1, neighbours=True)
    short = make_checkpoint(tmp_path / "short.ckpt", tiny, **{"neighbours.candidates": 5})
    with pytest.raises(ValueError, match=r"k_reciprocal.k1 of at most neighbours.candidates, 5 \(got 20\)"):
        Gallery.create(tmp_path / "short.lance", short).keep_neighbours()
    assert not (tmp_path / "short.lance" / "neighbours.lance").exists()


def test_a_damaged_list_is_an_error_that_names_the_remedy(gallery, pictures):
    gallery.add(pictures)
    gallery.keep_neighbours()
    table = KeptNeighbours(gallery.path)._table
    key, blob = (table.search().limit(1).to_arrow()[name][0].as_py() for name in ("key", "list"))
    changed = blob[:30] + bytes([blob[30] ^ 1]) + blob[31:]
    table.update(where=f"key = {key}", values={"list": changed})
    for use in (lambda: gallery.search(pictures[0], neighbours=True), gallery.keep_neighbours):
        with pytest.raises(UnreadableTableError, match=r"a list changed on disk; delete .*neighbours.lance and make"):
            use()
    shutil.rmtree(gallery.path / "neighbours.lance")
    gallery.keep_neighbours()
    assert len(gallery.search(pictures[0], neighbours=True)) == 10


def test_the_command_keeps_neighbours_and_ranks_by_them(model, pictures, queries, tmp_path, capsys):
    folder, path = tmp_path / "crops", str(tmp_path / "people.lance")
    folder.mkdir()
    for picture in pictures[:15]:
        shutil.copy(picture, folder)
    index = ["index", str(folder), "--gallery", path]
    query = ["query", str(queries[0]), "--gallery", path, "--neighbours"]
    assert search([*index, "--checkpoint", str(model)]) == 0
    assert "neighbours" not in capsys.readouterr().out
    assert search(query) == 2 and "no neighbours are kept" in capsys.readouterr().err
    assert search([*index, "--neighbours"]) == 0
    assert "15 pictures, each with its neighbours" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match=r"neighbours as True or False \(got 10\): a gallery re-ranks with its model's"
    ):
        Gallery.open(path).search(queries[0], neighbours=10)
    assert search([*query, "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    gallery = Gallery.open(path)
    expected = gallery.search(queries[0], neighbours=True)
    assert [(hit["image"], hit["neighbour_distance"]) for hit in hits] == [
        (hit.image, hit.neighbour_distance) for hit in expected
    ]
    assert search([*query, "--figure", str(tmp_path / "hits.svg")]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["rank", "was", "neighbours", "distance"]
    assert first.split()[2] == f"{expected[0].neighbour_distance:.4f}"
    for change in (  # lists stay complete without being asked for
        ["remove", str(next(folder.iterdir())), "--gallery", path],
        ["add", str(pictures[20]), "--gallery", path],
        index,
        ["optimize", "--erase", "--gallery", path],
    ):
        assert search(change) == 0
        assert len(kept(gallery)) == len(gallery)
    told = capsys.readouterr().out
    assert "neighbours kept: of 16 pictures, 9 each" in told
    gallery.remove([pictures[20]])  # by another program
    assert search(query) == 2 and "are out of date" in capsys.readouterr().err
    gallery.optimize()
    assert len(kept(gallery)) == 15


def test_a_gallery_that_could_not_rank_by_neighbours_is_not_made(tiny, pictures, tmp_path, capsys):
    folder, path = tmp_path / "crops", tmp_path / "people.lance"
    folder.mkdir()
    for picture in pictures[:5]:
        shutil.copy(picture, folder)
    index = ["index", str(folder), "--gallery", str(path), "--neighbours", "--checkpoint"]
    short = make_checkpoint(tmp_path / "short.ckpt", tiny, **{"neighbours.candidates": 10})
    assert search([*index, str(short)]) == 2 and not path.exists()
    assert "at most neighbours.candidates, 10 (got 20); a gallery's lists are not longer" in capsys.readouterr().err
    assert search([*index, str(make_checkpoint(tmp_path / "usual.ckpt", tiny))]) == 0
    assert "needs more than 20 pictures (k_reciprocal.k1), and the gallery has 5" in capsys.readouterr().err
