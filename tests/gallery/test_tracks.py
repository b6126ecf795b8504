"""Tracks in a gallery: one entry each, asked about by one picture or several, and removed for good."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from cace_pyg import Gallery
from cace_pyg.engine.checkpoint import load_checkpoint, save_checkpoint
from cace_pyg.gallery import Embedder
from cace_pyg.gallery.page import gallery_page
from cace_pyg.retrieval import choose_views, merge_embeddings
from cace_pyg.retrieval.picture_sets import SOFTNESS
from cace_pyg.search import main as search
from tests.gallery.test_probability import CALIBRATION

VIEWS = 4


# Camera, track and pictures: one track is longer than its views, and two share a value on different cameras.
TRACKS = [
    ("c0", "0", 6),
    ("c1", "1", 3),
    ("c0", "2", 3),
    ("c1", "3", 3),
    ("c0", "4", 3),
    ("c9", "4", 3),
    ("c9", "0", 2),
]
IN_TRACKS = sum(size for _, _, size in TRACKS)


@pytest.fixture(scope="module")
def facts(pictures):
    """Cameras and metadata; the pictures after the tracks are by themselves."""
    told = [(camera, {"track": track}) for camera, track, size in TRACKS for _ in range(size)]
    cameras, metadata = zip(*(told + [("c1", {})] * (len(pictures) - len(told))), strict=True)
    return list(cameras), list(metadata)


@pytest.fixture(scope="module")
def gallery(checkpoint, pictures, facts, tmp_path_factory):
    made = Gallery.create(tmp_path_factory.mktemp("tracks") / "people.lance", checkpoint, "float16")
    made.add(pictures, facts[0], metadata=facts[1])
    return made


@pytest.fixture(scope="module")
def embedder(checkpoint):
    return Embedder(checkpoint)


def groups(pictures, facts):
    """Positions of the pictures of each entry, by camera and track."""
    found = {}
    for number, (camera, told) in enumerate(zip(*facts, strict=True)):
        found.setdefault((camera, told["track"]) if told else number, []).append(number)
    return list(found.values())


def by_hand(embedder, query, pictures, facts):
    """Each entry's fused distance by loops over pictures, all of them looked at."""
    asked, there = embedder(query), embedder(pictures)
    of_query, of_gallery = (side.prepared.to(embedder.device) for side in (asked, there))
    near = choose_views(asked.embedding, VIEWS).tolist()
    mean, weight = merge_embeddings(asked.embedding), embedder.fusion_weight
    distances = {}
    for members in groups(pictures, facts):
        embedding = there.embedding[members]
        pairs = [
            float(embedder.model.pair_stage.distance(
                of_query.select(slice(a, a + 1)), of_gallery.select(slice(members[b], members[b] + 1))
            ))
            for a in near for b in choose_views(embedding, VIEWS).tolist()
        ]  # fmt: skip
        soft = -SOFTNESS * math.log(sum(math.exp(-distance / SOFTNESS) for distance in pairs) / len(pairs))
        individual = float((mean - merge_embeddings(embedding)).norm())
        distances[frozenset(str(pictures[member]) for member in members)] = (1 - weight) * individual + weight * soft
    return distances


def members_of(hit):
    return frozenset(hit.pictures or [hit.image])


@pytest.mark.parametrize("shots", [1, 3, 6])
@torch.no_grad()
def test_entries_are_ranked_by_their_means_and_all_pairs_of_their_views(
    gallery, embedder, pictures, splits, facts, shots
):
    assert embedder.fusion_weight > 0
    query = [sample.path for sample in splits.query[:shots]]
    expected = by_hand(embedder, query, pictures, facts)
    found = gallery.search(query, top_k=1000, first_stage=1000, together=True)
    assert [hit.rank for hit in found] == list(range(1, len(expected) + 1))
    assert {members_of(hit) for hit in found} == set(expected) and len(expected) == len(pictures) - IN_TRACKS + 7
    for hit in found:
        assert hit.distance == pytest.approx(expected[members_of(hit)], abs=3e-3)  # clues are kept in half precision
        assert not hit.pictures or hit.image in hit.pictures
    assert [hit.distance for hit in found] == sorted(hit.distance for hit in found)


