"""Label maps of body parts for a folder of pictures."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cace_pyg.data import mediapipe_parser
from cace_pyg.data.part_map import part_map_path
from cace_pyg.data.sorted_pictures import sorted_pictures
from cace_pyg.progress import progress_bar

_SHOWN = 20


@dataclass(frozen=True)
class Parsed:
    """How many label maps were made.

    Attributes:
        pose: pictures in which a person's pose was found.
        mask: pictures without a pose: horizontal stripes over the mask of a person.
        box: pictures without either: stripes over the whole picture.
        kept: pictures that already had a label map.
        unreadable: pictures that still have none, with the reason.
    """

    pose: int
    mask: int
    box: int
    kept: int
    unreadable: tuple[tuple[Path, str], ...]

    def __str__(self) -> str:
        lines = [
            f"label maps: {self.pose} from a pose; {self.mask} as stripes over the mask of a person; {self.box} as "
            f"stripes over the whole picture; {self.kept} were there already",
            f"pictures that cannot be read: {len(self.unreadable) or 'none'}",
        ]
        lines += [f"  {path}: {reason}" for path, reason in self.unreadable[:_SHOWN]]
        if len(self.unreadable) > _SHOWN:
            lines.append(f"  and {len(self.unreadable) - _SHOWN} more")
        return "\n".join(lines)


def parse_pictures(
    root: str | Path,
    python: str = sys.executable,
    overwrite: bool = False,
    program: str = mediapipe_parser.__file__,
) -> Parsed:
    """Make the label map of every picture in ``root`` and its folders, for :class:`~cace_pyg.graph.Semantic`.

    ``root/<folder>/<stem>.jpg`` gets ``root/parts/<folder>/<stem>.png``; a picture in ``root`` itself gets its map
    next to ``root``. Maps are written completely or not at all, so an interrupted command can be continued.

    Args:
        root: a data set or a folder of crops.
        python: interpreter with MediaPipe; it does not need this library.
        overwrite: make existing maps again.
        program: the program for that interpreter, see :mod:`cace_pyg.data.mediapipe_parser`.

    Raises:
        FileNotFoundError: there are no pictures.
        ValueError: two pictures in a folder differ only in their extension, and would share a map.
        RuntimeError: the interpreter cannot be started, has no MediaPipe, or failed.
    """
    pictures = sorted_pictures(Path(root))
    tasks = [(path, part_map_path(path)) for path in pictures]
    _check_names(tasks)
    todo = [(path, label_map) for path, label_map in tasks if overwrite or not label_map.is_file()]
    counts: Counter[str] = Counter()
    unreadable = []
    answers = _answers(todo, python, program) if todo else iter(())
    bar = progress_bar(answers, total=len(todo), desc="parse", unit="picture")
    for (path, _), answer in zip(todo, bar, strict=True):
        counts[answer.get("how", "error")] += 1
        if "error" in answer:
            unreadable.append((path, answer["error"]))
    return Parsed(counts["pose"], counts["mask"], counts["box"], len(tasks) - len(todo), tuple(unreadable))


def _check_names(tasks: Sequence[tuple[Path, Path]]) -> None:
    first: dict[Path, Path] = {}
    for picture, label_map in tasks:
        if first.setdefault(label_map, picture) != picture:
            raise ValueError(
                f"Expected one picture for the label map {label_map} (got {first[label_map]} and {picture}); rename "
                "one of them"
            )


def _answers(tasks: Sequence[tuple[Path, Path]], python: str, program: str) -> Iterator[dict[str, str]]:
    """The other interpreter's answers to the tasks."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as asked:
        for picture, label_map in tasks:
            asked.write(json.dumps({"picture": str(picture.absolute()), "map": str(label_map.absolute())}) + "\n")
        asked.seek(0)
        try:
            process = subprocess.Popen([python, program], stdin=asked, stdout=subprocess.PIPE, stderr=said, text=True)
        except OSError as error:
            raise RuntimeError(
                f"cannot start the Python interpreter {python}: {error}; give another --python"
            ) from error
        answered = 0
        assert process.stdout is not None  # a pipe was asked for
        try:
            for line in process.stdout:
                yield json.loads(line)
                answered += 1
        finally:
            process.kill()
            process.wait()
        if answered < len(tasks):
            said.seek(0)
            raise RuntimeError(_failure(said.read(), python, answered))


def _failure(said: str, python: str, answered: int) -> str:
    if "No module named 'mediapipe'" in said:
        return (
            f"{python} has no MediaPipe, which finds the body parts. It needs numpy < 2, so make an environment for it "
            "(Python 3.11 or 3.12): python3.11 -m venv parser && parser/bin/pip install mediapipe==0.10.21, "
            "then --python parser/bin/python; or, if numpy may be old, pip install 'cace-pyg[semantic]'"
        )
    last = "\n".join(said.strip().splitlines()[-5:]) or "it said nothing"
    return f"the parser stopped after {answered} pictures, whose maps are kept; the same command continues.\n{last}"
