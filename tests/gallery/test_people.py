"""Pictures of a gallery joined into people: what is obeyed, what stays, what is explained, and what goes."""

import csv
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from cace_pyg import Gallery
from cace_pyg.data.own_pictures import read_manifest
from cace_pyg.engine.checkpoint import load_checkpoint, save_checkpoint
from cace_pyg.gallery.people import IdentifySettings, People
from cace_pyg.models import PairStage
from cace_pyg.retrieval import Calibration
from tests.random_checkpoint import make_checkpoint

NUMBERS = {"neighbours.candidates": 9, "k_reciprocal.k1": 6, "k_reciprocal.k2": 3}
AT_ZERO, FALL = 31.7, 100.0  # log-odds: even at 0.317, a fifth of the pairs of these pictures below
NOON = datetime(2026, 1, 31, 12)


@pytest.fixture(scope="module")
def calibrated(tiny, tmp_path_factory):
    """Random weights, with probabilities of fused distances that split the pairs of these pictures."""
    folder = tmp_path_factory.mktemp("calibrated")
    state = load_checkpoint(make_checkpoint(folder / "plain.ckpt", tiny, **NUMBERS))
    line = ((0.0, AT_ZERO), (1.0, AT_ZERO - FALL))
    weight = state["fusion_weight"]
    curve = Calibration("logistic", line, weight, 100, 50, 30, 1000.0, 0.01, ((0.5, 30.0),), (0.0, 1.0))
    del state["format"]
    save_checkpoint(folder / "best.ckpt", state | {"calibration": curve.as_dict()})
    return folder / "best.ckpt"


@pytest.fixture
def gallery(calibrated, tmp_path):
    return Gallery.create(tmp_path / "people.lance", calibrated)


def add(gallery, splits, some=slice(None), **others):
    samples = splits.gallery[some]
    cameras = [f"c{sample.camid}" for sample in samples]
    gallery.add([sample.path for sample in samples], cameras, **others)


def numbers(gallery):
    return {row["image"]: row["person"] for row in gallery.told()}


def groups(found):
    return {frozenset(name for name in found if found[name] == person) for person in found.values()}


def test_everybody_has_a_number_and_a_confidence_and_filters_know_them(gallery, splits):
    add(gallery, splits)
    done = People(gallery).identify()
    found = numbers(gallery)
    assert done.pictures == len(found) == len(gallery) and done.people == len(set(found.values())) == done.fresh
    assert set(found.values()) == set(range(1, done.people + 1)) and 1 < done.people < len(found)
    rows = gallery.told()
    assert all(0 <= row["person_confidence"] <= 1 for row in rows)
    somebody = max(set(found.values()), key=list(found.values()).count)
    hits = gallery.search(splits.query[0].path, 100, where=f"person = {somebody}")
    assert {hit.image for hit in hits} == {name for name, person in found.items() if person == somebody}
    assert len(Gallery.open(gallery.path).search(splits.query[0].path, 100)) == len(found)  # check sums hold
    assert Gallery.open(gallery.path).thumbnail(rows[0]["image"])


