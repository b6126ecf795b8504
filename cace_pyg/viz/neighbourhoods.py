"""Some pictures of a gallery as graphs of neighbours, next to each other."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from cace_pyg.read_picture import Picture
from cace_pyg.viz.style import BLACK, BLUE, VERMILLION, picture_array

_CANVAS = (96, 48)  # height and width of a picture, pixels
_PERSON, _PICTURE = 1.06, 0.52  # radii of the circle of people, and of the circle of a person's pictures


def neighbourhoods(
    pictures: Sequence[Picture], people: Sequence[int], graphs: Mapping[str, Sequence[tuple[int, int]]]
) -> Figure:
    """Draw the same pictures for each graph, grouped by person, and the edges between them.

    Args:
        pictures: the nodes.
        people: the person of each; people are arranged in a circle, in the order of their first picture.
        graphs: by title, the edges as pairs of positions in ``pictures``.

    Returns:
        One panel per graph: edges within a person are blue and solid, edges between people vermillion and dashed; the
        title says how many there are of each.

    Raises:
        ValueError: there is no picture or no graph, the numbers of people and pictures differ, or an edge leads to a
            picture that does not exist.
        FileNotFoundError: a picture's file does not exist.
    """
    if not pictures or not graphs or len(people) != len(pictures):
        raise ValueError(
            f"Expected at least one graph, and pictures with a person each (got {len(graphs)} graphs, {len(pictures)} "
            f"pictures, {len(people)} people)"
        )
    for title, edges in graphs.items():
        if wrong := [edge for edge in edges if not all(0 <= end < len(pictures) for end in edge)]:
            raise ValueError(f"Expected edges between {len(pictures)} pictures in {title!r} (got {wrong[0]})")
    figure = Figure(figsize=(5.0 * len(graphs), 5.6))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=0.9, wspace=0)
    places = _places(people)
    shown = [picture_array(picture, _CANVAS) for picture in pictures]
    for axes, (title, edges) in zip(figure.subplots(1, len(graphs), squeeze=False)[0], graphs.items(), strict=True):
        _draw_edges(axes, edges, people, places)
        for picture, place in zip(shown, places, strict=True):
            box = {"edgecolor": BLACK, "linewidth": 0.6}
            axes.add_artist(AnnotationBbox(OffsetImage(picture, zoom=0.4), place, pad=0.08, bboxprops=box))
        right = sum(people[a] == people[b] for a, b in edges)
        axes.set_title(f"{title}\n{right} edges within a person, {len(edges) - right} between people", fontsize=11)
        axes.set(xlim=(-1.8, 1.8), ylim=(-1.75, 1.75), aspect="equal")
        axes.set_axis_off()
    return figure


def _places(people: Sequence[int]) -> list[tuple[float, float]]:
    order = list(dict.fromkeys(people))
    seen = dict.fromkeys(order, 0)
    places = []
    for person in people:
        around = 2 * math.pi * (order.index(person) + 0.5) / len(order)
        within = 2 * math.pi * seen[person] / people.count(person)
        seen[person] += 1
        x, y = _PERSON * math.sin(around), _PERSON * math.cos(around)
        places.append((x + _PICTURE * math.sin(within), y + _PICTURE * math.cos(within)))
    return places


def _draw_edges(
    axes: Axes, edges: Sequence[tuple[int, int]], people: Sequence[int], places: Sequence[tuple[float, float]]
) -> None:
    for a, b in edges:
        same = people[a] == people[b]
        x, y = zip(places[a], places[b], strict=True)
        axes.plot(
            x, y, color=BLUE if same else VERMILLION, linestyle="-" if same else (0, (3, 1.5)), linewidth=1.5, zorder=0
        )
