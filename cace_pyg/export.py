"""``python -m cace_pyg.export``: export a trained model as two ONNX files, or as a bundle to share."""

import argparse
import json
import sys
from pathlib import Path

from cace_pyg.config import from_yaml
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.write_bundle import write_bundle
from cace_pyg.onnx_export.export_onnx import Exported, export_onnx
from cace_pyg.user_path import user_path

DESCRIPTION = """Write a trained model as two ONNX files, for programs without torch.

individual.onnx: from pictures (uint8) to unit-length embeddings and the second stage's input of each picture.
pair.onnx: from the second stage's inputs of one query and many gallery pictures to its distances.

A frozen ONNX or OpenVINO network stays in its own file. Then there is clues.onnx instead of individual.onnx, from the
network's map to the second stage's input; the network itself turns pictures into embeddings and the map.

Both files are run in onnxruntime and compared with torch before they are kept. Their metadata have what else a program
needs (size of the pictures, fusion weight, top k): docs/export.md. Needs pip install 'cace-pyg[onnx]'.

With --bundle FOLDER the result is a folder to share instead: weights (safetensors), settings, calibration, results, a
model card and check sums. Every command takes the folder as --checkpoint: docs/sharing.md. Does not need ONNX.

The configuration is the checkpoint's; dotted options override it, such as
--evaluation.fusion paper | auto | 0.5, --evaluation.top_k 50."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        print(_bundle(known, overrides) if known.bundle is not None else _described(_export(known, overrides)))
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.export",
        "python -m cace_pyg.export --checkpoint FILE [--output FOLDER | --bundle FOLDER] [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--checkpoint", required=True, type=user_path, help="RUN_DIR/checkpoints/best.ckpt, or a bundle"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--output", type=user_path, help="folder for both files (default: RUN_DIR/onnx, or next to a bundle)"
    )
    form.add_argument("--bundle", type=user_path, help="new folder, for a bundle instead of ONNX files")
    parser.add_argument("--licence", help="of the bundle, in words, such as 'CC BY-NC 4.0' (default: not stated)")
    parser.add_argument(
        "--results", type=user_path, help="for the bundle, JSON of evaluate --output (default: RUN_DIR/metrics.json)"
    )
    return parser


def _bundle(known: argparse.Namespace, overrides: list[str]) -> str:
    if overrides:
        raise ValueError(
            f"a bundle contains the checkpoint unchanged: leave {overrides[0]} out, and give it when you use the bundle"
        )
    files = write_bundle(known.bundle, known.checkpoint, known.results, known.licence)
    return "\n".join(f"written: {path} ({path.stat().st_size:,} bytes)" for path in files)


def _export(known: argparse.Namespace, overrides: list[str]) -> Exported:
    if known.licence is not None or known.results is not None:
        raise ValueError("--licence and --results are for --bundle FOLDER (got none); give it, or leave them out")
    config = from_yaml(load_checkpoint(known.checkpoint)["config"], *overrides)
    output = _run_folder(known.checkpoint) / "onnx" if known.output is None else known.output
    return export_onnx(known.checkpoint, config, output)


def _run_folder(checkpoint: Path) -> Path:
    """The folder of a checkpoint's run; the checkpoint's own folder if it is not in a run."""
    folder = checkpoint.absolute().parent
    return folder.parent if folder.name == "checkpoints" else folder


def _described(exported: Exported) -> str:
    metadata = exported.metadata
    lines = [
        f"model {metadata['fingerprint']}, fusion weight {metadata['fusion_weight']}, top k {metadata['top_k']}",
        "largest difference between onnxruntime and torch, batches of 1, 2 and 5:",
        *(f"  {name:<22}{difference:.1e}" for name, difference in exported.differences.items()),
        *(f"written: {path} ({path.stat().st_size:,} bytes)" for path in (exported.individual, exported.pair)),
        *_left_out(metadata),
    ]
    return "\n".join(lines)


def _left_out(metadata: dict[str, str]) -> list[str]:
    if "network" not in metadata:
        return []
    network = json.loads(metadata["network"])
    inputs = [f"its tensor {tensor} into {name}" for name, tensor in network.items() if name.split("_")[0] == "map"]
    return [
        f"not exported: the network itself, {network['file']} (SHA-256 {network['sha256'][:12]}…)",
        f"  run it on the pictures; its {network['embedding']} is the embedding, and clues.onnx takes its maps: "
        + ", ".join(inputs),
    ]


if __name__ == "__main__":
    sys.exit(main())
