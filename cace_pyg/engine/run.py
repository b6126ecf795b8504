"""A whole run: read, train, evaluate, report."""

import csv
from pathlib import Path

from lightning_fabric import Fabric

from cace_pyg.config import Config
from cace_pyg.data.fingerprint import fingerprint
from cace_pyg.data.part_map import check_part_maps
from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.assembly import build_model
from cace_pyg.engine.checkpoint import load_checkpoint, load_model_state
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import Evaluation, evaluate_two_stage, resolve_fusion_weight
from cace_pyg.engine.further_results import NO_FURTHER_RESULTS, FurtherResults
from cace_pyg.engine.metrics_table import metrics_table
from cace_pyg.engine.ranks import Ranks
from cace_pyg.engine.read_splits import read_splits
from cace_pyg.engine.reporting import report_run
from cace_pyg.engine.run_folder import RunFolder, write_csv
from cace_pyg.engine.training import Trainer
from cace_pyg.models import CaceNet


def run(config: Config, config_yaml: str, resume: bool, report: bool = True) -> tuple[RunFolder, Evaluation | None]:
    """Train, evaluate ``best.ckpt`` on query and gallery, write ``metrics.json``, ``queries.csv`` and ``report.html``.

    Under ``torchrun`` all ranks train and the first evaluates; the others return no evaluation.

    Raises:
        ValueError: the configuration or the data set does not fit; raised before anything is trained.
        FileNotFoundError: no data set at ``data.root``, or pictures without the label maps that the graph needs.
        RuntimeError: see :class:`cace_pyg.engine.training.Trainer`.
    """
    check_fusion(config)
    splits = read_splits(config.data)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    return train_and_evaluate(config, config_yaml, splits, held_out, resume, report)


def train_and_evaluate(
    config: Config, config_yaml: str, splits: Splits, held_out: Splits, resume: bool = False, report: bool = True
) -> tuple[RunFolder, Evaluation | None]:
    """:func:`run` on pictures that are read already.

    Args:
        config: the run.
        config_yaml: its text.
        splits: the whole data set.
        held_out: training pictures, and query and gallery of the identities held out of them.
        resume: go on from ``last.ckpt``.
        report: write ``report.html``, which takes some seconds.
    """
    environment = describe_environment(config.seed, fingerprint(splits))
    trainer = Trainer(config, config_yaml, held_out, environment, resume)
    if trainer.model.needs_parts:
        check_part_maps([*splits.train, *splits.query, *splits.gallery])
    folder = trainer.run()
    if not trainer.is_first:
        return folder, None
    environment |= {"ranks": str(trainer.ranks.count)}
    model, state = load_model(folder.best, config)
    evaluation = evaluate_model(model, state, splits.query, splits.gallery, config)
    folder.write_metrics(metrics_of(evaluation, environment))
    write_csv(folder.queries, queries_of(evaluation))
    if report:
        with folder.log.open(newline="") as file:
            log = list(csv.DictReader(file))
        title = f"CACE-Net on {Path(config.data.root).name}"
        report_run(folder.report, title, model, evaluation, trains_pairs(config), log, environment, config_yaml)
    return folder, evaluation


def load_model(path: Path, config: Config) -> tuple[CaceNet, dict]:
    """The model of a checkpoint in evaluation mode, and the rest of the checkpoint.

    Raises:
        FileNotFoundError, ValueError: see :mod:`cace_pyg.engine.checkpoint`.
    """
    state = load_checkpoint(path)
    model = build_model(config, state["identities"], pretrained=False)
    load_model_state(model, state["model"], path)
    return model.eval(), state


def evaluate_model(
    model: CaceNet,
    state: dict,
    query: tuple[Sample, ...],
    gallery: tuple[Sample, ...],
    config: Config,
    fabric: Fabric | None = None,
) -> Evaluation | None:
    """Both stages, with the fusion weight that the configuration asks for; leaves the model on the CPU.

    Args:
        model: in evaluation mode.
        state: the rest of its checkpoint.
        query: query pictures.
        gallery: gallery pictures.
        config: the run's.
        fabric: of all ranks that take part, of which the first has the result; none: this process alone.
    """
    weight = fusion_weight_of(config, state["fusion_weight"])
    device = (fabric or Fabric(accelerator=config.device, devices=1)).device
    ranks = Ranks(fabric.global_rank, fabric.world_size) if fabric else Ranks()
    evaluation = evaluate_two_stage(model.to(device), query, gallery, config, weight, device, ranks)
    model.to("cpu")
    return evaluation


def fusion_weight_of(config: Config, chosen: float | None) -> float:
    """The weight of the conditional distance that a run's configuration asks for.

    Without a trained pair branch the second stage has nothing to say: its weight is 0 unless a number is given.

    Args:
        config: the run's.
        chosen: the weight chosen on held-out identities in training.

    Raises:
        ValueError: see :func:`resolve_fusion_weight`.
    """
    untrained = config.evaluation.fusion == "auto" and not trains_pairs(config)
    return 0.0 if untrained else resolve_fusion_weight(config.evaluation.fusion, chosen)


def metrics_of(evaluation: Evaluation, environment: dict[str, str]) -> dict:
    """What ``metrics.json`` holds: fractions for both stages, and where they come from."""
    return {
        "individual": evaluation.individual.as_dict(),
        "two_stage": evaluation.two_stage.as_dict(),
        "fusion_weight": evaluation.fusion_weight,
        "engine": evaluation.engine,
        "top_k": evaluation.distances.index.size(1),
        "policy": evaluation.two_stage.policy,
        "environment": environment,
    }


def queries_of(evaluation: Evaluation) -> list[dict]:
    """What ``queries.csv`` holds: each query that counts, and what both stages made of it."""
    stages = {"individual": evaluation.individual, "two_stage": evaluation.two_stage}
    return [
        {"query": evaluation.query.samples[query].path.name}
        | {f"{stage}_average_precision": float(of.average_precision[row]) for stage, of in stages.items()}
        | {f"{stage}_first_match": int(of.first_match[row]) for stage, of in stages.items()}
        for row, query in enumerate(evaluation.individual.query_index)
    ]


def results_table(evaluation: Evaluation, further: FurtherResults = NO_FURTHER_RESULTS) -> str:
    """The result rows in percent, as text."""
    note = f"fusion weight {evaluation.fusion_weight:.2g}; engine {evaluation.engine}"
    return metrics_table({"individual": evaluation.individual, "two_stage": evaluation.two_stage}, further, note)


def trains_pairs(config: Config) -> bool:
    """Whether a run of this configuration trains its pair branch."""
    return config.loss.pairwise_weight > 0 or config.pair_phase.epochs > 0


def check_fusion(config: Config) -> None:
    """Raise ``ValueError`` if ``evaluation.fusion`` asks for a weight that this run cannot choose."""
    if config.evaluation.fusion != "auto":
        resolve_fusion_weight(config.evaluation.fusion, None)
    elif trains_pairs(config) and config.data.hold_out == 0:
        raise ValueError(
            "evaluation.fusion auto chooses its weight on held-out identities, but data.hold_out is 0; "
            "hold some out, or give --evaluation.fusion paper or a number in [0, 1]"
        )
