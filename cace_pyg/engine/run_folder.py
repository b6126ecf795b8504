"""The folder of one run."""

import json
from pathlib import Path
from typing import Any

from cace_pyg.config import differences
from cace_pyg.engine.files import write_csv, write_text


class RunFolder:
    """``config.yaml``, ``log.csv``, ``metrics.json``, ``queries.csv``, ``report.html`` and ``checkpoints``.

    Checkpoints: ``last.ckpt``, ``previous.ckpt`` (the one before) and ``best.ckpt``.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "log.csv"
        self.metrics = self.path / "metrics.json"
        self.queries = self.path / "queries.csv"
        self.report = self.path / "report.html"
        self.last = self.path / "checkpoints" / "last.ckpt"
        self.previous = self.path / "checkpoints" / "previous.ckpt"
        self.best = self.path / "checkpoints" / "best.ckpt"

    def check(self, config_yaml: str, resume: bool) -> None:
        """Raise the errors of :meth:`open`, without making anything.

        Raises:
            FileExistsError: the folder is not empty and ``resume`` is false.
            ValueError: ``resume`` with another configuration than at the start of the run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"Expected a folder as run_dir (got the file {self.path}); choose another --run_dir")
        if self._holds_something():
            if not resume:
                raise FileExistsError(
                    f"{self.path} is not empty: continue that run with --resume (in Python resume=True), or choose "
                    "another --run_dir"
                )
            changed = differences(self.config.read_text(), config_yaml) if self.config.exists() else []
            if changed:
                raise ValueError(
                    f"--resume continues {self.path} with the configuration it was started with, but:\n  "
                    + "\n  ".join(changed)
                    + f"\nuse the same options, or start again with another --run_dir; there --start_from {self.best} "
                    "loads the individual branch of this run"
                )

    def open(self, config_yaml: str, resume: bool) -> None:
        """Make the folder, or continue in it.

        Raises:
            FileExistsError, ValueError: see :meth:`check`.
            RuntimeError: the folder cannot be made or written.
        """
        self.check(config_yaml, resume)
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            for left in self.path.rglob(".*.partial"):  # left by a process that was killed while writing
                left.unlink()
            write_text(self.config, config_yaml)
        except OSError as error:
            raise RuntimeError(f"cannot write the run folder {self.path}: {error}; choose another --run_dir") from error

    def _holds_something(self) -> bool:
        """Whether there is more than the configuration of a run that failed before its first epoch ended."""
        if not self.path.is_dir():
            return self.path.exists()
        return any(path.is_file() and path != self.config for path in self.path.rglob("*"))

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole log, one row per epoch, with the columns of all rows in order of first use."""
        write_csv(self.log, rows)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json``."""
        write_text(self.metrics, json.dumps(metrics, indent=2) + "\n")
