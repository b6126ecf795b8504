"""Plans the pictures of the built-in data set: person, camera, view and folder of each."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import numpy as np

from cace_pyg.data.rendering.pedestrian import Person, draw_family
from cace_pyg.data.rendering.render import VIEWS
from cace_pyg.data.rendering.scene import Camera, draw_camera

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

GROUPS = ("train", "test", "distractor", "junk")
_CAMERAS, _FAMILIES, _ITINERARIES, _PICTURES = range(4)  # independent streams of random numbers

_LEAST = {
    "train_identities": 1, "test_identities": 1, "images_per_identity": 2, "cameras": 2, "family_size": 1,
    "queries_per_identity": 1, "distractors": 0, "junk": 0, "height": 48, "width": 24, "seed": 0,
}  # fmt: skip
_MOST_PIDS, _MOST_CAMERAS, _MOST_PICTURES = 9999, 9, 999_999  # limited by the digits in file names


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of `make_synthetic`. The test pictures do not depend on the number of training identities."""

    train_identities: int = 1000
    """Identities to train on."""
    test_identities: int = 200
    """Identities of query and gallery; none of them is trained on."""
    images_per_identity: int = 8
    """Pictures of each."""
    cameras: int = 6
    """Cameras, each with its own colour cast, blur, light and background."""
    family_size: int = 6
    """Number of identities that share clothing colours and build, and differ only in details."""
    queries_per_identity: int = 2
    """Maximum number of queries of a test identity, from different cameras."""
    distractors: int = 100
    """Gallery pictures of further people, pid 0."""
    junk: int = 50
    """Badly cut gallery boxes, pid −1."""
    occluded: float = 0.3
    """Probability that something hides part of a person."""
    loose: float = 0.3
    """Probability that a box is shifted, too large, or cuts off head or feet."""
    height: int = 96
    """Pixels."""
    width: int = 48
    """Pixels."""
    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        for field in fields(self):
            self._check(field.name, getattr(self, field.name))
        if self.train_identities + self.test_identities > _MOST_PIDS:
            raise ValueError(
                f"train_identities + test_identities: expected at most {_MOST_PIDS}, since file names have "
                f"four digits for a pid (got {self.train_identities} + {self.test_identities}); ask for fewer"
            )

    @staticmethod
    def _check(name: str, value: float) -> None:
        if name in ("occluded", "loose"):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a chance between 0 and 1 (got {value!r})")
        elif not isinstance(value, int) or isinstance(value, bool) or value < _LEAST[name]:
            raise ValueError(f"{name}: expected a whole number of at least {_LEAST[name]} (got {value!r})")
        elif name == "cameras" and value > _MOST_CAMERAS:
            raise ValueError(
                f"cameras: expected at most {_MOST_CAMERAS}, since file names have one digit for a camera "
                f"(got {value!r}); ask for fewer"
            )
        elif name in ("images_per_identity", "distractors", "junk") and value > _MOST_PICTURES:
            raise ValueError(
                f"{name}: expected at most {_MOST_PICTURES}, since file names have six digits for a frame "
                f"(got {value!r}); ask for fewer"
            )


@dataclass(frozen=True)
class PlannedPicture:
    """One picture before it is drawn. Everything random about it depends on seed, group, index and number."""

    folder: str
    pid: int
    camid: int  # from 1
    view: str
    box: str
    group: str  # one of GROUPS
    index: int  # of the person within the group
    number: int  # of the picture among this person's

    @property
    def stem(self) -> str:
        """File name without its extension, as in Market-1501."""
        # Distractors and junk share a pid and have one picture per person, so the frame numbers the person.
        frame = 1 + (self.number if self.pid > 0 else self.index)
        pid = f"{self.pid:04d}" if self.pid >= 0 else str(self.pid)
        return f"{pid}_c{self.camid}s1_{frame:06d}_00"


def plan_pictures(settings: SyntheticSettings) -> list[PlannedPicture]:
    """All pictures of the data set."""
    pictures = []
    for index in range(settings.train_identities):
        pictures += _plan_identity(settings, "train", index, 1 + index)
    for index in range(settings.test_identities):
        seen = _plan_identity(settings, "test", index, 1 + settings.train_identities + index)
        queries = choose_queries([picture.camid for picture in seen], settings.queries_per_identity)
        pictures += [replace(picture, folder=QUERY if i in queries else GALLERY) for i, picture in enumerate(seen)]
    for group, count, pid in (("distractor", settings.distractors, 0), ("junk", settings.junk, -1)):
        for index in range(count):
            pictures += _plan_identity(settings, group, index, pid)[:1]
    return pictures


def choose_queries(camids: list[int], limit: int) -> list[int]:
    """Indices of the query pictures: one per camera, each with a remaining picture from another camera."""
    chosen: list[int] = []
    for i, camid in enumerate(camids):
        if camid in {camids[j] for j in chosen}:
            continue
        wider = [*chosen, i]
        left = [camid for j, camid in enumerate(camids) if j not in wider]
        if len(wider) <= limit and all(any(other != camids[j] for other in left) for j in wider):
            chosen = wider
    return chosen


def person_of(settings: SyntheticSettings, group: str, index: int) -> Person:
    """The person with this index in the group."""
    family, member = divmod(index, settings.family_size)
    return _family(settings, group, family)[member]


@lru_cache(maxsize=64)  # the pictures of a family are drawn one after another, and a family takes longer than a picture
def _family(settings: SyntheticSettings, group: str, family: int) -> tuple[Person, ...]:
    rng = _stream(settings, _FAMILIES, group, family)
    return draw_family(rng, f"{group}-{family}", settings.family_size)


@lru_cache(maxsize=64)
def camera_of(settings: SyntheticSettings, camid: int) -> Camera:
    """The camera with this number, counted from 1."""
    sequence = np.random.SeedSequence(settings.seed, spawn_key=(_CAMERAS, camid))
    return draw_camera(np.random.default_rng(sequence), camid)


def picture_stream(settings: SyntheticSettings, picture: PlannedPicture) -> np.random.Generator:
    """Random numbers for one picture, the same in every process and order of drawing."""
    return _stream(settings, _PICTURES, picture.group, picture.index, picture.number)


def _stream(settings: SyntheticSettings, purpose: int, group: str, *key: int) -> np.random.Generator:
    sequence = np.random.SeedSequence(settings.seed, spawn_key=(purpose, GROUPS.index(group), *key))
    return np.random.default_rng(sequence)


def _plan_identity(settings: SyntheticSettings, group: str, index: int, pid: int) -> list[PlannedPicture]:
    """A person's pictures: from some of the cameras, and from all four sides equally often."""
    rng = _stream(settings, _ITINERARIES, group, index)
    count = settings.images_per_identity
    passed = int(rng.integers(min(3, settings.cameras), settings.cameras + 1))
    route = rng.permutation(settings.cameras)[:passed]
    sides = rng.permutation(np.arange(max(count, len(VIEWS))) % len(VIEWS))
    folder = TRAIN if group == "train" else GALLERY
    return [
        PlannedPicture(
            folder=folder,
            pid=pid,
            camid=1 + int(route[number % passed]),
            view=tuple(VIEWS)[sides[number]],
            box="bad" if group == "junk" else "loose" if rng.random() < settings.loose else "good",
            group=group,
            index=index,
            number=number,
        )
        for number in range(count)
    ]
