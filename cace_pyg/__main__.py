"""``cace-pyg``, or ``python -m cace_pyg``: all commands under one name."""

import sys
from difflib import get_close_matches
from importlib import import_module

from cace_pyg import __version__

COMMANDS = {  # name: module, what it does
    "data": ("cace_pyg.data.__main__", "make the built-in data set, check your own, find body parts"),
    "train": ("cace_pyg.train", "train a model, evaluate it in two stages, write a report"),
    "evaluate": ("cace_pyg.evaluate", "evaluate both stages of a trained model, or a published network"),
    "calibrate": ("cace_pyg.calibrate", "learn probabilities for a model's distances on your cameras"),
    "ablate": ("cace_pyg.ablate", "run the rows of an ablation, with statistics"),
    "visualize": ("cace_pyg.visualize", "draw what a trained model sees"),
    "search": ("cace_pyg.search", "keep a gallery on disk, and search for people in it"),
    "identify": ("cace_pyg.identify", "find out who is who in a gallery, across cameras"),
    "embed": ("cace_pyg.embed", "write the embeddings of pictures to a file"),
    "export": ("cace_pyg.export", "export a trained model as two ONNX files, or as a folder to share"),
}
EXPLANATION = "\n".join(
    [
        "CACE-Net person re-identification.\n",
        *(f"  cace-pyg {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()),
        "\nWithout arguments a command explains itself; with --help it lists its options.",
        "python -m cace_pyg.COMMAND does the same as cace-pyg COMMAND.",
        "cace-pyg --version shows the version.",
    ]
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command that is named first, without importing others; returns the exit status."""
    name, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(EXPLANATION)
        return 0
    if name == "--version":
        print(f"cace-pyg {__version__}")
        return 0
    if name not in COMMANDS:
        near = "".join(f"; did you mean {near_name}?" for near_name in get_close_matches(name, COMMANDS, n=1))
        print(f"error: Expected a command: {', '.join(COMMANDS)} (got {name}){near}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    return import_module(module).main(options)


if __name__ == "__main__":
    sys.exit(main())
