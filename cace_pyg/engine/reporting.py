"""The report of a run: figures chosen from its log and its evaluation."""

from pathlib import Path

from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.engine.query_figures import choose_queries, query_figures
from cace_pyg.models import CaceNet
from cace_pyg.viz import Report, ReportFigure, cmc_curve, loss_curves, write_report


def report_run(
    path: Path,
    title: str,
    model: CaceNet,
    evaluation: Evaluation,
    second_stage: bool,
    log: list[dict],
    environment: dict[str, str],
    config_yaml: str,
) -> Path:
    """Write ``report.html``.

    Args:
        path: the file.
        title: its heading.
        model: on the CPU, in evaluation mode.
        evaluation: of query and gallery.
        second_stage: whether the pair branch was trained; without it the report shows the individual ranking alone.
        log: rows of ``log.csv``.
        environment: versions, machine, command, seed, data-set fingerprint.
        config_yaml: the whole configuration.
    """
    stages = {"individual": evaluation.individual}
    if second_stage:
        stages["two_stage"] = evaluation.two_stage
    curves = {name: metrics.cmc for name, metrics in stages.items()}
    figures = [
        ReportFigure("Losses and validation", "Mean of each term over an epoch.", loss_curves(log), "Training"),
        ReportFigure("CMC", "Share of queries with a match among the first k.", cmc_curve(curves), "Retrieval"),
    ]
    if second_stage:
        for query, why in choose_queries(evaluation):
            figures += query_figures(model, evaluation, query, why)
    report = Report(
        title=title,
        summary=[_summary(evaluation, second_stage)],
        results={name: metrics.as_dict() for name, metrics in stages.items()},
        policy=evaluation.individual.policy,
        figures=figures,
        environment=environment,
        config_yaml=config_yaml,
    )
    return write_report(path, report)


def _summary(evaluation: Evaluation, second_stage: bool) -> str:
    sizes = f"{evaluation.individual.num_queries} queries over {len(evaluation.gallery.samples)} gallery pictures. "
    if not second_stage:
        return sizes + "The pair branch was not trained, so there is no second stage."
    weight = evaluation.fusion_weight
    return sizes + (
        f"The second stage ranks the first {evaluation.distances.index.size(1)} again by "
        f"{1 - weight:.2g} × individual + {weight:.2g} × conditional distance."
    )
