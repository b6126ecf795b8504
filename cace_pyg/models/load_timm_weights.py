"""Loads files of weights into a timm network, with timm's own converters for the names of other projects."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from cace_pyg.models.load_backbone_weights import (
    COUNTER,
    LoadedWeights,
    belongs_to_the_trunk,
    check_keys,
    find_prefix,
)
from cace_pyg.models.read_state_dict import read_state_dict

_CLIP = "class_embedding"  # name of the class token in OpenAI's CLIP and CLIP-ReID
_POSITIONS = ("pos_embed", "positional_embedding")


def load_timm_weights(network: Any, name: str, path: str | Path, grid: tuple[int, int]) -> LoadedWeights:
    """Fill a timm network from a state dict with timm's own names, or names that timm can convert.

    For the vision transformer these are the names of OpenAI's CLIP (so also CLIP-ReID's ``image_encoder.``) and of
    DINOv2, with or without registers. The layers may have any prefix. timm resamples position embeddings of another
    grid if both grids are known; if the number of patches is not a square, it must be that of this network. All keys of
    the network must be there; others (classifiers, necks, text encoders) are skipped and listed. Everything is loaded,
    or nothing.

    Args:
        network: of timm, without its classifier, changed in place.
        name: of the network, for error messages.
        path: see :func:`cace_pyg.models.read_state_dict.read_state_dict`.
        grid: (H, W) of its patches.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a state dict, or belongs to another network.
    """
    path = Path(path)
    state, beside = read_state_dict(path, name)
    own = network.state_dict()
    prefix = _clip_prefix(state)
    is_clip = prefix is not None
    prefix = find_prefix(state, own) if prefix is None else prefix
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    _check_positions(inside, own, path, name, grid)
    renamed = {f"visual.{key}": value for key, value in inside.items()} if is_clip else inside
    converted = _convert(renamed, network, path)
    given = {key: converted[key] for key in own if key in converted}
    missing = sorted(own.keys() - given.keys())
    others = sorted(key for key in converted if key not in own)

    def is_own(key: str) -> bool:
        return belongs_to_the_trunk(prefix + key, prefix, own)

    check_keys(
        path,
        name,
        missing=[key for key in missing if not key.endswith(COUNTER)],
        unknown=[key for key in others if not _is_classifier(key, network) and is_own(key)],
        misshapen=sorted(key for key, value in given.items() if value.shape != own[key].shape),
    )
    network.load_state_dict(given, strict=False)
    left = [key for key in inside if key in others or (is_clip and key == "proj")]
    skipped = [key for key in state if not key.startswith(prefix)] + [prefix + key for key in left]
    return LoadedWeights(path, prefix, len(given), (*sorted(skipped), *beside), tuple(missing))


def _clip_prefix(state: Mapping[str, Tensor]) -> str | None:
    """The prefix of the layers of CLIP's vision transformer; None if there is none."""
    starts = [key.removesuffix(_CLIP) for key in state if key.endswith(_CLIP)]
    return next((start for start in starts if f"{start}ln_pre.weight" in state), None)


def _check_positions(
    inside: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, name: str, grid: tuple[int, int]
) -> None:
    """Refuse position embeddings that are not a square grid, but that timm would treat as one."""
    key = next((key for key in _POSITIONS if key in inside), None)
    if key is None or "pos_embed" not in own or own["pos_embed"].dim() != 3:
        return
    patches = grid[0] * grid[1]
    before = 1 if "register_tokens" in inside else own["pos_embed"].size(1) - patches  # DINOv2's class token has one
    count = inside[key].size(-2) - before
    if count != patches and (count < 1 or math.isqrt(count) ** 2 != count):
        raise ValueError(
            f"{path} has positions of {count} patches, {name} of {grid[0]}·{grid[1]} = {patches} for pictures of this "
            "size, and the grid of a number that is not a square is unknown; give --data.height and --data.width as it "
            "was trained"
        )


def _convert(state: dict[str, Tensor], network: Any, path: Path) -> dict[str, Tensor]:
    """Convert names and sizes to this version of timm, by the model family's own function."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        return dict(convert(dict(state), network))
    except Exception as error:  # the converter may not know this file, and fail in any way
        raise ValueError(
            f"timm cannot convert {path} for {type(network).__name__} ({type(error).__name__}: {error}); give the file "
            "of this architecture or change --backbone.name"
        ) from error


def _is_classifier(key: str, network: Any) -> bool:
    """Whether, by timm, a key belongs to the classifier, which the network was built without."""
    known = network.pretrained_cfg.get("classifier") or ()
    return any(key.startswith(f"{name}.") for name in ((known,) if isinstance(known, str) else known))
