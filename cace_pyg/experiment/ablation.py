"""Ablations: runs with the same data and seeds, where each row changes one thing."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cace_pyg.config import (
    Config,
    config_of,
    config_parser,
    differences,
    parse,
)
from cace_pyg.data.part_map import check_part_maps
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.sample import Sample, fingerprint
from cace_pyg.engine.evaluation import check_fusion
from cace_pyg.engine.run_folder import RunFolder
from cace_pyg.experiment.run import run
from cace_pyg.experiment.studies import StudyRow
from cace_pyg.progress import ProgressBar, progress_bar
from cace_pyg.retrieval import Difference, paired_bootstrap

BASELINE = "individual feature embedding"


@dataclass(frozen=True)
class RowResult:
    """The result of a row; all figures are fractions.

    Attributes:
        row: the row of the study.
        mAP: of each seed.
        rank1: of each seed.
        individual_mAP: of the first stage of the same runs, for each seed.
        to_baseline: differences of mAP and Rank-1 to the individual ranking of the baseline's runs; None for the
            baseline itself.
        to_control: differences to the row's control; None without one.
        fusion_weights: of the conditional distance, for each seed; none for an individual ranking. Where a seed has 0,
            its held-out people preferred the individual ranking, and that is what was ranked.
    """

    row: StudyRow
    mAP: tuple[float, ...]
    rank1: tuple[float, ...]
    individual_mAP: tuple[float, ...]
    to_baseline: tuple[Difference, Difference] | None = None
    to_control: tuple[Difference, Difference] | None = None
    fusion_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Queries:
    """Average precision of each query, and 1 if its first picture is a match; ``(seed, query)`` each."""

    average_precision: np.ndarray
    hit: np.ndarray


class Ablation:
    """Runs the rows of a study for every seed, in ``folder``.

    The individual branch is trained once per seed, and every row starts from it. Finished runs are not repeated, and
    interrupted runs are continued.

    Args:
        rows: of the study.
        arguments: options of ``python -m cace_pyg.train``, including ``--config``.
        seeds: number of seeds; 3 means 0, 1 and 2.
        folder: for all runs.
        quick: use a quarter of the epochs of both phases.

    Attributes:
        fingerprint: of the data set.
        policy: how it was measured; empty before :meth:`run`.

    Raises:
        ValueError: an option is wrong, or ``folder`` has runs of another configuration.
        FileNotFoundError: there is no data set, or there are no label maps for a row that needs them.
    """

    def __init__(self, rows: Sequence[StudyRow], arguments: Sequence[str], seeds: int, folder: Path, quick: bool):
        if seeds < 1:
            raise ValueError(f"Expected at least one seed (got {seeds})")
        self.rows = rows
        self.folder = folder
        self.seeds = range(seeds)
        self.parser = config_parser("train", "")
        config = self._config(arguments)
        self.arguments = [*arguments, *(_shortened(config) if quick else ())]
        self.joint = _joint(self._config(self.arguments))
        self.is_published = config.embedding.kind == "published"
        self.method = config.neighbours.method
        splits = read_splits(config.data)
        self.fingerprint = fingerprint(splits)
        self.policy = ""
        pictures = [*splits.train, *splits.query, *splits.gallery]
        for row in rows:
            if row.joint and self.is_published:
                raise ValueError(
                    f"Expected embedding.kind trained for rows of joint training, such as {row.name!r} (got published, "
                    "whose network is not trained)"
                )
            _check(row, self._config([*self.arguments, *row.options]), pictures)

    def run(self) -> list[RowResult]:
        """Do the missing runs; returns the baseline's result, then those of the rows.

        With ``neighbours.method`` each result is followed by the one re-ranked by neighbours.
        """
        runs = len(self.seeds) * (len(self.rows) + (not self.is_published))
        with progress_bar(total=runs, desc="ablation", unit="run") as bar:
            base = [] if self.is_published else [self._individual(seed, bar) for seed in self.seeds]
            found = {row.name: [self._row(row, seed, bar) for seed in self.seeds] for row in self.rows}
        base = base or found[self.rows[0].name]  # all rows have the published network's own ranking
        baseline = _read(base, "individual")
        self.policy = json.loads(base[0].metrics.read_text())["policy"]
        results = [_result(StudyRow(BASELINE), baseline, baseline)]
        if self.method is not None:
            row = StudyRow(self._by_neighbours(BASELINE))
            results.append(_compared(row, _read(base, self.method), baseline, baseline, None))
        measured = {row.name: _read(found[row.name], "two_stage") for row in self.rows}
        near = {row.name: self._read_neighbours(found[row.name]) for row in self.rows}
        for row in self.rows:
            individual = _read(found[row.name], "individual")
            control = None if row.control is None else measured.get(row.control)
            weights = tuple(json.loads(folder.metrics.read_text())["fusion_weight"] for folder in found[row.name])
            compared = _compared(row, measured[row.name], individual, baseline, control)
            results.append(replace(compared, fusion_weights=weights))
            if (reached := near[row.name]) is not None:
                control = None if row.control is None else near.get(row.control)
                other = None if row.control is None else self._by_neighbours(row.control)
                row = replace(row, name=self._by_neighbours(row.name), control=other, paper=None, explanation="")
                compared = _compared(row, reached, individual, baseline, control)
                results.append(replace(compared, fusion_weights=weights))
        return results

    def _by_neighbours(self, name: str) -> str:
        return f"{name}, re-ranked: {self.method}"

    def _read_neighbours(self, folders: Sequence[RunFolder]) -> _Queries | None:
        """The results with neighbours by both stages; a run whose pair branch has no weight has only one kind."""
        return None if self.method is None else _read(folders, f"two_stage_{self.method}", self.method)

    def _individual(self, seed: int, bar: ProgressBar) -> RunFolder:
        options = ("--pair_phase.epochs=0", "--loss.pairwise_weight=0", "--evaluation.fusion=0")
        return self._run(self.folder / "individual" / f"seed{seed}", [*options, f"--seed={seed}"], BASELINE, bar)

    def _row(self, row: StudyRow, seed: int, bar: ProgressBar) -> RunFolder:
        best = self.folder / "individual" / f"seed{seed}" / "checkpoints" / "best.ckpt"
        start = () if self.is_published else (f"--start_from={best}",)
        options = [*row.options, *(self.joint if row.joint else ()), f"--seed={seed}", *start]
        return self._run(self.folder / _slug(row.name) / f"seed{seed}", options, row.name, bar)

    def _run(self, path: Path, options: Sequence[str], name: str, bar: ProgressBar) -> RunFolder:
        bar.set_postfix_str(f"{name}, {path.name}")
        config, folder = self._config([*self.arguments, *options, f"--run_dir={path}"]), RunFolder(path)
        if not (folder.metrics.exists() and folder.queries.exists()):
            with _output_to(path.with_suffix(".txt")):
                run(config, resume=True, report=False)
        elif changed := differences(folder.config.read_text(), config.to_yaml()):
            raise ValueError(
                f"{path} has a run of another configuration:\n  " + "\n  ".join(changed) + "\nchoose another --run_dir"
            )
        bar.update()
        return folder

    def _config(self, arguments: Sequence[str]) -> Config:
        return config_of(parse(self.parser, arguments), self.parser)


def _check(row: StudyRow, config: Config, pictures: Sequence[Sample]) -> None:
    """Refuse a row that cannot be run before anything is trained."""
    check_fusion(config)
    if config.graph(1).needs_parts:
        try:
            check_part_maps(pictures)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{error}; or leave the row out: --skip '{row.name}'") from error


def _shortened(config: Config) -> tuple[str, str]:
    """A quarter of the epochs of both phases."""
    train, pair = (-(-epochs // 4) for epochs in (config.joint_phase.epochs, config.pair_phase.epochs))
    return f"--joint_phase.epochs={train}", f"--pair_phase.epochs={pair}"


def _joint(config: Config) -> tuple[str, ...]:
    """Options of a row that trains both branches further, see :class:`StudyRow`."""
    epochs, rate = max(1, config.pair_phase.epochs), config.joint_phase.learning_rate / 10
    batch = "--joint_phase.num_identities=4", "--joint_phase.num_instances=4"
    return (
        f"--joint_phase.epochs={epochs}",
        f"--joint_phase.learning_rate={rate}",
        "--joint_phase.warmup_epochs=0",
        *batch,
    )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "_", name.lower().replace("α", "alpha")).strip("_")


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Write a run's output to a file, since the study has one progress bar; if the run fails, so does the study."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


def _read(folders: Sequence[RunFolder], stage: str, otherwise: str = "") -> _Queries:
    """The results of a stage for each query; of the stage ``otherwise`` in runs that do not have it."""
    precision, hit = [], []
    for folder in folders:
        with folder.queries.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = stage if f"{stage}_first_match" in rows[0] else otherwise
        precision.append([float(row[f"{found}_average_precision"]) for row in rows])
        hit.append([row[f"{found}_first_match"] == "1" for row in rows])
    return _Queries(np.array(precision), np.array(hit, dtype=float))


def _result(row: StudyRow, queries: _Queries, individual: _Queries) -> RowResult:
    measured = queries.average_precision, queries.hit, individual.average_precision
    mAP, rank1, individual_mAP = (tuple(map(float, values.mean(axis=1))) for values in measured)
    return RowResult(row, mAP, rank1, individual_mAP)


def _compared(
    row: StudyRow, queries: _Queries, individual: _Queries, baseline: _Queries, control: _Queries | None
) -> RowResult:
    to_control = None if control is None else _differences(queries, control)
    result = _result(row, queries, individual)
    return replace(result, to_baseline=_differences(queries, baseline), to_control=to_control)


def _differences(queries: _Queries, other: _Queries) -> tuple[Difference, Difference]:
    return (
        paired_bootstrap(queries.average_precision, other.average_precision),
        paired_bootstrap(queries.hit, other.hit),
    )
