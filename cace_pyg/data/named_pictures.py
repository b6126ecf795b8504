"""Your own pictures, with identity and camera in their file names, read by your own pattern."""

import re
from pathlib import Path

from cace_pyg.data.own_pictures import Labelled, splits_of
from cace_pyg.data.sample import Splits
from cace_pyg.data.sorted_pictures import pictures_below

_TRAIN, _QUERY = ("train", "bounding_box_train", "image_train"), ("query", "image_query")
_GALLERY, _TEST = ("gallery", "bounding_box_test", "image_test", "test"), ("test", "bounding_box_test", "image_test")
_TREE = """
  ROOT/
    train/    (or bounding_box_train, image_train)
    query/    (or image_query; if there is none, every picture of test is a query too)
    gallery/  (or bounding_box_test, image_test, test)"""


def read_named_pictures(root: str | Path, pattern: str) -> Splits:
    """The pictures in the folders of a training part, a query and a gallery, labelled by their names.

    The folders are named train, query, gallery, or as in Market-1501 and VeRi. Without a query folder, each picture of
    the test folder is a query (leave-one-out), see :func:`cace_pyg.data.own_pictures.splits_of`. For the files that are
    used see :func:`cace_pyg.data.sorted_pictures.pictures_below`.

    Example: ``(?P<pid>-?\\d+)_c(?P<camid>\\d+)`` reads 0001_c1_0002.jpg, and VeRi's 0002_c002_00030600_0.jpg.

    Args:
        root: of these folders.
        pattern: see :func:`compile_pattern`; it must match every file name, from its beginning.

    Raises:
        FileNotFoundError: a folder is missing (except training, which an evaluation does not need); the message shows
            the tree.
        ValueError: the pattern is not valid or does not match a name; see also
            :func:`cace_pyg.data.own_pictures.splits_of`.
    """
    root, compiled = Path(root), compile_pattern(pattern)
    return splits_of(
        [
            _labelled(path, compiled, part)
            for part, folder in _folders(root).items()
            for path in pictures_below(root / folder)
        ],
        root,
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression with the group ``pid``, and ``camid`` and ``track`` if they are in the names.

    Raises:
        ValueError: it is not a regular expression, or has other named groups.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"Expected data.pattern as a regular expression (got '{pattern}': {error})") from error
    groups = set(compiled.groupindex)
    if not {"pid"} <= groups <= {"pid", "camid", "track"}:
        raise ValueError(
            "Expected data.pattern with the named group pid, and camid and track if they are in the names, such as "
            f"'(?P<pid>-?\\d+)_c(?P<camid>\\d+)' (got '{pattern}')"
        )
    return compiled


def _folders(root: Path) -> dict[str, str]:
    """The folder of each part."""
    query = [name for name in _QUERY if (root / name).is_dir()]
    wanted = {"train": _TRAIN} | ({"query": _QUERY, "gallery": _GALLERY} if query else {"test": _TEST})
    found = {part: [name for name in names if (root / name).is_dir()] for part, names in wanted.items()}
    if not found["train"]:
        del found["train"]  # an evaluation does not need it
    missing = [part for part, names in found.items() if not names]
    if missing:
        raise FileNotFoundError(f"no folder for {' and '.join(missing)} in {root} (data.root); expected{_TREE}")
    several = [names for names in found.values() if len(names) > 1]
    if several:
        raise ValueError(f"Expected one folder per part in {root} (got {' and '.join(several[0])}); move the others")
    return {part: name for part, (name,) in found.items()}


def _labelled(path: Path, pattern: re.Pattern[str], part: str) -> Labelled:
    found = pattern.match(path.name)
    if found is None:
        begin = "; start it with .* to skip the text before" if pattern.search(path.name) else ""
        raise ValueError(
            f"Expected data.pattern '{pattern.pattern}' to match every file name from its beginning (it does not match "
            f"{path.name} in {path.parent}){begin}"
        )
    labels = {"pid": "", "camid": "", "track": ""} | {name: label or "" for name, label in found.groupdict().items()}
    if not labels["pid"]:
        raise ValueError(f"Expected data.pattern '{pattern.pattern}' to find a pid in {path.name} (got nothing)")
    return Labelled(path, labels["pid"], labels["camid"], part, labels["track"])
