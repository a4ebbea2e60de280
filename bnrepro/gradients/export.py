"""Rows of layers.csv as scalars of TensorBoard: a chart for every layer and statistic, a curve for every run."""

from __future__ import annotations

from pathlib import Path

from bnrepro.core import extras, records
from bnrepro.gradients.view import Look


def export(look: Look, directory: Path) -> Path:
    """Write DIRECTORY/RUN; a chart is called STATISTIC/DEPTH LAYER. Missing gradients are left out.

    Raises RecordError where TensorBoard, which is optional, is not installed.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise records.RecordError(f"tensorboard: not installed; {extras.command('tensorboard')}") from None
    writer = Writer(str(directory / look.name))
    for row in look.layers[~look.layers["missing"]].itertuples():
        writer.add_scalar(f"{row.statistic}/{row.depth:02d} {row.layer}", row.value, step=row.step)
    writer.close()
    return directory / look.name
