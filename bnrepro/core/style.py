"""How figures look: the same arm has the same colour and marker in every one of them."""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator

# Okabe & Ito (2008): distinguishable with all common forms of colour blindness.
ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, BLACK = (
    "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#000000",
)  # fmt: skip

GREY, OLIVE, BROWN = "#6E6E6E", "#8A7A00", "#7F4A1E"

# An arm is what a figure compares; each has one look for all figures.
ARMS = {
    "none": {"color": VERMILLION, "marker": "o", "label": "no norm"},
    "batch": {"color": BLUE, "marker": "s", "label": "BN"},
    "batch_manual": {"color": SKY, "marker": "D", "label": "BN, from the equations"},
    "group": {"color": GREEN, "marker": "p", "label": "GN"},
    "layer": {"color": ORANGE, "marker": "h", "label": "LN"},
    "l1": {"color": PURPLE, "marker": "<", "label": "L1 norm"},
    "l2": {"color": GREY, "marker": ">", "label": "L2 norm"},
    "linf": {"color": OLIVE, "marker": "d", "label": "L∞ norm"},
    "renorm": {"color": BROWN, "marker": "*", "label": "Batch Renorm"},
    "BN before": {"color": BLUE, "marker": "s", "label": "BN before"},
    "BN after": {"color": ORANGE, "marker": ">", "label": "BN after"},
    "BN last": {"color": GREEN, "marker": "H", "label": "BN, last block only"},
    "source": {"color": BLACK, "marker": "x", "linestyle": "none", "label": "source"},
    "theory": {"color": BLACK, "marker": "", "linestyle": "--", "label": "theory"},
    "1/eta": {"color": BLACK, "marker": "", "linestyle": ":"},
    "linear": {"color": GREY, "marker": "o"},
    "relu": {"color": ORANGE, "marker": "v", "label": "ReLU"},
    "tanh": {"color": GREEN, "marker": "^"},
    "sigmoid": {"color": PURPLE, "marker": "P"},
    "gamma+beta": {"color": BLUE, "marker": "s"},
    "gamma": {"color": SKY, "marker": "^"},
    "beta": {"color": GREEN, "marker": "v"},
    "no affine": {"color": OLIVE, "marker": "o"},
    "gamma=2": {"color": ORANGE, "marker": "P"},
    "gamma=2 no beta": {"color": PURPLE, "marker": "D"},
}
OWN = frozenset(ARMS)  # nobody else gives these a look
OTHERS = ((GREEN, "^"), (ORANGE, "v"), (PURPLE, "P"), (SKY, "D"), (GREY, "*"))

STATUS_MARKS = {"diverged": "X", "stalled": "1"}

WIDTH = 7.0  # inches: the text width of a page
LINE = 110  # characters of a title's line that fit there
NOTE = {"fontsize": 6.5}  # the line under a figure that says what its lines, bands and marks are
RC: dict[Any, Any] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7,
    "ytick.labelsize": 7, "lines.linewidth": 1.2, "lines.markersize": 3.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
    "figure.constrained_layout.use": True, "svg.hashsalt": "bnrepro", "savefig.dpi": 150, "figure.dpi": 100,
}  # fmt: skip


@contextlib.contextmanager
def context() -> Iterator[None]:
    """Within it figures look as RC and matplotlib's defaults say, whatever a personal matplotlibrc holds."""
    with mpl.rc_context():
        mpl.rcdefaults()
        with mpl.rc_context(RC):
            yield


def learn(looks: dict[str, dict[str, str]]) -> None:
    """Let registered norms, models, ... of a plan have the look of their own that was frozen with it."""
    ARMS.update({name: {**look} for name, look in looks.items() if name not in OWN})


def arm(series: str) -> dict[str, Any]:
    """Colour, marker and line of a series, from its arm: the text before the first comma ("batch, width 200")."""
    name = series.split(",")[0].strip()
    if name in ARMS:
        known = {key: value for key, value in ARMS[name].items() if key != "label"}
        return {"linestyle": "-", **known}
    color, marker = OTHERS[zlib.crc32(name.encode()) % len(OTHERS)]
    return {"color": color, "marker": marker, "linestyle": "-"}


def label(series: str, n: int | None = None, **lost: int) -> str:
    """What the legend says: the arm's name, the rest of the series, n, and how many runs diverged or stalled."""
    name, comma, rest = series.partition(",")
    text = str(ARMS.get(name, {}).get("label", name)) + comma + rest
    counts = [f"n={n}"] if n is not None else []
    counts += [f"{count} {status}" for status, count in lost.items() if count]
    return f"{text} ({', '.join(counts)})" if counts else text


def label_within_decade(axis: Axis) -> None:
    """Ticks with plain numbers for a logarithmic axis of about a decade, where matplotlib may label a single one."""
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def lost(series: str, statuses: Iterable[str]) -> str:
    """The name of a series in figure.csv with the counts of its runs that were lost: "batch, 1 diverged, 2 stalled"."""
    counts = Counter(statuses)
    return ", ".join([series, *(f"{counts[status]} {status}" for status in STATUS_MARKS if counts[status])])
