"""Writes and reads checkpoints, and builds the models in them."""

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
    """Write ``state`` (tensors, numbers, text) to a temporary file next to ``path``, then rename it.

    Raises:
        RuntimeError: the disk is full or the folder is read-only; an earlier file at ``path`` is untouched.
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
        FileNotFoundError: there is no such file, or the folder is not a bundle.
        ValueError: it is truncated, damaged, or not a checkpoint of this library; see :func:`read_bundle`.
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
        raise FileNotFoundError(f"{path} is a folder but not a bundle; the checkpoint of a {whose} is {meant}")
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; a run writes RUN_DIR/checkpoints/best.ckpt and last.ckpt")
    try:
        _check_sums(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for a broken file
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot read checkpoint {path}: truncated, damaged or not a checkpoint ({why})") from error
    if isinstance(state, dict) and state.get("format") == 1:
        raise ValueError(
            f"{path} is a checkpoint of cace_pyg 0.1, where weights and settings had other names (train is now "
            "joint_phase, conditional.engine is now conditional.backend): train again, or use cace_pyg 0.1"
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
    """Check that the contents are what the library writes: the file may come from somebody else."""
    model, network = state["model"], state.get("network", {})
    wrong = [name for name, kind in (("config", str), ("identities", int)) if not isinstance(state[name], kind)]
    if not isinstance(model, dict) or not all(isinstance(value, torch.Tensor) for value in model.values()):
        wrong.append("model")
    if not isinstance(network, dict) or not all(isinstance(network.get(key), str) for key in _OF_NETWORK if network):
        wrong.append("network")
    if wrong:
        raise ValueError(
            f"Expected text as config and network, a whole number as identities and tensors as model in the checkpoint "
            f"{path} (got something else for {', '.join(wrong)}); train again"
        )
    try:
        calibration_of(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    broken = [name for name, value in model.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(
            f"{path} has weights that are not finite, such as {broken[0]}: the training diverged; use an earlier "
            "checkpoint, or train again at a lower learning rate"
        )


def calibration_of(state: dict[str, Any]) -> Calibration | None:
    """The calibration in what :func:`load_checkpoint` returned; None if nobody was held out, or if it is too old."""
    values = state.get("calibration")
    return None if values is None else Calibration.from_dict(values)


def _check_sums(path: Path) -> None:
    """Check the check sums of the zip file: torch would read a file with a hole in it."""
    with zipfile.ZipFile(path) as file:
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")


def is_checkpoint(path: Path) -> bool:
    """Whether :func:`load_checkpoint` can read a file."""
    try:
        load_checkpoint(path)
    except (ValueError, FileNotFoundError):
        return False
    return True


def load_model_state(model: torch.nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load the weights of a checkpoint into a model.

    Raises:
        ValueError: they belong to another architecture; the message names the first differences.
    """
    _load(model, state, path, "leave out the options that change the model (backbone, graph, embedding, conditional)")


def load_individual_branch(model: CaceNet, path: Path) -> None:
    """Load backbone, individual encoder and (if the number of classes is equal) classifier of a checkpoint.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_checkpoint` and :func:`load_model_state`; or the model or the
            checkpoint has the embedding of a published network, which has its own file.
    """
    state = load_checkpoint(path)["model"]
    names = ["extractor", "encoder", *(["pooling"] if model.pooling is not None else [])]
    if model.classifier is None or "classifier.weight" not in state:
        raise ValueError(
            f"start_from needs a trained individual branch (got embedding.kind published, here or in {path}); "
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
            f"{path} has another architecture: {len(missing)} weights missing {missing[:3]}, {len(unknown)} unknown "
            f"{unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}; {remedy}"
        )
    model.load_state_dict(state)


@dataclass(frozen=True)
class LatestCheckpoint:
    """A checkpoint to continue from.

    Attributes:
        state: its contents.
        path: of its file.
        problem: why it is not ``last.ckpt``; empty if it is, or if that file is missing.
    """

    state: dict[str, Any]
    path: Path
    problem: str


def latest_checkpoint(folder: RunFolder) -> LatestCheckpoint | None:
    """The newest readable checkpoint of a run; None if there are no checkpoints.

    This is ``last.ckpt``, or the one before if that is missing or truncated (the machine went down during writing).

    Raises:
        ValueError: there are checkpoints, but none can be read.
    """
    problems: list[str] = []
    for path in (folder.last, folder.previous):
        if path.exists():
            try:
                return LatestCheckpoint(load_checkpoint(path), path, "; ".join(problems))
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError("; ".join([*problems, "no readable checkpoint is left: start again with another --run_dir"]))
    return None


_MATTERS = ("backbone", "graph", "embedding", "conditional")
_CLASSIFIERS = ("classifier.", "pair_classifier.")  # they do not affect embeddings


