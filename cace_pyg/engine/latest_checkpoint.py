"""Where a stopped run goes on."""

from dataclasses import dataclass
from pathlib import Path

from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.run_folder import RunFolder


@dataclass(frozen=True)
class LatestCheckpoint:
    """A checkpoint to go on from.

    Attributes:
        state: what is in it.
        path: of its file.
        problem: why it is not ``last.ckpt``; empty where it is, or where that is missing.
    """

    state: dict
    path: Path
    problem: str


def latest_checkpoint(folder: RunFolder) -> LatestCheckpoint | None:
    """The newest checkpoint of a run that is whole; none where there is none at all.

    ``last.ckpt``, or where that is truncated (the machine went down while it was written) or missing the one before.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    problems = []
    for path in (folder.last, folder.previous):
        if path.exists():
            try:
                return LatestCheckpoint(load_checkpoint(path), path, "; ".join(problems))
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("; ".join([*problems, "no whole checkpoint is left: start anew with another --run_dir"]))
    return None
