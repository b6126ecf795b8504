"""Loads published weights into a backbone, from files of several libraries."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cace_pyg.models.read_state_dict import read_state_dict

_HEADS = ("fc", "classifier", "head", "heads", "bottleneck")  # other layers that a file may have besides the trunk's
COUNTER = "num_batches_tracked"  # BatchNorm's; old files lack it


@dataclass(frozen=True)
class LoadedWeights:
    """Which keys of a file were loaded.

    Attributes:
        path: the file.
        prefix: prefix of the names of the trunk's layers, such as ``backbone.``.
        loaded: number of loaded tensors.
        skipped: keys of the file that do not belong to the trunk: classifiers, heads, pixel means.
        missing: BatchNorm counters that the file lacks; they have no effect.
    """

    path: Path
    prefix: str
    loaded: int
    skipped: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        said = f"{self.path}: {self.loaded} tensors loaded"
        said += f" from {self.prefix}*" if self.prefix else ""
        for word, keys in (("skipped", self.skipped), ("missing", self.missing)):
            said += f"; {word}: {', '.join(keys)}" if keys else ""
        return said


def load_backbone_weights(trunk: torch.nn.Module, name: str, path: str | Path) -> LoadedWeights:
    """Fill the layers of a network from a state dict of torchvision, timm, fast-reid, torchreid or a strong baseline.

    The file may contain the state dict itself or a checkpoint that wraps it, and the trunk's layers may have any prefix
    (``module.``, ``backbone.``, ``base.``, ``features.``, …). The prefix with most of the trunk's keys is used. All
    keys of the trunk must be there, except BatchNorm's counters. Everything is loaded, or nothing.

    Args:
        trunk: the convolutional layers, changed in place.
        name: of the network, for error messages.
        path: see :func:`cace_pyg.models.read_state_dict.read_state_dict`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a state dict, or belongs to another network: keys are missing or have another shape, or
            there are layers that this trunk does not have (non-local blocks, or IBN although the name is that of a
            plain ResNet).
    """
    path = Path(path)
    state, beside = read_state_dict(path, name)
    own = trunk.state_dict()
    prefix = find_prefix(state, own)
    given = {key: state[prefix + key] for key in own if prefix + key in state}
    missing = sorted(own.keys() - given.keys())
    others = sorted(key for key in state if key.removeprefix(prefix) not in own or not key.startswith(prefix))
    check_keys(
        path,
        name,
        missing=[key for key in missing if not key.endswith(COUNTER)],
        unknown=[key for key in others if belongs_to_the_trunk(key, prefix, own)],
        misshapen=sorted(key for key, value in given.items() if value.shape != own[key].shape),
    )
    trunk.load_state_dict(given, strict=False)
    return LoadedWeights(path, prefix, len(given), (*others, *beside), tuple(missing))


def find_prefix(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """The prefix of most of the trunk's keys; the shortest among equals."""
    found: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in own:
                found["".join(f"{part}." for part in parts[:i])] += 1
    return max(sorted(found, key=len), key=found.__getitem__, default="")


def belongs_to_the_trunk(key: str, prefix: str, own: Mapping[str, Tensor]) -> bool:
    """Whether an unknown key is nevertheless a layer of a trunk, so that the file belongs to another network."""
    if not key.startswith(prefix):
        return False
    layer = key.removeprefix(prefix).split(".")[0]
    inside = prefix.removeprefix("module.") != ""  # such a prefix contains only the backbone
    return layer in {known.split(".")[0] for known in own} or (inside and layer not in _HEADS)


def check_keys(path: Path, name: str, missing: list[str], unknown: list[str], misshapen: list[str]) -> None:
    if missing or unknown or misshapen:
        ibn = any(".bn1.IN." in key for key in unknown) and not name.endswith("_ibn_a")
        remedy = f"--backbone.name {name}_ibn_a" if ibn else "change --backbone.name"
        raise ValueError(
            f"{path} does not contain weights of {name}: {len(missing)} keys missing {missing[:3]}, "
            f"{len(unknown)} unknown {unknown[:3]}, {len(misshapen)} of another shape {misshapen[:3]}; "
            f"give the file of this architecture or {remedy}"
        )
