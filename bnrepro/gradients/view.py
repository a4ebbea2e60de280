"""One run to look at: its layers.csv found by directory or by name, the statistic that is shown, and the words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro.core import paths, records
from bnrepro.core.schema import GRADIENTS
from bnrepro.gradients import findings, profile, theory

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Look:
    """A run: its name, its layers.csv with the column `missing`, and the theory for its frozen configuration."""

    name: str
    layers: pd.DataFrame
    expected: tuple[float, str] | None = None

    @cached_property
    def findings(self) -> list[findings.Finding]:
        return findings.findings(self.layers, self.expected)

    def grid(self, statistic: str | None) -> pd.DataFrame:
        """Layers by steps of one statistic, by default the gradient that the words are about.

        Layers are called by depth and name, so that layers of one role have one depth in two arms, whatever is between.

        Raises RecordError for a statistic that the run did not record.
        """
        there = list(dict.fromkeys(self.layers["statistic"]))
        if statistic is not None and statistic not in there:
            raise records.RecordError(f"statistic={statistic}: {self.name} recorded {', '.join(there)}")
        return self._labelled(profile.grid(self.layers, statistic))

    def missing(self, statistic: str | None) -> pd.DataFrame:
        """True where a layer had no gradient, as against one that is not finite."""
        return self._labelled(profile.grid(self.layers, statistic, self.layers["missing"].astype(float))).ne(0)

    def _labelled(self, grid: pd.DataFrame) -> pd.DataFrame:
        depths = profile.depths(self.layers)
        return grid.rename(index=lambda name: f"{depths[name]} {name}")


def find(run: str, out: Path = Path("outputs")) -> Look:
    """A run by its directory, or by its name under OUT or among the published results.

    Raises RecordError where there is none, or more than one, or where no gradient is recorded.
    """
    directory = Path(run)
    if not directory.is_dir():
        places = sorted(path for path in out.glob("*/*/runs/*") if path.name == run)
        if len(places) > 1:
            raise records.RecordError(f"{run}: {len(places)} runs have this name; give a directory: {places[0]}, ...")
        if not places:
            return _published(run, out)
        directory = places[0]
    layers = records.read_layers(directory / "layers.csv")
    names = list(layers["run"].unique())
    if len(names) > 1:
        raise records.RecordError(f"{directory}: holds {len(names)} runs; give one by name: {names[0]}, ...")
    config = records.read_json(directory / "config.json")
    return _checked(Look(directory.resolve().name, layers, theory.expected(config) if config else None))


def of_arms(home: Path) -> list[Look]:
    """Of the tables of an experiment the first run of each norm, two at most, with gradients of several layers."""
    runs = records.read(home / "runs.csv", "runs")
    layers = records.read_layers(home / "layers.csv")
    layers = layers[layers["statistic"].isin(GRADIENTS)]
    deep = layers.groupby("run")["layer"].nunique()
    runs = runs[runs["run"].isin(deep.index[deep > 1])]
    firsts = runs.drop_duplicates("model.norm") if "model.norm" in runs else runs
    return [Look(run, layers[layers["run"] == run]) for run in firsts["run"].head(2)]


def _published(run: str, out: Path) -> Look:
    for path in sorted(paths.RESULTS.glob("*/runs.csv")):
        layers = records.read_layers(path.with_name("layers.csv"))
        if (rows := layers[layers["run"] == run]).size:
            return _checked(Look(run, rows))
    raise records.RecordError(f"{run}: neither a run's directory nor a run in {out} or {paths.RESULTS.name}")


def _checked(look: Look) -> Look:
    try:
        profile.statistic_of(look.layers)
    except ValueError as error:
        raise records.RecordError(f"{look.name}: {error}") from None
    return look
