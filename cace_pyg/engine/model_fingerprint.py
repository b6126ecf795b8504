"""A short name for exactly this model."""

import hashlib
import json

import yaml

_MATTERS = ("backbone", "graph", "embedding", "conditional")
_CLASSIFIERS = ("classifier.", "pair_classifier.")  # nothing of them reaches an embedding


def model_fingerprint(checkpoint: dict) -> str:
    """12 hexadecimal digits of the SHA-256 over weights and settings that decide what an image becomes.

    Args:
        checkpoint: what :func:`cace_pyg.engine.checkpoint.load_checkpoint` returns.
    """
    config = yaml.safe_load(checkpoint["config"])
    settings = {name: config.get(name) for name in _MATTERS}
    settings["backbone"] = {**settings["backbone"], "weights": None}  # where they came from; they are hashed below
    settings["conditional"] = {**settings["conditional"], "engine": None}  # the same numbers
    settings["size"] = [config["data"]["height"], config["data"]["width"]]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name, values in sorted(checkpoint["model"].items()):
        if not name.startswith(_CLASSIFIERS):
            values = values.contiguous()
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.flatten().view(-1).numpy().tobytes())
    return digest.hexdigest()[:12]