def test_a_track_is_one_hit_with_the_view_that_is_nearest(gallery, embedder, pictures, splits):
    query = splits.query[0].path
    found = gallery.search(query, top_k=1000, first_stage=1000)
    tracks = [hit for hit in found if hit.pictures]
    assert len(tracks) == 7 and sum(len(hit.pictures) for hit in tracks) == IN_TRACKS
    for hit in tracks[:2]:
        asked, views = embedder([query]), embedder(hit.pictures)
        chosen = choose_views(views.embedding, VIEWS).tolist()
        with torch.no_grad():
            prepared = (side.prepared.to(embedder.device) for side in (asked, views))
            distance = embedder.model.pair_stage.distance(*prepared)
        nearest = min(chosen, key=lambda view: float(distance[view]))
        assert float(distance[hit.pictures.index(hit.image)]) == pytest.approx(float(distance[nearest]), abs=2e-3)


def test_pictures_of_one_value_on_two_cameras_are_two_tracks(gallery, splits):
    found = gallery.search(splits.query[0].path, top_k=1000)
    of_four = [hit for hit in found if hit.metadata["track"] == "4"]
    assert sorted(hit.camera for hit in of_four) == ["c0", "c9"]
    assert all(len(hit.pictures) == 3 for hit in of_four)


def test_a_filter_lets_a_track_through_for_one_of_its_pictures(gallery, splits, pictures):
    wanted = [str(path) for path in (pictures[2], pictures[4], pictures[6], pictures[-1])]
    where = "image in (" + ", ".join(f"'{path}'" for path in wanted) + ")"
    found = gallery.search(splits.query[0].path, where=where)
    assert sorted(len(hit.pictures) for hit in found) == [0, 3, 6]
    everywhere = {members_of(hit): hit.distance for hit in gallery.search(splits.query[0].path, 100, first_stage=100)}
    assert all(everywhere[members_of(hit)] == pytest.approx(hit.distance) for hit in found)
    assert len(gallery.search(splits.query[0].path, where="camera = 'nowhere'")) == 0


def test_quality_weighs_the_pictures_of_a_track(checkpoint, embedder, pictures, splits, tmp_path):
    made = Gallery.create(tmp_path / "people.lance", checkpoint, "float16")
    quality = [0.1, 0.9, 0.4]
    made.add(pictures[:3], ["c1"] * 3, metadata=[{"track": 7, "quality": value} for value in quality])
    (hit,) = made.search(splits.query[0].path)
    asked, there = embedder([splits.query[0].path]).embedding[0], embedder(pictures[:3]).embedding
    mean = merge_embeddings(there, torch.tensor(quality))
    assert hit.individual == pytest.approx(float((asked - mean).norm()), abs=1e-3)
    made.add(pictures[3:4], ["c1"], metadata=[{"track": 7, "quality": -1.0}])
    with pytest.raises(ValueError, match=r"numbers of 0 or more in the column quality.*\(got -1.0 for"):
        made.search(splits.query[0].path)


def test_together_without_tracks_ranks_pictures(shown_gallery, embedder, pictures, splits):
    query = [sample.path for sample in splits.query[:3]]
    found = shown_gallery.search(query, top_k=5, together=True)
    assert len(found) == 5 and all(hit.pictures == () and hit.probability is None for hit in found)
    alone = shown_gallery.search(query[:1], top_k=5, together=True)
    assert [hit.image for hit in alone] == [hit.image for hit in shown_gallery.search(query[0], top_k=5)]
    assert {hit.query_picture for hit in found} <= {0, 1, 2}
    assert isinstance(shown_gallery.search(query), list)


def test_the_nearest_of_the_pictures_explains_a_hit(shown_gallery, splits):
    query = [sample.path for sample in splits.query[:3]]
    hit = max(shown_gallery.search(query, together=True), key=lambda hit: hit.query_picture)
    explained = shown_gallery.explain(query, hit)
    alone = shown_gallery.explain(query[hit.query_picture], hit)
    assert explained.verdict == alone.verdict and (explained.view.discrepancy_a == alone.view.discrepancy_a).all()
    with pytest.raises(ValueError, match="Expected the pictures that the hit was found for"):
        shown_gallery.explain([], hit)


