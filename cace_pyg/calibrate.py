"""``python -m cace_pyg.calibrate``: learn what a model's distances mean, from labelled pictures."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cace_pyg.config import Config, from_yaml
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.sample import Sample, fingerprint
from cace_pyg.data.validation import every_identity, hold_out_identities
from cace_pyg.engine.checkpoint import load_checkpoint, load_model, save_checkpoint
from cace_pyg.engine.evaluation import fusion_weight_of
from cace_pyg.engine.held_out import calibrate_on
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.training import people_of_pair_phase
from cace_pyg.retrieval import Calibration
from cace_pyg.retrieval.calibration import shortly_above
from cace_pyg.user_path import user_path

DESCRIPTION = """Learn what the distances of a trained model mean on your cameras: how probable it is that two pictures
show one person, and which distance unknown people hardly ever fall below. Training does this on its held-out people;
cameras differ, so do it again with labelled pictures from yours. Nothing else in the model changes.

  python -m cace_pyg.calibrate --checkpoint RUN_DIR/checkpoints/best.ckpt --data.root PATH
  python -m cace_pyg.calibrate --checkpoint OLD.ckpt --split validation
  python -m cace_pyg.calibrate --checkpoint people.lance/model.ckpt --data.root PATH --output people.lance/model.ckpt

Neither the network nor the pair stage may have been trained on these people: on people from its training a model makes
no mistakes. The second line is for an old checkpoint without a calibration; the third renews that of a gallery. A rate
of false alarms of one in a hundred needs a hundred people, one in a thousand needs a thousand. Do not calibrate on the
query and gallery of a benchmark whose results you report. See docs/decision.md.

Dotted options override the run's configuration, such as --data.name image_folder, --data.pattern REGEX, --device cuda,
--evaluation.top_k 50.
Exit status 0: written; 2: nothing could be done."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        output = known.output or known.checkpoint.with_name(f"{known.checkpoint.stem}_calibrated.ckpt")
        _check_output(output)
        found = _calibrate(known, overrides, output)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found.summary(), indent=2) if known.json else describe(found))
    if not known.json:
        print(f"checkpoint: {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.calibrate",
        "python -m cace_pyg.calibrate --checkpoint FILE (--data.root PATH | --split validation) [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = "best.ckpt of a run, model.ckpt of a gallery, or a bundle"
    parser.add_argument("--checkpoint", type=user_path, required=True, help=what)
    parser.add_argument(
        "--split",
        choices=("test", "all", "validation"),
        default="test",
        help="pictures to use: query and gallery of the data set (default); all its people, with one picture per "
        "camera of each as a query; or the people that the run itself held out",
    )
    parser.add_argument(
        "--form",
        choices=("logistic", "isotonic"),
        default="logistic",
        help="of the curve: two numbers (default), or any curve that never rises, for thousands of pairs",
    )
    parser.add_argument(
        "--output",
        type=user_path,
        help="the calibrated checkpoint; may be the same file (default: NAME_calibrated.ckpt next to it)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def describe(calibration: Calibration) -> str:
    """A few lines about the calibration."""
    lines = [
        f"{calibration.pairs:,} pairs of {calibration.people} people, {calibration.matches:,} of them of one person; "
        f"each query was compared with {calibration.gallery:,.0f} pictures of others",
        f"expected calibration error, on people left out in turn: {calibration.error:.3f}",
        f"smallest rate of false alarms for this number of people: "
        f"{shortly_above(calibration.smallest_rate())}, in a gallery of {calibration.gallery:,.0f} pictures or fewer; "
        "more in a larger one",
    ]
    lines += [f"warning: {doubt}" for doubt in calibration.doubts()]
    return "\n".join(lines)


def _check_output(output: Path) -> None:
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(f"Expected --output FILE in an existing folder (got {output})")


def _calibrate(known: argparse.Namespace, overrides: list[str], output: Path) -> Calibration:
    told = any(option.startswith("--data.root") for option in overrides)
    if known.split != "validation" and not told:
        raise ValueError(
            "Expected --data.root PATH, labelled pictures of your cameras (got none); or --split validation for the "
            "people that the run held out"
        )
    state = load_checkpoint(known.checkpoint)
    config = from_yaml(state["config"], *overrides)
    query, gallery = _people(config, known.split, state)
    weight = fusion_weight_of(config, state["fusion_weight"])
    model, _ = load_model(known.checkpoint, config)
    device = find_device(config.device)
    found = calibrate_on(model.to(device), query, gallery, config, weight, device, known.form)
    del state["format"]
    save_checkpoint(output, state | {"calibration": found.as_dict()})
    return found


def _people(config: Config, split: str, state: dict[str, Any]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    splits, same_camera = read_splits(config.data), config.evaluation.same_camera
    if split == "validation":
        held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed, same_camera)
        splits = people_of_pair_phase(config, held_out)
        if not splits.query:
            raise ValueError(
                "Expected people held out of the training (got data.hold_out 0); give --data.root PATH with labelled "
                "pictures of other people"
            )
    elif split == "all":
        if fingerprint(splits) == state.get("environment", {}).get("data-set fingerprint"):
            raise ValueError(
                f"Expected people that the model was not trained on (got its own data set, {config.data.root}); give "
                "another --data.root, or --split validation"
            )
        everybody = (*splits.train, *splits.query, *splits.gallery)
        splits = every_identity(list(dict.fromkeys(everybody)), config.seed, same_camera)
    elif not splits.query:
        raise ValueError(f"Expected query pictures in {config.data.root} (got none); give --split all")
    return splits.query, splits.gallery


if __name__ == "__main__":
    sys.exit(main())
