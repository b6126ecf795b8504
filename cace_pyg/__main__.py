"""``cace-pyg``, or ``python -m cace_pyg``: all commands by one name."""

import sys
from difflib import get_close_matches
from importlib import import_module

from cace_pyg import __version__

COMMANDS = {  # name: module, what it does
    "data": ("cace_pyg.data.__main__", "make the built-in data set, check your own, find body parts in it"),
    "train": ("cace_pyg.train", "train a model, evaluate it in two stages, write a report"),
    "evaluate": ("cace_pyg.evaluate", "both stages of a trained model on a data set, or a published network"),
    "calibrate": ("cace_pyg.calibrate", "what a model's distances mean on your cameras: probabilities"),
    "ablate": ("cace_pyg.ablate", "the rows of an ablation, with their statistics"),
    "visualize": ("cace_pyg.visualize", "draw what a trained model sees"),
    "search": ("cace_pyg.search", "a gallery that lasts, and who is in it"),
    "identify": ("cace_pyg.identify", "who is who in a gallery, across cameras"),
    "embed": ("cace_pyg.embed", "pictures to vectors, in a file"),
    "export": ("cace_pyg.export", "a trained model as two ONNX files, or as a folder to share"),
}
EXPLANATION = "\n".join(
    [
        "CACE-Net person re-identification.\n",
        *(f"  cace-pyg {name:<10} {summary}" for name, (_, summary) in COMMANDS.items()),
        "\nA command alone explains itself; with --help it lists its options. python -m cace_pyg.COMMAND is the same.",
        "cace-pyg --version says which version this is.",
    ]
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command named first, importing no other; returns the exit status."""
    name, *options = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(EXPLANATION)
        return 0
    if name == "--version":
        print(f"cace-pyg {__version__}")
        return 0
    if name not in COMMANDS:
        near = "".join(f"; did you mean {one}?" for one in get_close_matches(name, COMMANDS, n=1))
        print(f"error: Expected a command: {', '.join(COMMANDS)} (got {name}){near}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    return import_module(module).main(options)


if __name__ == "__main__":
    sys.exit(main())