@pytest.mark.parametrize("option", [{"false_alarms": 0.1}, {"neighbours": True}])
def test_what_is_learned_of_single_pictures_is_refused(gallery, shown_gallery, splits, option):
    with pytest.raises(ValueError, match=f"Expected no {next(iter(option))} if the gallery has tracks"):
        gallery.search(splits.query[0].path, **option)
    with pytest.raises(ValueError, match=f"Expected no {next(iter(option))} if pictures are searched together"):
        shown_gallery.search([sample.path for sample in splits.query[:2]], together=True, **option)
    with pytest.raises(ValueError, match="Expected at least one picture"):
        shown_gallery.search([], together=True)


def test_a_removed_track_is_gone_from_answers_and_after_erasing_from_the_disk(
    checkpoint, pictures, splits, facts, tmp_path
):
    path = tmp_path / "people.lance"
    made = Gallery.create(path, checkpoint)
    made.add(pictures, facts[0], metadata=facts[1])
    victims = [str(path) for path in pictures[6:9]]
    before = made.search(splits.query[0].path, 100, first_stage=100)
    assert any(set(hit.pictures) == set(victims) for hit in before)
    with torch.no_grad():
        clues = made._table.parts_of(victims[0], ["clues", "thumbnail"])
    assert search(["remove", "--gallery", str(path), "--where", "camera = 'c1' and track = '1'"]) == 0
    after = made.search(splits.query[0].path, 100, first_stage=100)
    assert len(after) == len(before) - 1 and not any(set(hit.pictures) & set(victims) for hit in after)
    assert [members_of(hit) for hit in after] == [
        members_of(hit) for hit in before if set(hit.pictures) != set(victims)
    ]
    made.remove(victims[:1])  # nobody
    made.remove([pictures[0]])  # one picture of a track: its mean is that of the others
    (left,) = (
        hit for hit in made.search(splits.query[0].path, 100, first_stage=100) if str(pictures[1]) in hit.pictures
    )
    assert set(left.pictures) == {str(path) for path in pictures[1:6]}
    made.optimize(erase=True)
    on_disk = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
    assert clues["clues"] not in on_disk and clues["thumbnail"] not in on_disk
    assert not any(name.encode() in on_disk for name in victims)


def test_probabilities_are_those_of_single_pictures_alone(checkpoint, pictures, splits, facts, tmp_path):
    state = load_checkpoint(checkpoint)
    del state["format"]
    best = tmp_path / "best.ckpt"
    save_checkpoint(best, state | {"calibration": CALIBRATION.as_dict()})
    made = Gallery.create(tmp_path / "people.lance", best)
    made.add(pictures, facts[0], metadata=facts[1])
    query = [sample.path for sample in splits.query[:2]]
    found = made.search(query[0], 100, first_stage=100)
    entries = len(pictures) - IN_TRACKS + 7
    for hit in found:
        expected = None if hit.pictures else float(CALIBRATION.probability(np.array(hit.distance), entries))
        assert hit.probability == (expected if expected is None else pytest.approx(expected))
    assert any(hit.probability is not None for hit in found)
    assert all(hit.probability is None for hit in made.search(query, together=True))


