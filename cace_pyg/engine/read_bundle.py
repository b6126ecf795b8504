"""Reads bundles. A bundle is a trained model as a folder of plain files, to share; reading it runs no code from it."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors.torch import load_file

FACTS = "bundle.json"
CONFIGURATION = "config.yaml"
WEIGHTS = "model.safetensors"
CALIBRATION = "calibration.json"
RESULTS = "results.json"
SUMS = "SHA256SUMS"
CARD = "README.md"  # users edit it, so it has no check sum
NETWORK = "network"  # folder with the file of a frozen network

FORMAT = 1
KEPT = ("identities", "fusion_weight", "epoch", "layers", "channels", "network", "own_extractor", "environment")
_KINDS: dict[str, tuple[type, ...]] = {
    "identities": (int,),
    "fusion_weight": (int, float, type(None)),
    "epoch": (int,),
    "layers": (list,),
    "channels": (int,),
    "network": (dict,),
    "own_extractor": (str,),
    "environment": (dict,),
}
_NEEDED = ("identities", "fusion_weight", "epoch")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def is_bundle(folder: Path) -> bool:
    """Whether a folder looks like a bundle, even if it is damaged."""
    return (folder / FACTS).is_file()


def read_bundle(folder: Path) -> dict[str, Any]:
    """The contents of a checkpoint of the same model, except its optimizer and its log.

    Every file is compared with its check sum before it is read. This detects damage; it does not show who made the
    bundle.

    Raises:
        ValueError: a file is missing, is damaged, or does not belong into a bundle.
    """
    sums = _read_sums(folder)
    for name in (FACTS, CONFIGURATION, WEIGHTS):
        if name not in sums:
            raise ValueError(f"{folder} is not a whole bundle: {SUMS} does not list {name}; fetch it again")
    for name, expected in sums.items():
        _check_sum(folder, name, expected)
    facts = _read_facts(folder)
    state = {name: facts[name] for name in KEPT if name in facts}
    if "network" in state:
        name = state["network"].get("file")
        if not isinstance(name, str) or f"{NETWORK}/{name}" not in sums:
            raise ValueError(f"{folder} is not a whole bundle: it has no file {NETWORK}/{name}; fetch it again")
        state["network"] = {"path": str((folder / NETWORK / name).absolute()), "sha256": state["network"]["sha256"]}
    if CALIBRATION in sums:
        state["calibration"] = _read_json(folder / CALIBRATION)
    try:
        state["model"] = load_file(folder / WEIGHTS)
        state["config"] = (folder / CONFIGURATION).read_text(encoding="utf-8")
    except Exception as error:  # safetensors raises its own error
        raise ValueError(f"{folder} is not a bundle: {WEIGHTS} or {CONFIGURATION} cannot be read ({error})") from error
    return state


def sum_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, by its path in the folder; the file's format is that of ``sha256sum --check``."""
    path = folder / SUMS
    if not path.is_file():
        raise ValueError(f"{folder} is not a whole bundle: it has no {SUMS}; fetch it again")
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        parsed = _LINE.fullmatch(line)
        name = PurePosixPath(parsed[2]) if parsed else PurePosixPath()
        if parsed is None or name.is_absolute() or ".." in name.parts:
            raise ValueError(f"{path} is damaged: Expected a SHA-256 and a file on each line (got {line[:60]!r})")
        found[str(name)] = parsed[1]
    return found


def _check_sum(folder: Path, name: str, expected: str) -> None:
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder} is not a whole bundle: {name} is missing; fetch it again")
    if (found := sum_of(path)) != expected:
        raise ValueError(
            f"{folder} is damaged: {name} has changed (SHA-256 {found[:12]}… instead of {expected[:12]}…); fetch it "
            "again. To change a model, export its checkpoint again"
        )


def _read_facts(folder: Path) -> dict[str, Any]:
    facts = _read_json(folder / FACTS)
    if not isinstance(facts, dict) or "format" not in facts:
        raise ValueError(f"{folder} is not a bundle of cace_pyg: its {FACTS} has no format")
    if facts["format"] != FORMAT:
        raise ValueError(f"Expected a bundle of format {FORMAT} at {folder} (got {facts['format']!r}); update cace_pyg")
    wrong = [name for name in _NEEDED if name not in facts]
    wrong += [name for name, kinds in _KINDS.items() if name in facts and not _is_one(facts[name], kinds)]
    wrong += ["fusion_weight"] if not _is_share(facts.get("fusion_weight")) else []
    if wrong:
        raise ValueError(f"{folder} is not a bundle of cace_pyg: in {FACTS}, {wrong[0]} is not what the library writes")
    if "network" in facts and not isinstance(facts["network"].get("sha256"), str):
        raise ValueError(f"{folder} is not a bundle of cace_pyg: in {FACTS}, network has no sha256")
    return facts


def _is_one(value: Any, kinds: tuple[type, ...]) -> bool:
    texts = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []
    return isinstance(value, kinds) and not isinstance(value, bool) and all(isinstance(text, str) for text in texts)


def _is_share(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value <= 1)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
