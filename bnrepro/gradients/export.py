"""Rows of layers.csv as scalars of TensorBoard: a chart for every layer and statistic, a curve for every run."""

from __future__ import annotations

from pathlib import Path

from bnrepro.gradients import live
from bnrepro.gradients.recorder import Row
from bnrepro.gradients.view import Look


def export(look: Look, directory: Path) -> Path:
    """Write DIRECTORY/RUN; a chart is called STATISTIC/DEPTH LAYER. Missing gradients are left out.

    Raises RecordError where TensorBoard, which is optional, is not installed.
    """
    writer = live.tensorboard_writer(str(directory / look.name))
    there = look.layers[~look.layers["missing"]]
    for row in map(Row._make, there[list(Row._fields)].itertuples(index=False)):
        writer.add_scalar(live.chart(row), row.value, step=row.step)
    writer.close()
    return directory / look.name