def test_tracks_that_keep_the_clues_of_their_views_alone_answer_as_before(
    checkpoint, pictures, splits, facts, tmp_path, capsys
):
    path = tmp_path / "people.lance"
    made = Gallery.create(path, checkpoint)
    made.add(pictures[:9], facts[0][:9], metadata=facts[1][:9])  # tracks of six and of three pictures
    query = [sample.path for sample in splits.query[:2]]
    before = made.search(query, together=True)
    assert search(["optimize", "--views_alone", "--gallery", str(path)]) == 0
    after = made.search(query, together=True)
    assert [(hit.image, hit.distance, hit.pictures) for hit in after] == [
        (hit.image, hit.distance, hit.pictures) for hit in before
    ]
    blobs = {str(path): made._table.parts_of(str(path), ["clues"])["clues"] for path in pictures[:9]}
    bare = [name for name, blob in blobs.items() if not blob]
    assert len(bare) == 2 and set(bare) < {str(path) for path in pictures[:6]}
    assert made.thumbnail(bare[0])

    hit = next(hit for hit in after if bare[0] in hit.pictures)
    with pytest.raises(ValueError, match="is no longer a view of its track"):
        made.explain(query, replace(hit, image=bare[0]))
    assert "there already: 9" in str(made.add(pictures[:9], facts[0][:9], metadata=facts[1][:9]))
    with pytest.raises(ValueError, match="Expected clues of every picture, to keep neighbours"):
        made.keep_neighbours()
    assert not made.keeps_neighbours
    views = [str(path) for path in pictures[:6] if str(path) not in bare]
    with pytest.raises(ValueError, match=r"got all views of a track of which 2 pictures would stay"):
        made.remove(views)
    assert len(made) == 9
    assert made.remove(views[:3]) == 3
    made._table.remove_images(views)  # as another process that dropped no clues yet when it looked
    with pytest.raises(ValueError, match=r"at least one picture of each track \(got none for the track of"):
        made.search(query, together=True)
    assert made.remove(bare) == 2
    assert [len(hit.pictures) for hit in made.search(query, together=True)] == [3]


def test_kept_neighbours_are_those_of_all_pictures(checkpoint, pictures, facts, tmp_path):
    made = Gallery.create(tmp_path / "people.lance", checkpoint)
    made.add(pictures, facts[0], metadata=facts[1])
    made.keep_neighbours()
    with pytest.raises(ValueError, match="Expected no kept neighbours, to drop all clues but those of the views"):
        made.optimize(views_alone=True)


def test_the_page_shows_a_track_as_one_hit(gallery, splits):
    client = TestClient(gallery_page(gallery, ["testserver"]))
    answer = client.post("/search", params={"top_k": 50}, content=splits.query[0].path.read_bytes()).json()
    found = gallery.search(splits.query[0].path, 50)
    assert [hit.get("pictures", []) for hit in answer["hits"]] == [list(hit.pictures) for hit in found]
    track = next(hit for hit in answer["hits"] if hit.get("pictures"))
    drawn = client.get("/explain", params={"query": answer["query"], "image": track["image"]})
    assert drawn.status_code == 200 and drawn.content.startswith(b"\x89PNG")


def test_from_a_folder_with_a_pattern_to_an_answer(pictures, checkpoint, splits, tmp_path, capsys):
    folder, path = tmp_path / "crops", tmp_path / "people.lance"
    for number, picture in enumerate(pictures[:12]):
        (folder / f"c{number // 6}").mkdir(parents=True, exist_ok=True)
        (folder / f"c{number // 6}" / f"t{number // 3}_{number}.jpg").write_bytes(picture.read_bytes())
    index = ["index", str(folder), "--gallery", str(path), "--checkpoint", str(checkpoint)]
    assert search([*index, "--pattern", r"(?P<camera>c\d)/t(?P<track>\d+)"]) == 0
    query = [str(sample.path) for sample in splits.query[:3]]
    capsys.readouterr()
    assert search(["query", *query, "--together", "--gallery", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all("3 pictures" in line and "track=" in line for line in lines[1:5])
    assert search(["query", *query, "--together", "--gallery", str(path), "--json", "--top_k", "1"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)
    assert len(hit["pictures"]) == 3 and hit["image"] in hit["pictures"]
    assert search(["stats", "--gallery", str(path)]) == 0
    assert "tracks: 4, each one entry" in capsys.readouterr().out
    assert search(["query", *query, "--gallery", str(path)]) == 2
    assert "Expected one picture (got 3); if they show one person, give --together" in capsys.readouterr().err
    figure = tmp_path / "hits.png"
    assert search(["query", *query, "--together", "--gallery", str(path), "--figure", str(figure)]) == 0
    assert figure.stat().st_size > 10_000
