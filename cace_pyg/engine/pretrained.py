"""Loads a trained model from a folder or from the Hugging Face hub."""

import re
from dataclasses import dataclass
from pathlib import Path

from cace_pyg.config import Config, from_yaml
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_model
from cace_pyg.engine.on_features import FittedPairStage, load_pair_stage
from cace_pyg.engine.read_bundle import CALIBRATION, CARD, CONFIGURATION, FACTS, NETWORK, RESULTS, SUMS, WEIGHTS
from cace_pyg.models import CaceNet

_FILES = [FACTS, CONFIGURATION, WEIGHTS, CALIBRATION, RESULTS, SUMS, CARD, f"{NETWORK}/*"]


@dataclass(frozen=True)
class Pretrained:
    """A trained model.

    Attributes:
        path: of the bundle on this machine; ``--checkpoint`` and every argument ``checkpoint`` take it.
        config: of the training.
        model: in evaluation mode, on the CPU; None if the bundle has a pair stage for a network of your own.
        pair_stage: with its fusion weight and its calibration, for :func:`cace_pyg.rerank_features`.
    """

    path: Path
    config: Config
    model: CaceNet | None
    pair_stage: FittedPairStage


def from_pretrained(name: str | Path, revision: str | None = None) -> Pretrained:
    """A model that ``python -m cace_pyg.export --bundle`` made.

    Args:
        name: folder of a bundle, or ``OWNER/NAME`` of a repository on the Hugging Face hub with one. If a folder of
            that name exists, it is used.
        revision: of the repository: a commit, a tag or a branch; None: the newest.

    Raises:
        FileNotFoundError: there is neither such a folder nor such a repository.
        ValueError: it is not a bundle, or it is damaged, see :func:`cace_pyg.engine.read_bundle.read_bundle`.
        RuntimeError: the extra ``hub`` is not installed, the hub cannot be reached, or it requires a log-in.
    """
    path = Path(name).expanduser()
    if not path.exists():
        path = _download(name, revision)
    state = load_checkpoint(path)
    config = from_yaml(state["config"])
    model = None if "own_extractor" in state else load_model(path, config)[0]
    if model is None:
        return Pretrained(path, config, None, load_pair_stage(path))
    channels, calibration = model.extractor.channels, calibration_of(state)
    clues = config.evaluation.gallery_clues
    standardised = config.evaluation.standardise_cameras
    stage = FittedPairStage(model.pair_stage, state["fusion_weight"], channels, calibration, clues, standardised)
    return Pretrained(path, config, model, stage)


def _download(name: str | Path, revision: str | None) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(f"Expected the folder of a bundle, or OWNER/NAME on the hub (got {str(name)!r})")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise RuntimeError(
            f"there is no folder {name}, and looking on the hub needs huggingface_hub ({error}): "
            "pip install 'cace-pyg[hub]'"
        ) from error
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FILES))
    except GatedRepoError as error:
        raise RuntimeError(
            f"{name} asks you to accept its terms on the hub first; then log in: hf auth login"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        at = f" at {revision}" if revision else ""
        raise FileNotFoundError(
            f"there is no folder {name}, and no repository{at} of that name on the hub; if it is private, log in: "
            "hf auth login"
        ) from error
    except LocalEntryNotFoundError as error:
        raise RuntimeError(f"there is no folder {name}, and the hub cannot be reached") from error
    except (OSError, ValueError) as error:
        raise RuntimeError(f"cannot fetch {name} from the hub: {' '.join(str(error).split())[:200]}") from error
