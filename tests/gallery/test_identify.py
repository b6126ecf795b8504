"""``python -m cace_pyg.identify``: what it says, and what it refuses."""

import json

import pytest

from cace_pyg import Gallery
from cace_pyg.gallery.people import People
from cace_pyg.identify import main as identify
from tests.gallery.test_people import add, calibrated, gallery, numbers, pair_of  # noqa: F401


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--erase"], "--erase is for --remove NUMBER"),
        (["--figure", "person.png"], "--figure is for --person NUMBER"),
        (["--json"], "--json is for --person and --explain"),
        (["--person", "1", "--figure", "person.jpg"], "Expected --figure FILE.png or FILE.svg"),
        ([], "there is no gallery at"),
    ],
)
def test_what_is_refused_is_told_in_a_line(options, message, tmp_path, capsys):
    assert identify(["--gallery", str(tmp_path / "nowhere.lance"), *options]) == 2
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ") and told.count("\n") == 1


def test_the_command_says_what_python_finds(gallery, splits, capsys):  # noqa: F811
    add(gallery, splits)
    at = ["--gallery", str(gallery.path), "--device", "cpu"]
    assert identify(at) == 0
    found = numbers(gallery)
    assert f"{len(set(found.values()))} people on {len(found)} pictures" in capsys.readouterr().out
    people = People(Gallery.open(gallery.path))
    a, b = pair_of(gallery, same=True)
    assert identify([*at, "--person", str(found[a]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [sighting["image"] for sighting in told] == [sighting.image for sighting in people.sightings(found[a])]
    assert identify([*at, "--explain", a, b, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["same"] and [join["b"] for join in told["chain"]] == [join.b for join in people.explain(a, b).chain]
    assert identify([*at, "--not_same", a, b]) == 0
    assert numbers(gallery)[a] != numbers(gallery)[b]
    assert identify([*at, "--same", a, a]) == 2 and "Expected two pictures" in capsys.readouterr().err
    assert identify([*at, "--take_back", a, b]) == 0 and people.corrections.read() == ()