def model_fingerprint(checkpoint: dict[str, Any], flip: bool = False) -> str:
    """12 hexadecimal digits of the SHA-256 over the weights and settings that determine the output for an image.

    Args:
        checkpoint: what :func:`cace_pyg.engine.checkpoint.load_checkpoint` returns.
        flip: whether embeddings are averaged with those of mirrored images, see :func:`unit_embedding`.
    """
    config = yaml.safe_load(checkpoint["config"])
    settings = {name: config.get(name) for name in _MATTERS}
    settings["backbone"] = {**settings["backbone"], "weights": None}  # only where they came from; they are hashed below
    settings["conditional"] = {**settings["conditional"], "backend": None}  # all backends give the same numbers
    settings["size"] = [config["data"]["height"], config["data"]["width"]]
    if flip:
        settings["flip"] = True
    if config["evaluation"].get("standardise_cameras"):
        settings["standardise_cameras"] = True
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

    The file of a frozen network (ONNX, OpenVINO) is searched for in the folder ``network`` next to the checkpoint, at
    ``backbone.weights``, and at its path during training.

    Raises:
        FileNotFoundError, ValueError: see :mod:`cace_pyg.engine.checkpoint` and :func:`check_network`; or the file of
            the network cannot be found.
        RuntimeError: the extra that the network needs is not installed.
    """
    state = load_checkpoint(path)
    if "own_extractor" in state:
        own = state["own_extractor"]
        network = "features of a network of your own" if own == "KeptFeatures" else f"a network of your own, {own}"
        raise ValueError(
            f"{path} was trained with {network}, which commands and galleries cannot build. In Python, make the model "
            "as for the training and use cace_pyg.load_weights(model, path). For a gallery, export the network to ONNX "
            "and train with --backbone.name onnx (docs/on_your_network.md)"
        )
    _check_layers(state, config, path)
    _check_statistics(state, config, path)
    if "network" in state:
        weights = _find_network(state["network"], path, config.backbone.weights)
        config = replace(config, backbone=replace(config.backbone, weights=str(weights)))
    model = build_model(config, state["identities"], pretrained=False, layers=state.get("layers"))
    check_network(model, state, path)
    load_model_state(model, state["model"], path)
    return model.eval(), state


def _check_statistics(state: dict[str, Any], config: Config, path: Path) -> None:
    """Refuse features that are standardised although in the training they were not, or the other way round."""
    trained = yaml.safe_load(state["config"])["evaluation"].get("standardise_cameras", False)
    if trained != config.evaluation.standardise_cameras:
        raise ValueError(
            f"Expected evaluation.standardise_cameras {str(trained).lower()}, with which {path} was trained (got "
            f"{str(not trained).lower()}); leave it out, or train the pair stage again"
        )


def _check_layers(state: dict[str, Any], config: Config, path: Path) -> None:
    """Refuse clues of other layers than in the training: their weights may fit, and the results would be wrong."""
    trained = yaml.safe_load(state["config"])["backbone"]
    for name in ("earlier", "map"):
        was, now = trained.get(name), getattr(config.backbone, name)
        if (was or None) != (now or None):
            raise ValueError(
                f"Expected backbone.{name} {_as_yaml(was)}, with which {path} was trained (got {_as_yaml(now)}); "
                "leave it out, or train the pair stage again"
            )


def _as_yaml(value: str | list[str | int] | None) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def network_facts(network: FrozenExtractor) -> dict[str, str]:
    """What a checkpoint stores about a network that is not in it."""
    return dict(zip(_OF_NETWORK, (str(network.path), network.sha256), strict=True))


def check_network(model: CaceNet, state: dict[str, Any], path: Path) -> None:
    """Check that the frozen network of a model is the one that a checkpoint was made with.

    Args:
        model: with any extractor.
        state: what :func:`load_checkpoint` returned.
        path: of the checkpoint, for error messages.

    Raises:
        ValueError: it is another one, or only one of the two has one.
    """
    network = model.extractor if isinstance(model.extractor, FrozenExtractor) else None
    expected, found = state.get("network", {}).get("sha256"), network.sha256 if network else None
    if expected != found:
        whose = f"{network.path}" if network else "no network from a file"
        raise ValueError(
            f"{path} was made with the network of SHA-256 {_short(expected)}, {state.get('network', {}).get('path')} "
            f"(got {_short(found)}, {whose}); give that file as --backbone.weights, or train the pair stage again"
        )


def copy_network(network: FrozenExtractor, checkpoint: Path) -> None:
    """Copy the files of a network to where :func:`load_model` looks first for the network of ``checkpoint``.

    Raises:
        OSError: they cannot be read or written.
    """
    for file in network.files:
        copied = _beside(checkpoint) / file.relative_to(network.path.parent)
        copied.parent.mkdir(parents=True, exist_ok=True)
        with file.open("rb") as source, atomic_file(copied) as target:
            shutil.copyfileobj(source, target)


def _beside(checkpoint: Path) -> Path:
    """The folder next to a checkpoint that may contain a frozen network, as in galleries and bundles."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / NETWORK


def _find_network(network: dict[str, str], checkpoint: Path, weights: str | None) -> Path:
    recorded = Path(network["path"])
    beside = _beside(checkpoint) / recorded.name
    places = [beside, *([Path(weights)] if weights else []), recorded]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{checkpoint} has only the pair stage; its network is the file {recorded.name} with SHA-256 "
        f"{_short(network['sha256'])}, which is not at {recorded}; put it there, or into {beside.parent}, or give "
        "--backbone.weights PATH"
    )


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}…" if sha256 else "none"


def load_weights(model: CaceNet, path: str | Path) -> float | None:
    """Load the weights of a checkpoint into a model of your own, on the CPU, in evaluation mode.

    Args:
        model: built as for the training.
        path: ``best.ckpt`` or ``last.ckpt`` of a run.

    Returns:
        The fusion weight that was best on the held-out identities, if any.

    Raises:
        FileNotFoundError, ValueError: see :func:`load_checkpoint`; or the weights belong to another architecture.
    """
    state = load_checkpoint(Path(path))
    check_network(model, state, Path(path))
    remedy = "build the model as for the training"
    _load(model.cpu(), state["model"], Path(path), remedy)
    model.eval()
    return cast("float | None", state["fusion_weight"])
