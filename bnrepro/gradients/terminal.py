"""A run in the terminal: heat map of layers by steps, curves over the steps, and the words. Readable without colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from bnrepro.gradients import findings, profile
from bnrepro.gradients.view import Look

# Viridis at sevenths, so that a look at a run need not load matplotlib.
VIRIDIS = np.array(
    [(68, 1, 84), (70, 50, 127), (54, 92, 141), (39, 127, 142), (31, 161, 135), (74, 194, 109), (159, 218, 58)]
    + [(253, 231, 37)]
)
ROWS = 40  # layers shown of a deep net, evenly spaced
CURVES = "abcdef"
HEIGHT = 12


def show(looks: Sequence[Look], statistic: str | None = None, console: Console | None = None) -> None:
    """Print one run, or two beside each other on one scale of colours."""
    console = console or Console(highlight=False)
    width = console.width // len(looks) - 2 * (len(looks) - 1)
    decades = [np.log10(values) for look in looks for values in _positive(look.grid(statistic))]
    low, high = (min(map(np.min, decades)), max(map(np.max, decades))) if decades else (0.0, 1.0)
    beside = Table.grid(padding=(0, 2))
    beside.add_row(*(_view(look, statistic, width, low, high) for look in looks))
    console.print(beside)
    for look in looks:
        for finding in look.findings:
            console.print(Text().append(f"{look.name}: " if len(looks) > 1 else "", "dim").append(finding.text))
    if len(looks) == 2:
        first, second = looks
        console.print(findings.compare(first.layers, second.layers, (first.name, second.name)))


def _view(look: Look, statistic: str | None, width: int, low: float, high: float) -> Group:
    name = statistic or profile.statistic_of(look.layers)
    values, missing = look.grid(statistic), look.missing(statistic)
    shown = values.iloc[_spread(len(values), ROWS)]
    title = Text(look.name, style="bold", overflow="fold")
    legend = Text(f"{name}, exponent of ten, by layer from input to output and by step", style="dim")
    return Group(title, legend, _heat_map(shown, missing, width, low, high), Text(), _curves(values, width, low, high))


def _heat_map(values: pd.DataFrame, missing: pd.DataFrame, width: int, low: float, high: float) -> Text:
    """A number is the exponent of ten, -3 for 10^-3; a dot is a missing gradient."""
    digits = 0 if high - low > 3 else 1
    label, cell = min(max(24, width // 4), max(map(len, values.index))), 5 + digits
    steps = values.columns[_spread(values.shape[1], max(1, (width - label - 1) // cell))]
    lines = [Text(" " * (label + 1)).append("".join(f"{_short(step):>{cell}}" for step in steps), style="dim")]
    for layer in values.index:
        line = Text(f"{_clip(layer, label):<{label}} ")
        for step in steps:
            text, style = _cell(values.at[layer, step], missing.at[layer, step], low, high, digits)
            line.append(f"{text:>{cell}}", style)
        lines.append(line)
    return Text("\n").join(lines)


def _cell(value: float, missing: bool, low: float, high: float, digits: int) -> tuple[str, Style]:
    if missing:
        return ".", Style(dim=True)
    if not np.isfinite(value):
        return f"{value:.0f}", Style(color="white", bgcolor="red", bold=True)
    if value <= 0:
        return "zero", Style(dim=True)
    decade = np.log10(value)
    place = 7 * float(np.clip((decade - low) / (high - low), 0, 1)) if high > low else 3.5
    red, green, blue = (round(np.interp(place, range(8), channel)) for channel in VIRIDIS.T)
    dark = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < 120 else "black"
    return f"{round(decade, digits) + 0.0:.{digits}f}", Style(color=dark, bgcolor=f"#{red:02x}{green:02x}{blue:02x}")


def _curves(values: pd.DataFrame, width: int, low: float, high: float) -> Text:
    """Six layers or fewer over the steps, a letter each, on logarithmic axes."""
    chosen = values.iloc[_spread(len(values), len(CURVES))]
    decades = np.log10(chosen.where((chosen > 0) & np.isfinite(chosen)))
    if decades.shape[1] < 2:
        return Text()
    columns = max(10, min(width - 9, 72))
    place = np.log10(np.maximum(decades.columns.to_numpy(dtype=float), 0.5))  # of a count from 0
    across = np.linspace(place[0], place[-1], columns)
    canvas = np.full((HEIGHT, columns), " ")
    for letter, row in zip(CURVES, decades.to_numpy(), strict=False):
        kept = np.isfinite(row)
        if kept.any():
            share = (np.interp(across, place[kept], row[kept]) - low) / (high - low or 1)
            canvas[np.rint((1 - share) * (HEIGHT - 1)).astype(int), np.arange(columns)] = letter
    edge = {0: f"{10**high:.1e}", HEIGHT - 1: f"{10**low:.1e}"}
    lines = [f"{edge.get(i, ''):>8}|{''.join(row)}" for i, row in enumerate(canvas)]
    first, last = _short(decades.columns[0]), _short(decades.columns[-1])
    axis = f"{'step':>8} {first}{last:>{columns - len(first)}}"
    names = "  ".join(f"{letter}:{layer}" for letter, layer in zip(CURVES, chosen.index, strict=False))
    return Text("\n".join([*lines, axis, names]))


def _positive(values: pd.DataFrame) -> list[np.ndarray]:
    found = values.to_numpy()
    found = found[np.isfinite(found) & (found > 0)]
    return [found] if found.size else []


def _spread(n: int, most: int) -> np.ndarray:
    """At most so many of n places, evenly spaced, first and last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int))


def _short(step: int) -> str:
    return f"{step}" if step < 1000 else f"{step / 1000:.0f}k"


def _clip(name: str, width: int) -> str:
    """A long name keeps its depth and its end."""
    depth, _, rest = name.partition(" ")
    return name if len(name) <= width else f"{depth} …{rest[len(depth) + 2 - width :]}"
