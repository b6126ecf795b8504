"""``python -m cace_pyg.ablate``: run the rows of an ablation, with statistics."""

import argparse
import sys
from typing import get_args

from cace_pyg.engine.environment import describe_environment
from cace_pyg.experiment.ablation import BASELINE, Ablation
from cace_pyg.experiment.ablation_table import write_ablation
from cace_pyg.experiment.studies import STUDIES, StudyName, StudyRow
from cace_pyg.user_path import user_path

DESCRIPTION = """Run the rows of a table of the paper, each for several seeds, and show the gain of each row.

  python -m cace_pyg.ablate --study components --config synthetic --run_dir runs/ablation
  python -m cace_pyg.ablate --study alignment --config synthetic --run_dir runs/ablation --quick

components (Table 1): alignment, GCN within images, between them, smoothing and discrepancy
alignment  (Table 2): the graph builders
mixup      (Table 3): α of the mix-up identity loss, in joint training
pooling    (ours):    Eq. 7 to the letter, with a residual, with magnitudes, with a verification head and what it pools

The individual branch is trained once per seed, and every row starts from it. Finished rows are kept: after an
interruption, the same command continues. RUN_DIR/STUDY contains table.md, table.csv and gains.png; the other folders
contain the runs.

Dotted options are those of python -m cace_pyg.train and apply to every row, such as --data.root PATH."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, options = parser.parse_known_args(arguments)
    try:
        rows = _chosen(known.study, known.skip)
        ablation = Ablation(rows, ["--config", known.config, *options], known.seeds, known.run_dir, known.quick)
        results = ablation.run()
        files = write_ablation(known.run_dir / known.study, known.study, results, _notes(ablation))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues from the last complete epoch", file=sys.stderr)
        return 130
    print(files[0].read_text())
    print("\n".join(f"written: {path}" for path in files))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.ablate",
        "python -m cace_pyg.ablate --study NAME --config FILE [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--study", required=True, choices=get_args(StudyName))
    parser.add_argument("--config", required=True, help="YAML file, or name, of the run that the rows vary")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds: 3 means 0, 1 and 2 (default: 3)")
    parser.add_argument("--run_dir", type=user_path, default="runs/ablation", help="folder (default: runs/ablation)")
    parser.add_argument("--quick", action="store_true", help="a quarter of the epochs of both phases")
    parser.add_argument("--skip", action="append", default=[], metavar="ROW", help="leave a row out; may be repeated")
    return parser


def _chosen(study: StudyName, skip: list[str]) -> list[StudyRow]:
    names = [row.name for row in STUDIES[study]]
    if unknown := sorted(set(skip) - set(names)):
        known, wrong = ("; ".join(map(repr, some)) for some in (names, unknown))
        raise ValueError(f"Expected --skip to name a row of {study}: {known} (got {wrong})")
    if not set(names) - set(skip):
        raise ValueError(f"Expected a row of {study} to run (got --skip of all of them)")
    return [row for row in STUDIES[study] if row.name not in skip]


def _notes(ablation: Ablation) -> list[str]:
    origin = describe_environment(0, ablation.fingerprint)
    origin["seed"] = f"0 to {len(ablation.seeds) - 1}"
    return [
        f"Baseline: {BASELINE}, the first stage alone.",
        ablation.policy,
        "",
        *(f"- {k}: {v}" for k, v in origin.items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
