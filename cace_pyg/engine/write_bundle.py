"""Writes a checkpoint as a bundle, to share it."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save

from cace_pyg.config import from_yaml
from cace_pyg.engine.checkpoint import copy_network, load_checkpoint, load_model, model_fingerprint
from cace_pyg.engine.model_card import model_card
from cace_pyg.engine.read_bundle import (
    CALIBRATION,
    CARD,
    CONFIGURATION,
    FACTS,
    FORMAT,
    KEPT,
    RESULTS,
    SUMS,
    WEIGHTS,
    is_bundle,
    sum_of,
)
from cace_pyg.models import FrozenExtractor

_NO_MATTER = {"run_dir": "runs/run", "start_from": None, "evaluation.clues_on_disk": None, "embedding.cache": None}
_OF_COMMAND = "command"  # entry of an environment that names folders of this machine


def write_bundle(folder: Path, checkpoint: Path, results: Path | None = None, licence: str | None = None) -> list[Path]:
    """Write the folder of a bundle, completely or not at all; :func:`load_checkpoint` reads it like a checkpoint.

    Weights, settings and calibration are the checkpoint's, so it gives the same outputs. Paths of this machine are
    shortened to their last part, and commands are left out.

    Args:
        folder: new, or empty.
        checkpoint: ``best.ckpt`` of a run, or another bundle.
        results: JSON file of ``evaluate --output``; None: ``metrics.json`` of the checkpoint's run, if there is one.
        licence: in words, for the model card; None: the card says that none was stated.

    Returns:
        The files.

    Raises:
        FileExistsError: ``folder`` exists and is not empty.
        FileNotFoundError, ValueError: see :func:`load_checkpoint` and :func:`load_model`; or ``results`` is not such a
            file.
        RuntimeError: the folder cannot be written.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"Expected a new or empty folder as --bundle (got {folder}); choose another")
    state = load_checkpoint(checkpoint)
    settings, network = from_yaml(state["config"]), None
    if "own_extractor" not in state:
        network = load_model(checkpoint, settings)[0].extractor  # fails if it cannot be built
    told = _read_results(results or _results_of(checkpoint), wanted=results is not None)
    config = yaml.safe_dump(without_folders(yaml.safe_load(state["config"])), sort_keys=False, allow_unicode=True)
    facts = _facts(state)
    texts = {
        CONFIGURATION: config,
        FACTS: _as_json({"format": FORMAT} | facts),
        CARD: model_card(folder.absolute().name, state | {"config": config}, model_fingerprint(state), told, licence),
    }
    if state.get("calibration") is not None:
        texts[CALIBRATION] = _as_json(state["calibration"])
    if told is not None:
        texts[RESULTS] = _as_json(told)
    partial = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
        (partial / WEIGHTS).write_bytes(
            save({name: tensor.clone().contiguous() for name, tensor in state["model"].items()})
        )
        if isinstance(network, FrozenExtractor):
            copy_network(network, partial)
        files = sorted(path.relative_to(partial) for path in partial.rglob("*") if path.is_file())
        sums = [f"{sum_of(partial / name)}  {name.as_posix()}\n" for name in files if str(name) != CARD]
        (partial / SUMS).write_text("".join(sums))
        os.replace(partial, folder)
    except OSError as error:
        raise RuntimeError(f"cannot write the bundle {folder}: {error}; choose another --bundle") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in [*files, Path(SUMS)]]


def without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the folders of this machine; paths of data and weights are shortened to their names."""
    tree: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in config.items()}
    for key, value in _NO_MATTER.items():
        *group, name = key.split(".")
        place = tree[group[0]] if group else tree
        if name in place:
            place[name] = value
    data, backbone, pairs = tree["data"], tree["backbone"], tree["pair_phase"]
    data["root"] = _last(data["root"])
    data["extra_train"] = [_of_named_root(entry) for entry in data.get("extra_train") or []]
    if backbone.get("weights"):
        backbone["weights"] = _last(backbone["weights"])
    if pairs.get("data"):
        pairs["data"] = _of_named_root(pairs["data"])
    return tree


def _last(path: str) -> str:
    return Path(path).name or "data"


def _of_named_root(entry: str) -> str:
    name, _, root = entry.partition(":")
    return f"{name}:{_last(root)}"


def _facts(state: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: state[name] for name in KEPT if name in state}
    if "network" in facts:
        facts["network"] = {"file": Path(facts["network"]["path"]).name, "sha256": facts["network"]["sha256"]}
    if "environment" in facts:
        facts["environment"] = _of_anyone(facts["environment"])
    return facts


def _of_anyone(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name != _OF_COMMAND}


def _results_of(checkpoint: Path) -> Path:
    if is_bundle(checkpoint):
        return checkpoint / RESULTS
    run = checkpoint.absolute().parent
    return run.parent / "metrics.json" if (run.name, checkpoint.name) == ("checkpoints", "best.ckpt") else run / "none"


def _read_results(path: Path, wanted: bool) -> dict[str, Any] | None:
    if not wanted and not path.is_file():
        return None
    if not path.is_file():
        raise FileNotFoundError(f"no results at {path}; python -m cace_pyg.evaluate --output FILE writes them")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("individual"), dict) or "mAP" not in told["individual"]:
        raise ValueError(f"Expected the JSON of python -m cace_pyg.evaluate --output as --results (got {path})")
    return told | {"environment": _of_anyone(told.get("environment", {}))}


def _as_json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
