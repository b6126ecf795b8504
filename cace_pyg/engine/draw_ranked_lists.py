"""Ranked lists of a data set's queries, before and after the second stage (Fig. 6 of the paper)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cace_pyg.config import Config
from cace_pyg.engine.evaluation import Evaluation
from cace_pyg.engine.query_figures import choose_queries, query_lists
from cace_pyg.engine.read_splits import read_splits
from cace_pyg.engine.run import evaluate_model, load_model


def draw_ranked_lists(checkpoint: Path, config: Config, queries: Sequence[str] = ()) -> dict[str, Figure]:
    """Evaluate a model on its data set and draw the first ten of some queries' ranked lists.

    Args:
        checkpoint: ``best.ckpt`` or ``last.ckpt`` of a run.
        config: the checkpoint's, or one with other settings that leave its weights fitting.
        queries: file names of queries; none: two that the second stage helped most, the one it hurt most, the hardest.

    Returns:
        By the query's file name, the figure of :func:`cace_pyg.viz.ranked_lists`.

    Raises:
        FileNotFoundError: there is no such data set or checkpoint.
        ValueError: no such query, or a checkpoint that does not fit.
    """
    splits = read_splits(config.data)
    model, state = load_model(checkpoint, config)
    chosen = _positions([sample.path.name for sample in splits.query], queries)
    evaluation = evaluate_model(model, state, splits.query, splits.gallery, config)
    positions = chosen or [position for position, _ in choose_queries(evaluation)]
    return {_name(evaluation, position): query_lists(evaluation, position) for position in positions}


def _positions(names: list[str], queries: Sequence[str]) -> list[int]:
    unknown = [query for query in queries if query not in names]
    if unknown:
        raise ValueError(
            f"Expected --query to name pictures among the data set's {len(names)} queries, such as {names[0]} "
            f"(got {', '.join(unknown)})"
        )
    return [names.index(query) for query in queries]


def _name(evaluation: Evaluation, position: int) -> str:
    return evaluation.query.samples[position].path.name
