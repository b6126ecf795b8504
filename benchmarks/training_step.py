"""The pairwise stage of one training step, forward and backward: all pairs of a 4x4 batch.

There are two forms, each with its baseline: the paper's (Eq. 2-7 on whole matrices, every unordered pair once; "as
written" multiplies the diagonal matrices, "as written, scaled" scales rows and columns instead), and the authors'
released layer, rewritten from its description (all B² ordered pairs at once, with products of diagonal matrices). The
gradients of the clues and of all parameters are compared before the measurement; memory is the peak of a step beyond
its inputs. BatchNorm and losses come later and are the same for all.
"""

import argparse
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.as_written import as_written, released_layer, scaled
from benchmarks.dot_plot import dot_plot
from benchmarks.interleaved import interleaved_medians
from benchmarks.peak_memory import peak_memory
from benchmarks.results_file import save_results
from cace_pyg.graph import Clues, CorrespondenceAttention
from cace_pyg.models import ConditionalEmbedding, ConditionalSettings, EmbeddingHead

EMBEDDING = 256
PAPER = {"residual": False, "width": None, "node_wise": "identity"}
RELEASED = {"residual": True, "node_wise": "identity", "degree_floor": "released"}
FORMS = ("paper", "released")


def make_model(form: str, backend: str, channels: int) -> ConditionalEmbedding:
    """The pair stage of a form; its weights come from torch's random state."""
    settings = {"width": channels // 16, **RELEASED} if form == "released" else PAPER
    head = EmbeddingHead(channels, EMBEDDING, batch_norm=False)
    builder = CorrespondenceAttention(channels, form)
    model = ConditionalEmbedding(channels, builder, head, ConditionalSettings(backend=backend, **settings))
    if form == "released":
        torch.nn.init.normal_(model.expansion.weight, std=channels**-0.5)
    return model


def all_one_by_one(one_pair: Callable[..., Tensor], model: ConditionalEmbedding, clues: Clues) -> Tensor:
    """f(a|b) of all pairs, from a function of one pair that is called for a ≤ b: ``(image a, image b, embedding)``."""
    images = len(clues)
    first, second = torch.triu_indices(images, images)
    x = clues.features.unbind()
    pairs = torch.stack([one_pair(model, x[a], x[b]) for a, b in zip(first, second, strict=True)])
    embedded = model.encoder(pairs)
    table = embedded.new_zeros(images, images, EMBEDDING)
    return table.index_put((second, first), embedded[:, 1]).index_put((first, second), embedded[:, 0])


def make_forms(form: str, channels: int, clues: Clues) -> dict[str, tuple[Callable[[], Tensor], list[Tensor]]]:
    """Functions that compute the table of all pairs in each way, with their parameters."""
    reference = make_model(form, "pooled", channels)
    forms: dict[str, tuple[Callable[[], Tensor], list[Tensor]]] = {}
    if form == "paper":
        for name, one_pair in (("as written", as_written), ("as written, scaled", scaled)):
            forms[name] = (
                lambda one_pair=one_pair: all_one_by_one(one_pair, reference, clues),
                list(reference.parameters()),
            )
    else:
        forms["released layer"] = (
            lambda: reference.encoder(released_layer(reference, clues)),
            list(reference.parameters()),
        )
    for backend in ("dense", "gram", "pooled"):
        model = make_model(form, backend, channels)
        model.load_state_dict(reference.state_dict())
        forms[backend] = (lambda model=model: model.all_pairs(model.prepare(clues)).embedding, list(model.parameters()))
    return forms


def measure(form: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """The table of one form, for the forward pass and for both passes."""
    torch.manual_seed(0)
    images = options.identities * options.instances
    clues = Clues(torch.rand(images, options.n, options.channels).requires_grad_(), (options.n // 8, 8))
    forms = make_forms(form, options.channels, clues)
    probe = torch.randn(images, images, EMBEDDING) / images**2
    baseline, scaled = ("as written", "as written, scaled") if form == "paper" else ("released layer",) * 2

    def step(name: str) -> list[Tensor]:
        compute, parameters = forms[name]
        return list(torch.autograd.grad((compute() * probe).sum(), [clues.features, *parameters]))

    def forward(name: str) -> Tensor:
        with torch.no_grad():
            return forms[name][0]()

    errors = relative_errors({name: step(name) for name in forms}, scaled)
    passes = {"forward": forward, "forward + backward": step}
    rows = []
    for what, one_pass in passes.items():
        functions = {name: lambda name=name, one_pass=one_pass: one_pass(name) for name in forms}
        peaks = {name: peak_memory(function) for name, function in functions.items()}
        medians = interleaved_medians(functions, options.rounds)
        rows += [
            {
                "form": form,
                "pass": what,
                "backend": name,
                "ms": 1e3 * medians[name],
                "ms an ordered pair": 1e3 * medians[name] / images**2,
                "times as fast": f"{medians[baseline] / medians[name]:.1f}",
                "than scaled": f"{medians[scaled] / medians[name]:.1f}",
                "peak MB": peaks[name] / 1e6,
                "times less memory": f"{peaks[baseline] / peaks[name]:.1f}",
                "less than scaled": f"{peaks[scaled] / peaks[name]:.1f}",
                "gradient error": f"{errors[name]:.1e}",
            }
            for name in forms
        ]
    return rows


def relative_errors(gradients: dict[str, list[Tensor]], baseline: str) -> dict[str, float]:
    """For each form, the largest ‖difference‖ / ‖gradient‖ from the baseline, over the clues and all parameters."""
    wanted = gradients[baseline]
    return {
        name: max(float((gradient - other).norm() / other.norm()) for gradient, other in zip(got, wanted, strict=True))
        for name, got in gradients.items()
    }


def plot(table: list[dict[str, object]]) -> Figure:
    """Time and memory of a step, one column of panels per form."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 2)
    for column, form in enumerate(FORMS):
        rows = [row for row in table if row["form"] == form and row["pass"] == "forward + backward"]
        names = [str(row["backend"]) for row in rows]
        for row_of_axes, (key, unit) in zip(axes, (("ms", "ms a step"), ("peak MB", "peak, MB")), strict=True):
            dot_plot(row_of_axes[column], names, [float(str(row[key])) for row in rows], f"{form} form", unit)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.training_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument("--n", type=int, default=192, help="clues per image, a multiple of 8 (default: 192)")
    parser.add_argument("--channels", type=int, default=2048, help="size of a clue (default: 2048)")
    parser.add_argument("--identities", type=int, default=4, help="identities of the batch (default: 4)")
    parser.add_argument("--instances", type=int, default=4, help="pictures of each identity (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    options = parser.parse_args()
    if options.quick:
        options.n, options.channels, options.identities, options.instances = 48, 128, 2, 2
    table = [row for form in FORMS for row in measure(form, options)]
    save_results("training_step", table, plot(table), options.quick)


if __name__ == "__main__":
    main()
