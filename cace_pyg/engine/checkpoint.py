"""Checkpoints: written whole or not at all; the models that they hold."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import yaml

from cace_pyg.config import Config
from cace_pyg.engine.build import build_model
from cace_pyg.engine.files import atomic_file
from cace_pyg.engine.read_bundle import CONFIGURATION, FACTS, NETWORK, WEIGHTS, is_bundle, read_bundle
from cace_pyg.engine.run_folder import RunFolder
from cace_pyg.models import CaceNet, FrozenExtractor
from cace_pyg.retrieval import Calibration

_FORMAT = 2
_OF_NETWORK = ("path", "sha256")
_KEYS = {"format", "config", "identities", "fusion_weight", "model", "epoch"}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
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


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, or the folder of a bundle, on the CPU.

    Raises:
        FileNotFoundError: there is no such file, or the folder is no bundle.
        ValueError: it is truncated or damaged, or not a checkpoint of this library; see :func:`read_bundle`.
    """
    if is_bundle(path):
        state = {"format": _FORMAT} | read_bundle(path)
        _check_contents(state, path)
        return state
    if path.name in (FACTS, CONFIGURATION, WEIGHTS) and is_bundle(path.parent):
        raise ValueError(f"{path} is a file of the bundle {path.parent}; give the folder")
    if path.is_dir():
        of_gallery = path / "model.ckpt"
        meant = of_gallery if of_gallery.is_file() else path / "checkpoints" / "best.ckpt"
        whose = "gallery" if of_gallery.is_file() else "run"
        raise FileNotFoundError(f"{path} is a folder and no bundle; the checkpoint of a {whose} is {meant}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a run writes RUN_DIR/checkpoints/best.ckpt and last.ckpt")
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot read checkpoint {path}. It is truncated, damaged or no checkpoint ({why})") from error
    if isinstance(state, dict) and state.get("format") == 1:
        raise ValueError(
            f"{path} is a checkpoint of cace_pyg 0.1, whose weights and settings have other names (train is "
            "joint_phase, conditional.engine is conditional.backend since 0.2): train it again, or use cace_pyg 0.1"
        )
    missing = _KEYS - state.keys() if isinstance(state, dict) else _KEYS
    if missing or state["format"] != _FORMAT:
        raise ValueError(
            f"{path} is not a cace_pyg checkpoint of format {_FORMAT} (missing: {sorted(missing)}); "
            "expected RUN_DIR/checkpoints/best.ckpt or last.ckpt; plain weights go to --backbone.weights"
        )
    _check_contents(state, path)
    return state


