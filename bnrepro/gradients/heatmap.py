"""A run as a figure: heat map of layers by recorded steps, and a curve for every layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from bnrepro.core import records, style
from bnrepro.gradients import profile
from bnrepro.gradients.view import Look

DATED = {"svg": "Date", "pdf": "CreationDate"}
LABELS = 24  # names of layers that fit beside a heat map


def save(looks: Sequence[Look], target: str | Path | TextIO, statistic: str | None = None, file_format=None) -> None:
    """Write the figure of one run, or of two below each other on one scale; the format is that of the file's name.

    Raises RecordError for a name whose ending is no picture format.
    """
    kinds = sorted(Figure().canvas.get_supported_filetypes())
    kind = file_format or Path(target).suffix.lstrip(".").lower()
    if kind not in kinds:
        raise records.RecordError(f"figure={target}: must end in {', '.join(kinds)}, not in {kind or 'nothing'}")
    with style.context():
        draw(looks, statistic).savefig(
            target, format=file_format, metadata={DATED[kind]: None} if kind in DATED else None
        )


@style.context()
def draw(looks: Sequence[Look], statistic: str | None = None) -> Figure:
    """The figure that `save` writes, to show in a notebook."""
    grids = [look.grid(statistic) for look in looks]
    rows = max(len(grid) for grid in grids)
    figure = Figure(figsize=(style.WIDTH, len(looks) * np.clip(0.13 * rows + 1.5, 2.4, 6)), layout="constrained")
    norm = _norm(grids)
    parts = np.atleast_1d(figure.subfigures(len(looks), 1))
    for part, look, grid in zip(parts, looks, grids, strict=True):
        left, right = part.subplots(1, 2, width_ratios=[1.15, 1])
        image = _heat_map(left, grid, look.missing(statistic), norm)
        _curves(right, grid, norm)
        part.colorbar(image, ax=left, label=statistic or profile.statistic_of(look.layers))
        text = "\n".join(finding.text for finding in look.findings)
        part.suptitle(f"{look.name}\n{_wrapped(text, 120)}", fontsize=7)
    return figure


def _norm(grids: Sequence[pd.DataFrame]) -> LogNorm:
    values = np.concatenate([grid.to_numpy().ravel() for grid in grids])
    values = values[np.isfinite(values) & (values > 0)]
    return LogNorm(values.min(), values.max()) if values.size else LogNorm(0.1, 1)


def _heat_map(axis, grid: pd.DataFrame, missing: pd.DataFrame, norm: LogNorm):
    """Layers downwards from the input. Grey: no gradient; red: not finite; the darkest colour: exactly zero."""
    values = grid.to_numpy()
    colours = mpl.colormaps["viridis"].with_extremes(bad="none", under=mpl.colormaps["viridis"](0.0))
    shown = np.where(values == 0, norm.vmin / 10, np.where(np.isfinite(values), values, np.nan))
    marks = np.where(missing.to_numpy(), 0.0, np.where(np.isfinite(values), np.nan, 1.0))
    axis.imshow(marks, aspect="auto", cmap=mpl.colors.ListedColormap(["#CFCFCF", "#E00000"]), vmin=0, vmax=1)
    image = axis.imshow(shown, aspect="auto", cmap=colours, norm=norm)
    picks = np.unique(np.linspace(0, len(grid) - 1, min(len(grid), LABELS)).round().astype(int))
    axis.set_yticks(picks, [_short(str(grid.index[i])) for i in picks], fontsize=5.5)
    steps = np.unique(np.linspace(0, grid.shape[1] - 1, min(grid.shape[1], 7)).round().astype(int))
    axis.set_xticks(steps, [str(grid.columns[i]) for i in steps])
    axis.set(xlabel="recorded step", ylabel="layer, the input's at the top")
    axis.grid(False)
    return image


def _curves(axis, grid: pd.DataFrame, norm: LogNorm) -> None:
    colours = mpl.colormaps["plasma"](np.linspace(0, 0.9, len(grid)))
    for colour, (_, values) in zip(colours, grid.iterrows(), strict=True):
        kept = values[np.isfinite(values) & (values > 0)]
        axis.plot(kept.index, kept.to_numpy(), color=colour, linewidth=0.9, marker="" if grid.shape[1] > 1 else "o")
    axis.set(xscale="log", yscale="log", xlabel="step", ylim=(norm.vmin / 1.5, norm.vmax * 1.5))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axis.xaxis.set_minor_formatter("{x:g}" if grid.columns[-1] <= 1000 * grid.columns[0] else "")
    if grid.shape[1] > 1:
        axis.set_xlim(grid.columns[0], grid.columns[-1])
    for label, place in (("first", 0), ("last", -1)):
        axis.plot([], [], color=colours[place], label=f"{label}: {grid.index[place]}")
    axis.legend(loc="best", fontsize=5.5, frameon=True, framealpha=0.8, edgecolor="none")


def _short(name: str, width: int = 28) -> str:
    """A long name keeps its depth and its end."""
    depth, _, rest = name.partition(" ")
    return name if len(name) <= width else f"{depth} …{rest[len(depth) + 2 - width :]}"


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, width))
