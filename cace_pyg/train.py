"""``python -m cace_pyg.train``: train CACE-Net, evaluate both stages, write a report."""

import os
import sys

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.engine.ranks import leave_ranks
from cace_pyg.engine.results import results_table
from cace_pyg.experiment.dry_run import dry_run
from cace_pyg.experiment.run import run

DESCRIPTION = """Train CACE-Net on a data set, evaluate both stages and write a report."""

EXPLANATION = """Train CACE-Net, evaluate it in two stages, write a report.

  python -m cace_pyg.data synthetic data/synthetic              make the built-in data set
  python -m cace_pyg.train --config synthetic                   train on it, some six minutes on a CPU
  python -m cace_pyg.train --config market1501 --data.root PATH
  python -m cace_pyg.train --config mine.yaml                   your own settings
  python -m cace_pyg.train … --dry_run                          one step and one batch of everything, nothing kept
  python -m cace_pyg.train … --graph FullyConnected             another graph builder
  python -m cace_pyg.train … --run_dir runs/mine --resume       continue an interrupted run
  torchrun --nproc_per_node 4 -m cace_pyg.train …               several GPUs or machines, see docs/ranks.md
  python -m cace_pyg.train --help                               every option with its unit and default

A run folder contains config.yaml, log.csv, metrics.json, checkpoints/ and report.html."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(EXPLANATION)
        return 0
    asked = any(word == "-h" or word.partition("=")[0].endswith("help") for word in arguments)
    parser = config_parser("train", DESCRIPTION if asked else "")
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN_DIR, or start it")
    parser.add_argument("--dry_run", action="store_true", help="try everything on a few pictures and keep nothing")
    try:
        parsed = parse(parser, arguments)
        if parsed.dry_run:
            reports = dry_run(config_of(parsed, parser))
            leave_ranks()
            if reports:
                print("dry run: data set, training step, both stages of evaluation and report work; nothing was kept")
            return 0
        _check_restarts(parsed.resume)
        folder, evaluation = run(config_of(parsed, parser), parsed.resume)
        leave_ranks()
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command with --resume continues from the last complete epoch", file=sys.stderr)
        return 130
    if evaluation is None:  # another rank has it
        return 0
    print(results_table(evaluation))
    print(f"report:  {folder.report}\nmetrics: {folder.metrics}\nbest:    {folder.best}")
    return 0


def _check_restarts(resume: bool) -> None:
    """Check that a restarted run continues itself, and not what another run has left."""
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0 and not resume:
        raise ValueError(
            "torchrun --max-restarts starts a run again after a failure: give --resume, which continues a run, or "
            "starts it if there is none"
        )


if __name__ == "__main__":
    sys.exit(main())
