"""The Okabe–Ito palette: colours that stay apart for colour-blind readers, and in grey."""

BLACK = "#000000"
GREY = "#666666"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILLION = "#D55E00"
PURPLE = "#CC79A7"

# Yellow is left out: on white it cannot be read. Neighbours in the cycle differ in lightness too.
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", "-.", ":")


def series_style(index: int) -> dict[str, str]:
    """Colour, marker and line of series number ``index`` (from 0); the first 28 all differ, even in grey."""
    # Colours and markers come round together, so each round shifts the lines by one.
    turn, place = divmod(index, len(SERIES))
    return {
        "color": SERIES[place],
        "marker": MARKERS[place],
        "linestyle": LINES[(place + turn) % len(LINES)],
    }
