"""Tables for a notebook or a script: of one experiment, or of all that are published."""

from __future__ import annotations

from pathlib import Path

from bnrepro.core import paths, records


def load(name: str | None = None, directory: str | Path | None = None) -> records.Tables:
    """runs, metrics and layers as pandas frames, metrics and layers joined with the settings of their runs.

    `name` is an experiment, None all of them, with a column `experiment` in each frame. `directory` holds
    NAME/runs.csv, e.g. "outputs/laptop" after `bnrepro draw`; None: the published results.

    Raises RecordError, naming the file.
    """
    if name is not None:
        if name not in paths.experiments():
            raise records.RecordError(f"{name}: no such experiment; `bnrepro list` shows them")
        return records.load(_home(name, directory))
    homes = {one: _home(one, directory) for one in paths.experiments()}
    found = {one: records.load(home) for one, home in homes.items() if (home / "runs.csv").exists()}
    if not found:
        raise records.RecordError(f"{directory or paths.RESULTS}: no tables of any experiment")
    return _together(found)


def _home(name: str, directory: str | Path | None) -> Path:
    return paths.home(name).results / name if directory is None else Path(directory) / name


def _together(found: dict[str, records.Tables]) -> records.Tables:
    import pandas as pd

    def joined(table: str) -> pd.DataFrame:
        frames = [getattr(tables, table).assign(experiment=name) for name, tables in found.items()]
        return pd.concat(frames, ignore_index=True)

    return records.Tables(joined("runs"), joined("metrics"), joined("layers"))