def _check_contents(state: dict[str, Any], path: Path) -> None:
    """The file may be somebody else's: what is in it has to be what the library writes."""
    model, network = state["model"], state.get("network", {})
    wrong = [name for name, kind in (("config", str), ("identities", int)) if not isinstance(state[name], kind)]
    if not isinstance(model, dict) or not all(isinstance(value, torch.Tensor) for value in model.values()):
        wrong.append("model")
    if not isinstance(network, dict) or not all(isinstance(network.get(key), str) for key in _OF_NETWORK if network):
        wrong.append("network")
    if wrong:
        raise ValueError(
            f"Expected text as config and network, a whole number as identities and tensors as model in the checkpoint "
            f"{path} (got something else for {', '.join(wrong)}); train it again"
        )
    try:
        calibration_of(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    broken = [name for name, value in model.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{path} holds weights that are not finite, such as {broken[0]}: the training had diverged; use an earlier "
            "checkpoint, or train again at a lower learning rate"
        )


def calibration_of(state: dict[str, Any]) -> Calibration | None:
    """What fused distances mean, of what :func:`load_checkpoint` returned; none where nobody was held out, or older."""
    values = state.get("calibration")
    return None if values is None else Calibration.from_dict(values)


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
        FileNotFoundError, ValueError: see :func:`load_checkpoint` and :func:`load_model_state`; or one of both has the
            embedding of a published network, which has its own file.
    """
    state = load_checkpoint(path)["model"]
    names = ["extractor", "encoder", *(["pooling"] if model.pooling is not None else [])]
    if model.classifier is None or "classifier.weight" not in state:
        raise ValueError(
            f"start_from takes over a trained individual branch (got embedding.kind published, here or in {path}); "
            "leave start_from out, and give the network as backbone.weights"
        )
    if state["classifier.weight"].shape == model.classifier.weight.shape:
        names.append("classifier")
    chosen = {key: value for key, value in state.items() if key.split(".")[0] in (*names, "pooling")}
    parts = torch.nn.ModuleDict({name: model.get_submodule(name) for name in names})
    _load(parts, chosen, path, "--start_from needs the same backbone and embedding")


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


@dataclass(frozen=True)
class LatestCheckpoint:
    """A checkpoint to go on from.

    Attributes:
        state: what is in it.
        path: of its file.
        problem: why it is not ``last.ckpt``; empty where it is, or where that is missing.
    """

    state: dict[str, Any]
    path: Path
    problem: str


def latest_checkpoint(folder: RunFolder) -> LatestCheckpoint | None:
    """The newest checkpoint of a run that is whole; none where there is none at all.

    ``last.ckpt``, or where that is truncated (the machine went down while it was written) or missing the one before.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    problems: list[str] = []
    for path in (folder.last, folder.previous):
        if path.exists():
            try:
                return LatestCheckpoint(load_checkpoint(path), path, "; ".join(problems))
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("; ".join([*problems, "no whole checkpoint is left: start anew with another --run_dir"]))
    return None


_MATTERS = ("backbone", "graph", "embedding", "conditional")
_CLASSIFIERS = ("classifier.", "pair_classifier.")  # nothing of them reaches an embedding


def model_fingerprint(checkpoint: dict[str, Any], flip: bool = False) -> str:
    """12 hexadecimal digits of the SHA-256 over weights and settings that decide what an image becomes.

    Args:
        checkpoint: what :func:`cace_pyg.engine.checkpoint.load_checkpoint` returns.
        flip: whether embeddings are averaged with those of mirror images, see :func:`unit_embedding`.
    """
    config = yaml.safe_load(checkpoint["config"])
    settings = {name: config.get(name) for name in _MATTERS}
    settings["backbone"] = {**settings["backbone"], "weights": None}  # where they came from; they are hashed below
    settings["conditional"] = {**settings["conditional"], "backend": None}  # the same numbers
    settings["size"] = [config["data"]["height"], config["data"]["width"]]
    if flip:
        settings["flip"] = True
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(checkpoint.get("network", {}).get("sha256", "").encode())
    for name, values in sorted(checkpoint["model"].items()):
        if not name.startswith(_CLASSIFIERS):
            values = values.contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()[:12]


def load_model(path: Path, config: Config) -> tuple[CaceNet, dict[str, Any]]:
    """The model of a checkpoint in evaluation mode, and the rest of the checkpoint.

    The file of a frozen network (ONNX, OpenVINO) is looked for in the folder ``network`` beside the checkpoint, at
    ``backbone.weights``, and where it lay in training.

    Raises:
        FileNotFoundError, ValueError: see :mod:`cace_pyg.engine.checkpoint` and :func:`check_network`; or the file of
            the network is nowhere.
        RuntimeError: the extra that the network needs is not installed.
    """
    state = load_checkpoint(path)
    if "own_extractor" in state:
        raise ValueError(
            f"{path} holds a network of somebody's own, {state['own_extractor']}, which no command can build: make the "
            "model in Python as it was made for training, then cace_pyg.load_weights(model, path) and evaluate_model"
        )
    if "network" in state:
        weights = _find_network(state["network"], path, config.backbone.weights)
        config = replace(config, backbone=replace(config.backbone, weights=str(weights)))
    model = build_model(config, state["identities"], pretrained=False, layers=state.get("layers"))
    check_network(model, state, path)
    load_model_state(model, state["model"], path)
    return model.eval(), state


def network_facts(network: FrozenExtractor) -> dict[str, str]:
    """What a checkpoint keeps of a network that is not in it."""
    return dict(zip(_OF_NETWORK, (str(network.path), network.sha256), strict=True))


def check_network(model: CaceNet, state: dict[str, Any], path: Path) -> None:
    """See that the frozen network of a model is the one that a checkpoint was made with.

    Args:
        model: with any extractor.
        state: what :func:`load_checkpoint` returned.
        path: of the checkpoint, for errors.

    Raises:
        ValueError: it is another, or one of both has none.
    """
    network = model.extractor if isinstance(model.extractor, FrozenExtractor) else None
    expected, found = state.get("network", {}).get("sha256"), network.sha256 if network else None
    if expected != found:
        whose = f"{network.path}" if network else "none in a file of its own"
        raise ValueError(
            f"{path} was made with the network of SHA-256 {_short(expected)}, {state.get('network', {}).get('path')} "
            f"(got {_short(found)}, {whose}); give that file as --backbone.weights, or train the pair stage again"
        )


def copy_network(network: FrozenExtractor, checkpoint: Path) -> None:
    """Put the files of a network where :func:`load_model` looks first for that of ``checkpoint``.

    Raises:
        OSError: they cannot be read or written.
    """
    for file in network.files:
        copied = _beside(checkpoint) / file.relative_to(network.path.parent)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, atomic_file(copied) as target:
            shutil.copyfileobj(source, target)


def _beside(checkpoint: Path) -> Path:
    """The folder where the file of a frozen network may lie, as it does in a gallery and in a bundle."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / NETWORK


def _find_network(network: dict[str, str], checkpoint: Path, weights: str | None) -> Path:
    recorded = Path(network["path"])
    beside = _beside(checkpoint) / recorded.name
    places = [beside, *([Path(weights)] if weights else []), recorded]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{checkpoint} holds the pair stage alone; its network is the file {recorded.name} of SHA-256 "
        f"{_short(network['sha256'])}, which is not at {recorded}; put it there, or into {beside.parent}, or give "
        "--backbone.weights PATH"
    )


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"


def load_weights(model: CaceNet, path: str | Path) -> float | None:
    """Put the weights of a checkpoint into a model of your own, on the CPU, in evaluation mode.

    Args:
        model: built as it was for training.
        path: ``best.ckpt`` or ``last.ckpt`` of a run.

    Returns:
        The fusion weight that was best on the held-out identities, if any.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_checkpoint`; or the weights are of another architecture.
    """
    state = load_checkpoint(Path(path))
    check_network(model, state, Path(path))
    remedy = "build the model as it was built for training"
    _load(model.cpu(), state["model"], Path(path), remedy)
    model.eval()
    return cast("float | None", state["fusion_weight"])
