"""Checkpoints: written whole or not at all, read without executing anything."""

import zipfile
from pathlib import Path

import torch

from cace_pyg.engine.atomic_file import atomic_file
from cace_pyg.models import CaceNet

_FORMAT = 1
_KEYS = {"format", "config", "identities", "fusion_weight", "model", "epoch"}


def save_checkpoint(path: Path, state: dict) -> None:
    """Write ``state`` (tensors, numbers, text) to a temporary file beside ``path``, then rename it.

    Raises:
        RuntimeError: the folder is full or read-only; what stood at ``path`` is untouched.
    """
    try:
        with atomic_file(path) as file:
            torch.save({"format": _FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise RuntimeError(
            f"cannot write checkpoint {path}: {error}. Free some space or choose a writable --run_dir; "
            "the last checkpoint is untouched, continue with --resume"
        ) from error


def load_checkpoint(path: Path) -> dict:
    """Read what :func:`save_checkpoint` wrote, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated or damaged, or not a checkpoint of this library.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a run writes RUN_DIR/checkpoints/best.ckpt and last.ckpt")
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot read checkpoint {path}. It is truncated, damaged or no checkpoint ({why})") from error
    missing = _KEYS - state.keys() if isinstance(state, dict) else _KEYS
    if missing or state["format"] != _FORMAT:
        raise ValueError(
            f"{path} is not a cace_pyg checkpoint of format {_FORMAT} (missing: {sorted(missing)}); "
            "expected RUN_DIR/checkpoints/best.ckpt or last.ckpt; plain weights go to --backbone.weights"
        )
    return state


def _check_sums(path: Path) -> None:
    """torch would read a file with a hole in it."""
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is not what was written")


def is_checkpoint(path: Path) -> bool:
    """Whether :func:`load_checkpoint` can read a file."""
    try:
        load_checkpoint(path)
    except (ValueError, FileNotFoundError):
        return False
    return True


def load_model_state(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Put the weights of a checkpoint into a model.

    Raises:
        ValueError: they are of another architecture; names the first differences.
    """
    _load(model, state, path, "leave out the options that change the model (backbone, graph, embedding, conditional)")


def load_individual_branch(model: CaceNet, path: Path) -> None:
    """Put backbone, individual encoder and (if it has as many classes) classifier of a checkpoint into a model.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_checkpoint` and :func:`load_model_state`.
    """
    state = load_checkpoint(path)["model"]
    parts = {"backbone": model.backbone, "encoder": model.encoder}
    if state["classifier.weight"].shape == model.classifier.weight.shape:
        parts["classifier"] = model.classifier
    chosen = {key: value for key, value in state.items() if key.split(".")[0] in parts}
    remedy = "--start_from needs the same backbone and embedding"
    _load(torch.nn.ModuleDict(parts), chosen, path, remedy)


def _load(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path, remedy: str) -> None:
    own = model.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    if missing or unknown or misshapen:
        raise ValueError(
            f"{path} holds another architecture: {len(missing)} weights missing {missing[:3]}, {len(unknown)} unknown "
            f"{unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}; {remedy}"
        )
    model.load_state_dict(state)
