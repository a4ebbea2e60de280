"""Gradients layer by layer in any training loop: two lines, the same layers.csv as every run of bnrepro.

>>> watch = attach(model, "runs/mine")     # before the loop
>>> loss.backward()
>>> watch.after_backward()                 # before the optimizer step
>>> watch.frame()                          # run, step, depth, layer, statistic, value

Only reads: weights, gradients, buffers, random state and losses are bit for bit those of the same training unwatched.
After `attach` nothing raises: what cannot be measured is left out and said once, in the log and in `watch.notes`.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnrepro.core import records
from bnrepro.gradients import layers, schedule
from bnrepro.gradients.layers_file import LayersFile
from bnrepro.gradients.live import Destinations
from bnrepro.gradients.passes import Calls
from bnrepro.gradients.recorder import Notes, Recorder, Row
from bnrepro.gradients.registry import Statistic, chosen

if TYPE_CHECKING:
    import pandas as pd

    from bnrepro.gradients import view


def attach(
    model: nn.Module,
    directory: str | Path | None = None,
    *,
    statistics: str | Sequence[str] = "cheap",
    every: float | Collection[int] | None = None,
    select: layers.Select | None = None,
    blocks: int | None = None,
    nonlinearities: Sequence[type[nn.Module]] = (),
    replace: bool = False,
    resume: bool | int = False,
    to: Any = None,
) -> Watch:
    """Watch the weights of `model`; rows go to DIRECTORY/layers.csv, or stay in memory where none is given.

    `statistics`: "cheap" (Frobenius norm, mean and largest absolute gradient), "full", or names of the registry.
    `every`: one step in so many, a collection of steps, or None for about ten in each factor of ten, which follows a
    run of any length. `select`, `blocks`: which layers, and grouped how (`layers.find`). `nonlinearities`: modules of
    the user's own whose outputs count as activations. `replace`: overwrite an old layers.csv. `resume`: continue one,
    where there is one, behind this step; True behind the last recorded one, or where after_backward(step=...) says.
    `to`: where rows go as well while it runs, one or a list of: FILE.csv, "tensorboard=DIR", "wandb" or "trackio"
    (whose run has begun), an object with `add_scalar` or `log`, a function of the step's rows.
    Raises ValueError for what it cannot measure, and RecordError where a layers.csv would be overwritten.

    Among processes of torch.distributed only rank 0 measures: what it reads is the reduced gradient.
    """
    wanted, cadence = chosen(statistics), schedule.cadence(every)
    found = layers.find(layers.unwrapped(model), select, blocks)
    rank = _rank()
    table = None
    if directory is not None and rank == 0:
        table = LayersFile(Path(directory) / "layers.csv", replace, resume)
    last = table.last if table else None
    watch = Watch(model, found, wanted, cadence, table, (select, blocks), tuple(nonlinearities), rank, last)
    if rank == 0:
        watch.live = Destinations(to, watch._notes, replace, resume)
    return watch


class Watch:
    """What `attach` returns. Call `after_backward` once in every optimizer step.

    `layers`: what is watched, in the order of execution once a pass has shown it. `notes`: what could not be measured.
    """

    def __init__(
        self,
        model: nn.Module,
        found: Sequence[layers.Layer],
        wanted: Sequence[Statistic],
        cadence: schedule.Cadence,
        table: LayersFile | None = None,
        choice: tuple[layers.Select | None, int | None] = (None, None),
        nonlinearities: tuple[type[nn.Module], ...] = (),
        rank: int = 0,
        last: int | None = None,
    ):
        self.model, self.layers, self.statistics, self.cadence = model, list(found), list(wanted), cadence
        self.step: int | None = last
        self._notes, self._table, self._choice, self._types = Notes(), table, choice, nonlinearities
        self._rank, self._open = rank, rank == 0
        self._rows: list[Row] = []
        self.live = Destinations(None, self._notes)
        self._calls = Calls(layers.unwrapped(model).modules() if self._open else ())
        self._watch(found)

    @property
    def notes(self) -> list[str]:
        """What was left out, and why, a line for each."""
        return self._notes.lines

    def after_backward(self, step: int | None = None, scaler: torch.amp.GradScaler | None = None) -> list[Row]:
        """Measure, if this step is due, and return the rows, with those that have become known of an earlier step.

        A row has step, depth, layer, statistic and value (None where there is no gradient). Steps count from 1, by
        themselves unless `step` is given.
        Call it after the last backward pass of the step, before the gradients are clipped and before the optimizer
        steps. Gradients that still carry the factor of a GradScaler need `scaler`; after `scaler.unscale_` they may
        have it. A step that does not come after the last one is left out.
        """
        if not self._open:
            return []
        try:
            return self._after_backward(step, scaler)
        except Exception as error:  # the training goes on, whatever is wrong here
            self._notes.skip("a step", repr(error))
            return []

    def _after_backward(self, given: int | None, scaler: torch.amp.GradScaler | None) -> list[Row]:
        step = (self.step or 0) + 1 if given is None else operator.index(given)
        if given is not None and self._table and self._table.open_ended:
            self._table.cut(step)
        elif self.step is not None and step <= self.step:
            self._notes.skip(f"step {step}", f"a step must come after the last one, {self.step}")
            return []
        self.step = step
        self._settle(step)
        scale, rows = _scale(scaler), []
        if scale is None:
            self._notes.skip(f"step {step}", "the scaler has unscaled the gradients of some optimizers, not of others")
        else:
            rows = self.recorder.after_backward(step, scale)
            self._write(rows)
        self.recorder.before_forward(step + 1)
        return rows

    def after_clipping(self) -> list[Row]:
        """Measure the cheap statistics once more, under names that end in `_clipped`, and return the rows."""
        if not self._open or self.step is None:
            return []
        try:
            rows = self.recorder.after_clipping(self.step)
            self._write(rows)
        except Exception as error:  # as above
            self._notes.skip("a step, clipped", repr(error))
            return []
        return rows

    def frame(self) -> pd.DataFrame:
        """All rows so far: run, step, depth, layer, statistic, value; nan where there is no gradient."""
        return self.table().drop(columns="missing")

    def table(self) -> pd.DataFrame:
        """The same with the column `missing`: true where there is no gradient, as against one that is nan."""
        import pandas as pd

        if self._table:
            return records.read_layers(self._table.path)
        rows = [("watched", *row[:-1], float("nan") if row[-1] is None else row[-1]) for row in self._rows]
        frame = pd.DataFrame(rows, columns=records.COLUMNS["layers"])
        return frame.assign(missing=pd.Series([row[-1] is None for row in self._rows], dtype=bool))

    def words(self) -> list[str]:
        """What the rows mean, by the rules of bnrepro/gradients/findings.py, and what was left out."""
        from bnrepro.gradients import findings

        if self._rank:
            return [f"nothing recorded: this is rank {self._rank}, and rank 0 measures"]
        rows = self.table()
        if not len(rows):
            return ["nothing recorded so far", *self.notes]
        try:
            return [finding.text for finding in findings.findings(rows)]
        except ValueError as error:
            return [str(error)]

    def look(self, name: str = "watched") -> view.Look:
        """What `terminal.show` and `heatmap.draw` show, under this name."""
        from bnrepro.gradients import view

        return view.Look(name, self.table())

    def close(self) -> None:
        """Leave the model: no hook stays, the file is closed, `frame` goes on to work."""
        self._open = False
        self.recorder.close()
        self._calls.stop()
        self.live.close()
        if self._table:
            self._table.close()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _watch(self, found: Sequence[layers.Layer]) -> None:
        """Measure these layers from now on."""
        self.layers = list(found)
        self.recorder = Recorder(
            self.model, found if self._open else [], self.statistics, self.cadence, self._notes, self._types
        )
        self.recorder.before_forward((self.step or 0) + 1)

    def _settle(self, step: int) -> None:
        """Before a step is recorded: the parameters that the model has now, in the order in which they were called."""
        if step not in self.cadence:
            return
        bare, noting = layers.unwrapped(self.model), self._calls.stop()
        if not self.layers or not layers.there(bare, self.layers):
            self.recorder.close()
            self._watch(layers.ordered(layers.find(bare, *self._choice), self._calls.order))
        elif noting:
            self.layers = self.recorder.layers = layers.ordered(self.layers, self._calls.order)

    def _write(self, rows: Sequence[Row]) -> None:
        self._table.write(rows) if self._table else self._rows.extend(rows)
        self.live.write(rows)


def _scale(scaler: torch.amp.GradScaler | None) -> float | None:
    """The factor that the gradients still carry; None where it is not the same for all."""
    if scaler is None:
        return 1.0
    stages = {state["stage"].name for state in getattr(scaler, "_per_optimizer_states", {}).values()}
    if not stages & {"UNSCALED", "STEPPED"}:
        return scaler.get_scale()
    return None if "READY" in stages else 1.0


def _rank() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if there else 0
