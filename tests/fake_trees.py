"""Trees with the names and numbers of the public data sets: every picture the same small JPEG."""

import os
from itertools import cycle
from pathlib import Path

from PIL import Image


def market(root: Path) -> Path:
    """Market-1501: 12,936 + 3,368 + 15,913 pictures, and 3,819 of junk."""
    link = _linker(root)
    for number, pid, cam in _spread(12_936, range(2, 753), range(1, 7)):
        link(f"bounding_box_train/{pid:04}_c{cam}s1_{number:06}_01.jpg")
    for number, pid, cam in _spread(3_368, range(1001, 1751), range(1, 7)):
        link(f"query/{pid:04}_c{cam}s1_{number:06}_00.jpg")
    for number, pid, cam in _spread(13_115, range(1001, 1751), range(1, 7)):
        link(f"bounding_box_test/{pid:04}_c{cam}s2_{number:06}_01.jpg")
    for number in range(2_798):
        link(f"bounding_box_test/0000_c1s1_{number:06}_01.jpg")
    for number in range(3_819):
        link(f"bounding_box_test/-1_c1s1_{number:06}_01.jpg")
    return root


def duke(root: Path, train: int = 16_522, query: int = 2_228, query_ids: int = 702) -> Path:
    """DukeMTMC-reID, or with other sizes Occluded-DukeMTMC."""
    link = _linker(root)
    for folder, images, pids in (
        ("bounding_box_train", train, range(1, 703)),
        ("query", query, range(1001, 1001 + query_ids)),
        ("bounding_box_test", 17_661, range(1001, 2111)),
    ):
        for number, pid, cam in _spread(images, pids, range(1, 9)):
            link(f"{folder}/{pid:04}_c{cam}_f{number:07}.jpg")
    return root


def occluded_duke(root: Path) -> Path:
    """Occluded-DukeMTMC."""
    return duke(root, 15_618, 2_210, 519)


def msmt17(root: Path, folders: tuple[str, str] = ("train", "test")) -> Path:
    """MSMT17, version 1 or 2 by the names of its folders; identities begin at 0."""
    link = _linker(root)
    for name, folder, images, identities in (
        ("train", folders[0], 30_248, 1_041),
        ("val", folders[0], 2_373, 1_041),
        ("query", folders[1], 11_659, 3_060),
        ("gallery", folders[1], 82_161, 3_060),
    ):
        lines = []
        for number, pid, cam in _spread(images, range(identities), range(1, 16)):
            picture = f"{pid:04}/{pid:04}_{number:06}_{cam:02}_0303{name}_0008_0.jpg"
            link(f"{folder}/{picture}")
            lines.append(f"{picture} {pid}\n")
        (root / f"list_{name}.txt").write_text("".join(lines))
    return root


def _spread(images: int, pids: range, cams: range):
    """Number, identity and camera of so many pictures; an identity's pictures come from different cameras."""
    of_pid = {pid: cycle(cams[pid % len(cams) :] or cams) for pid in pids}
    everyone = cycle(pids)
    for number in range(images):
        pid = next(everyone)
        yield number, pid, next(of_pid[pid]) if number >= len(pids) else cams[number % len(cams)]


_MOST_LINKS = 30_000  # of one file; file systems end at 32,000 to 65,000


def _linker(root: Path):
    """A function that puts the one picture under a name below ``root``: hard links, the quickest to make and remove."""
    root.mkdir(parents=True)
    first, top, made = root / "one.jpg", str(root), set()
    Image.linear_gradient("L").convert("RGB").resize((16, 32)).save(first)
    picture, links = first, 0

    def link(name: str) -> None:
        nonlocal picture, links
        folder = name.rpartition("/")[0]
        if folder not in made:
            (root / folder).mkdir(parents=True, exist_ok=True)
            made.add(folder)
        if links == _MOST_LINKS:
            picture, links = root / f"one_more_{name.replace('/', '_')}", 0
            picture.write_bytes(first.read_bytes())
        os.link(picture, f"{top}/{name}")
        links += 1

    return link