def test_the_confidence_is_the_mean_of_the_pairs_of_a_person(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    rows, lists = gallery.told_with_neighbours()
    person = [row["person"] for row in rows]
    pairs = {}
    for place, (near, distances) in enumerate(zip(lists.index, lists.fused(), strict=True)):
        for other, distance in zip(near, distances, strict=True):
            pairs[frozenset((place, int(other)))] = expit(AT_ZERO - FALL * distance)
    for place, row in enumerate(rows):
        mine = {next(iter(pair - {place})): sure for pair, sure in pairs.items() if place in pair}
        within = [sure for other, sure in mine.items() if person[other] == person[place]]
        expected = np.mean(within) if within else 1 - max(mine.values())
        assert row["person_confidence"] == pytest.approx(expected, abs=0.00501)


def test_identifying_again_changes_nothing_and_measures_nothing(gallery, splits, monkeypatch):
    add(gallery, splits)
    People(gallery).identify()
    version, before = gallery._table.version, gallery.told()
    monkeypatch.setattr(PairStage, "distance", lambda *_: pytest.fail("a pair was measured again"))
    again = People(Gallery.open(gallery.path)).identify()
    assert (again.changed, again.fresh) == (0, 0) and gallery.told() == before
    assert gallery._table.version == version


def test_new_pictures_join_or_found_people_and_nobodys_number_changes(gallery, splits):
    add(gallery, splits, slice(0, None, 2))
    people = People(gallery)
    people.identify()
    before = numbers(gallery)
    add(gallery, splits, slice(1, None, 2))
    done = people.identify()
    after = numbers(gallery)
    assert {name: after[name] for name in before} == before
    fresh = {after[name] for name in after.keys() - before.keys()}
    assert fresh & set(before.values()), "none joined"
    assert done.changed == 0 and done.fresh == len(fresh - set(before.values()))


def test_who_is_stopped_before_the_end_leaves_everybody_as_before(gallery, splits, monkeypatch):
    add(gallery, splits)
    monkeypatch.setattr(Gallery, "tell", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        People(gallery).identify()
    assert all(row.get("person") is None for row in gallery.told())
    monkeypatch.undo()
    monkeypatch.setattr(PairStage, "distance", lambda *_: pytest.fail("a pair was measured again"))
    People(gallery).identify()
    assert None not in numbers(gallery).values()


def test_anew_gives_those_of_all_at_once_under_their_old_numbers(gallery, calibrated, splits, tmp_path):
    together = Gallery.create(tmp_path / "together.lance", calibrated)
    add(together, splits)
    People(together).identify()
    add(gallery, splits, slice(0, 20))
    people = People(gallery)
    people.identify()
    before = numbers(gallery)
    add(gallery, splits)
    people.identify(anew=True)
    after = numbers(gallery)
    assert groups(after) == groups(numbers(together))
    kept = {person for person in before.values() if any(after[name] == person == before[name] for name in before)}
    assert kept
    for group in groups(after):
        old = [before[name] for name in group if name in before]
        (number,) = {after[name] for name in group}
        assert number in old or number > max(before.values()) or not old


def pair_of(gallery, same):
    """Two pictures that are one person by now, or two."""
    found = numbers(gallery)
    return next((a, b) for a in found for b in found if a < b and (found[a] == found[b]) == same)


def test_what_people_say_is_obeyed_at_once_and_ever_after(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    a, b = pair_of(gallery, same=True)
    c, d = pair_of(gallery, same=False)
    before = numbers(gallery)
    people.say(a, b, same=False)
    people.say(c, d, same=True)
    people.identify()
    found = numbers(gallery)
    assert found[a] != found[b] and found[c] == found[d] in (before[c], before[d])
    add(gallery, splits)
    for again in (people, People(Gallery.open(gallery.path))):
        again.identify(anew=True)
        found = numbers(gallery)
        assert found[a] != found[b] and found[c] == found[d]
    people.say(b, a, same=True)  # the other way round: what was said before no longer holds
    people.identify()
    assert numbers(gallery)[a] == numbers(gallery)[b] and len(people.corrections.read()) == 2
    people.take_back(a, b)
    with pytest.raises(ValueError, match="Expected two pictures with a correction"):
        people.take_back(a, b)


def test_those_who_are_joined_keep_the_lower_number_and_numbers_are_never_given_twice(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    found = numbers(gallery)
    last = max(found.values())
    a = next(name for name in found if found[name] == last)
    b = next(name for name in found if found[name] == 1)
    people.say(a, b, same=True)
    people.identify()
    assert {numbers(gallery)[name] for name in found if found[name] in (1, last)} == {1}
    people.say(a, b, same=False)
    people.identify()
    assert numbers(gallery)[b] == 1 and numbers(gallery)[a] > last


def test_contradictions_are_refused_with_the_way(gallery, splits):
    add(gallery, splits, slice(0, 5))
    people = People(gallery)
    a, b, c, d, _ = sorted(row["image"] for row in gallery.told())
    people.say(a, b, same=True)
    people.say(b, c, same=True)
    a_, b_, c_ = (Path(image).name for image in (a, b, c))
    with pytest.raises(ValueError, match=f"{a_} and {c_} are said not to be one person, but .* = {b_} = .*--take_back"):
        people.say(a, c, same=False)
    people.say(c, d, same=False)
    with pytest.raises(ValueError, match="Take one of these back"):
        people.say(d, a, same=True)
    with pytest.raises(ValueError, match="Expected two pictures"):
        people.say(a, a, same=True)
    with pytest.raises(ValueError, match="elsewhere.jpg, which is not"):
        people.say(a, "elsewhere.jpg", same=True)
    assert [(said.same, {said.image_a, said.image_b}) for said in people.corrections.read()] == [
        (True, {a, b}), (True, {b, c}), (False, {c, d})
    ]  # fmt: skip


def test_a_track_is_one_person_and_two_at_once_in_one_camera_are_two(gallery, splits):
    samples = splits.gallery
    taken = [NOON + timedelta(seconds=i // 3) for i in range(len(samples))]
    told = [{"track": i // 8} if i < 24 else {} for i in range(len(samples))]
    gallery.add([sample.path for sample in samples], ["c1"] * len(samples), taken, told)
    people = People(gallery)
    people.identify(IdentifySettings(0.03))
    found = numbers(gallery)
    names = [str(sample.path) for sample in samples]
    for track in range(3):
        assert len({found[name] for name in names[8 * track : 8 * track + 8]}) == 1
    assert found[names[0]] != found[names[8]] != found[names[16]]  # 0–2, 2–5 and 5–7 s overlap at their ends
    for first in range(24, len(names) - 2, 3):
        assert len({found[name] for name in names[first : first + 3]}) == 3
    people.say(names[0], names[1], same=False)  # a person knows better than the tracker
    people.say(names[24], names[25], same=True)  # and than the clock
    people.identify()
    found = numbers(gallery)
    assert found[names[0]] != found[names[1]] and found[names[24]] == found[names[25]]
    joined = people.explain(names[24], names[25])
    assert joined.same and [join.why for join in joined.chain] == ["said"]
    apart = people.explain(names[8], names[16])
    assert not apart.same and any("one camera at one time" in reason for reason in apart.forbidden)
    people.identify(IdentifySettings(0.03, ignore_times=True), anew=True)
    assert People(Gallery.open(gallery.path)).settings == IdentifySettings(0.03, True)


def test_times_that_say_two_where_pictures_look_like_one_are_doubted(gallery, splits):
    content = splits.gallery[0].path.read_bytes()
    paths = [gallery.path.parent / f"{i}.jpg" for i in range(12)]
    for path in paths:
        path.write_bytes(content)
    gallery.add(paths, ["c1"] * 12, [NOON] * 12)
    people = People(gallery)
    assert people.identify().doubted > 30 and len(set(numbers(gallery).values())) == 12
    assert people.identify(IdentifySettings(ignore_times=True), anew=True).doubted is None
    assert len(set(numbers(gallery).values())) == 1


def test_a_join_is_explained_by_the_pairs_that_made_it(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    rows, lists = gallery.told_with_neighbours()
    fused = lists.fused()
    distance = {
        (rows[position]["image"], rows[int(other)]["image"]): fused[position, place]
        for position, near in enumerate(lists.index) for place, other in enumerate(near)
    }  # fmt: skip
    a, b = pair_of(gallery, same=True)
    found = people.explain(a, b)
    assert found.same and found.chain[0].a == a and found.chain[-1].b == b
    for join, following in zip(found.chain, found.chain[1:], strict=False):
        assert join.b == following.a
    for join in found.chain:
        told = distance.get((join.a, join.b), distance.get((join.b, join.a)))
        assert join.distance == pytest.approx(told) and join.probability == pytest.approx(
            expit(AT_ZERO - FALL * told), abs=1e-5
        )
    c, d = pair_of(gallery, same=False)
    other = people.explain(c, d)
    assert not other.same and other.chain == () and other.forbidden == ()
    add(gallery, splits)
    for mine, theirs, sure in people.resembling(found.a.person):
        assert mine.person == found.a.person != theirs.person and 0 <= sure <= 1


def test_sightings_come_in_time_order(gallery, splits):
    samples = splits.gallery
    taken = [NOON + timedelta(minutes=(7 * i) % 40) if i % 5 else None for i in range(len(samples))]
    gallery.add([sample.path for sample in samples], [f"c{sample.camid}" for sample in samples], taken)
    people = People(gallery)
    people.identify()
    for person in set(numbers(gallery).values()):
        times = [sighting.time for sighting in people.sightings(person)]
        known = [time for time in times if time]
        assert known == sorted(known) and times == known + [None] * (len(times) - len(known))
    assert len(people.sightings()) == len(samples)
    with pytest.raises(ValueError, match="Expected a person of the gallery .*got 999"):
        people.sightings(999)


def test_a_removed_person_is_gone_with_all_that_was_derived(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    a, b = pair_of(gallery, same=True)
    people.say(a, b, same=True)
    person = people.identify() and numbers(gallery)[a]
    mine = [name for name, number in numbers(gallery).items() if number == person]
    stranger = next(name for name in numbers(gallery) if name not in mine)
    people.say(a, stranger, same=False)
    sha256 = [row["sha256"].encode() for row in gallery.told() if row["image"] in mine]
    last = max(numbers(gallery).values())
    assert people.remove(person, erase=True) == len(mine)
    assert not set(mine) & set(numbers(gallery)) and people.corrections.read() == ()
    content = b"".join(path.read_bytes() for path in gallery.path.rglob("*") if path.is_file())
    assert not any(word in content for word in [*(name.encode() for name in mine), *sha256])
    assert stranger.encode() in content
    add(gallery, splits)
    people.identify()
    fresh = {numbers(gallery)[name] for name in mine}
    assert person not in fresh or (person < last and not fresh - set(numbers(gallery).values()))
    with pytest.raises(ValueError, match="Expected a person"):
        people.remove(10_000)


def test_what_was_said_is_exported_as_the_calibration_takes_it(gallery, splits, tmp_path):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    with pytest.raises(ValueError, match="Expected corrected pairs to export"):
        people.export(tmp_path / "said")
    a, b = pair_of(gallery, same=True)
    c, d = pair_of(gallery, same=False)
    people.say(a, b, same=False)
    people.say(c, d, same=True)
    with pytest.raises(ValueError, match="has no effect yet: run identify first"):
        people.export(tmp_path / "said")
    people.identify()
    assert people.export(tmp_path / "said") == (2, len({a, b, c, d}))
    with (tmp_path / "said" / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path_a"], row["path_b"], row["same"]) for row in rows] == [(a, b, "no"), (c, d, "yes")]
    pids = {str(sample.path): sample.pid for sample in read_manifest(tmp_path / "said" / "pictures.csv").gallery}
    assert pids[a] != pids[b] and pids[c] == pids[d] and pids.keys() == {a, b, c, d}


def test_a_replaced_picture_is_somebody_of_whom_nothing_was_said(gallery, splits, tmp_path):
    path = tmp_path / "mine.jpg"
    path.write_bytes(splits.gallery[0].path.read_bytes())
    add(gallery, splits)
    gallery.add([path], ["c9"])
    people = People(gallery)
    people.identify()
    stranger = next(name for name, number in numbers(gallery).items() if number != numbers(gallery)[str(path)])
    people.say(path, stranger, same=True)
    people.identify()
    path.write_bytes(splits.query[0].path.read_bytes())
    gallery.add([path], ["c9"])
    assert numbers(gallery)[str(path)] is None
    people.identify()
    assert people._evidence(people.settings).said == []


def test_a_picture_of_which_only_the_facts_change_stays_the_same_person(gallery, splits):
    add(gallery, splits)
    people = People(gallery)
    people.identify()
    before = gallery.told()
    gallery.add([row["image"] for row in before], ["elsewhere"] * len(before))
    after = gallery.told()
    assert {row["camera"] for row in after} == {"elsewhere"} and numbers(gallery) == {
        row["image"]: row["person"] for row in before
    }
    assert [row["person_confidence"] for row in after] == [row["person_confidence"] for row in before]
    again = people.identify()
    assert (again.changed, again.fresh) == (0, 0)


def test_what_cannot_be_identified_is_refused(calibrated, tiny, splits, tmp_path):
    plain = Gallery.create(tmp_path / "plain.lance", make_checkpoint(tmp_path / "plain.ckpt", tiny, **NUMBERS))
    add(plain, splits)
    with pytest.raises(ValueError, match=r"has no calibration, so it cannot say how probable .*cace_pyg\.calibrate"):
        People(plain).identify()
    assert not plain.keeps_neighbours
    empty = Gallery.create(tmp_path / "empty.lance", calibrated)
    with pytest.raises(ValueError, match="Expected pictures in the gallery"):
        People(empty).identify()
    taken = Gallery.create(tmp_path / "taken.lance", calibrated)
    add(taken, splits, metadata=[{"person": "anna"}] * len(splits.gallery))
    with pytest.raises(ValueError, match="already has a column person"):
        People(taken).identify()
    for probability in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="Expected a probability"):
            IdentifySettings(probability)


def test_damaged_files_are_named(gallery, splits):
    add(gallery, splits, slice(0, 4))
    people = People(gallery)
    (gallery.path / "people.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"cannot read .*people\.json"):
        people.settings  # noqa: B018
    (gallery.path / "people.json").unlink()
    for content in ("image_a,same\nx,yes\n", "image_a,sha256_a,image_b,sha256_b,same,said\na,b,c,d,maybe,2026-01-01\n"):
        (gallery.path / "corrections.csv").write_text(content)
        with pytest.raises(RuntimeError, match=r"cannot read .*corrections\.csv .*same yes or no"):
            people.identify()
