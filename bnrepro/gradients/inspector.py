"""Gradients layer by layer in any training loop: two lines, the same layers.csv as every run of bnrepro.

>>> watch = attach(model, "runs/mine")     # before the loop
>>> loss.backward()
>>> watch.after_backward()                 # before the optimizer step
>>> watch.frame()                          # run, step, depth, layer, statistic, value

Only reads: weights, gradients, buffers, random state and losses are bit for bit those of the same training unwatched.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnrepro.core import records
from bnrepro.gradients import layers, statistics
from bnrepro.gradients.activations import Listener

if TYPE_CHECKING:
    import pandas as pd

    from bnrepro.gradients import view

CHEAP = ("grad_fro", "grad_abs_mean", "grad_max")
FOLLOWING = ("update_ratio", "grad_noise")  # known at the next call
FULL = (*CHEAP, "grad_spectral", "weight_fro", *FOLLOWING, "activations")
SETS = {"cheap": CHEAP, "full": FULL}


def attach(
    model: nn.Module,
    directory: str | Path | None = None,
    *,
    statistics: str | Sequence[str] = "cheap",
    every: int | Collection[int] | None = None,
    select: layers.Select | None = None,
    blocks: int | None = None,
    replace: bool = False,
) -> Inspector:
    """Watch the weights of `model`; rows go to DIRECTORY/layers.csv, or stay in memory where none is given.

    `statistics`: "cheap" (Frobenius norm, mean and largest absolute gradient), "full", or names of FULL. `every`: one
    step in so many, a collection of steps, or None for about ten in each factor of ten, which follows a run of any
    length. `select`, `blocks`: which layers, and grouped how (`layers.find`). `replace`: overwrite an old layers.csv.
    Raises ValueError for what it cannot measure, and RecordError where a layers.csv would be overwritten.

    Among processes of torch.distributed only rank 0 measures: what it reads is the reduced gradient.
    """
    names = SETS.get(statistics) if isinstance(statistics, str) else tuple(statistics)
    if names is None or (unknown := set(names) - set(FULL)):
        wrong = statistics if names is None else ", ".join(sorted(unknown))
        raise ValueError(f"statistics={wrong}: must be one of cheap, full, or names of {', '.join(FULL)}")
    bare = layers.unwrapped(model)
    found = layers.find(bare, select, blocks)
    if _rank() != 0:
        return Inspector(model, [], names, lambda step: False)
    path = None if directory is None else Path(directory) / "layers.csv"
    if path and path.exists() and not replace:
        raise records.RecordError(f"{path}: there already; choose another directory, or replace=True")
    return Inspector(model, found, names, _cadence(every), path)


class Inspector:
    """What `attach` returns. Call `after_backward` once in every optimizer step."""

    def __init__(
        self,
        model: nn.Module,
        watched: Sequence[layers.Layer],
        statistics: Sequence[str],
        due: Callable[[int], bool],
        path: Path | None = None,
    ):
        self.layers, self.statistics, self.due = watched, statistics, due
        self.step = 0
        self._groups = [layer.weights for layer in watched]
        self._now = [name for name in statistics if name not in (*FOLLOWING, "activations")]
        self._path, self._rows = path, []
        self._table = _open(path) if path else None
        self._kept: tuple[int, list, list] | None = None
        self._listener = Listener(model, watched) if "activations" in statistics else None
        self._listen(1)

    def after_backward(self, step: int | None = None, scaler: torch.amp.GradScaler | None = None) -> None:
        """Measure, if this step is due. Steps count from 1, by themselves unless `step` is given.

        Call it after the last backward pass of the step, before the gradients are clipped and before the optimizer
        steps. Gradients that still carry the factor of a GradScaler need `scaler`; after `scaler.unscale_` they do not.
        Raises ValueError for a step that does not come after the last one, or gradients that are unscaled already.
        """
        step = self.step + 1 if step is None else step
        if step <= self.step:
            raise ValueError(f"step={step}: must come after {self.step}")
        scale = _scale(scaler)
        self._follow(step, scale)
        self.step = step
        if self.due(step):
            found = [_unscaled(values, scale) for values in statistics.measure(self._groups, self._now)]
            if self._listener:
                heard = self._listener.heard()
                found = [values | heard.get(layer.depth, {}) for values, layer in zip(found, self.layers, strict=True)]
            self._write(step, found)
            self._keep(step, scale)
        self._listen(step + 1)

    def after_clipping(self) -> None:
        """Measure the cheap statistics once more, under names that end in `_clipped`."""
        if self.due(self.step):
            names = [name for name in self._now if name in CHEAP]
            found = statistics.measure(self._groups, names)
            self._write(self.step, [{f"{name}_clipped": value for name, value in row.items()} for row in found])

    def frame(self) -> pd.DataFrame:
        """All rows so far: run, step, depth, layer, statistic, value; nan where there is no gradient."""
        return self._layers().drop(columns="missing")

    def words(self) -> list[str]:
        """What the rows mean, by the rules of bnrepro/words.py."""
        from bnrepro.gradients import findings

        return [finding.text for finding in findings.findings(self._layers())]

    def look(self, name: str = "watched") -> view.Look:
        """What `terminal.show` and `look_figure.draw` show, under this name."""
        from bnrepro.gradients import view

        return view.Look(name, self._layers())

    def _layers(self) -> pd.DataFrame:
        import pandas as pd

        if self._path:
            return records.read_layers(self._path)
        frame = pd.DataFrame([("watched", *row) for row in self._rows], columns=records.COLUMNS["layers"])
        missing = frame["value"].map(lambda value: value is None).astype(bool)
        return frame.assign(missing=missing, value=frame["value"].astype(float))

    def close(self) -> None:
        """Leave the model: no hook stays, the file is closed, `frame` goes on to work."""
        if self._listener:
            self._listener.stop()
        if self._table:
            self._table.close()
        self.due = lambda step: False

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _listen(self, step: int) -> None:
        if self._listener:  # hooks are on the model only for the forward passes of a step that is due
            self._listener.start() if self.due(step) else self._listener.stop()

    @torch.no_grad()
    def _keep(self, step: int, scale: float) -> None:
        """Copy what the next call compares with: weights before the update, and this batch's gradients."""
        if any(name in FOLLOWING for name in self.statistics):
            weights = [[weight.detach().clone() for weight in group] for group in self._groups]
            self._kept = (step, weights, [_gradients(group, scale) for group in self._groups])

    @torch.no_grad()
    def _follow(self, step: int, scale: float) -> None:
        """What the last due step did to the weights, and how far its gradient agrees with this one's."""
        if self._kept is None:
            return
        last, weights, gradients = self._kept
        self._kept = None
        found = [{} for _ in self.layers]
        if "update_ratio" in self.statistics:
            for row, group, old in zip(found, self._groups, weights, strict=True):
                before = _widened(old)
                row["update_ratio"] = _ratio(map(operator.sub, _widened(group), before), before)
        if "grad_noise" in self.statistics and step == last + 1:
            for row, group, old in zip(found, self._groups, gradients, strict=True):
                row["grad_noise"] = _noise(old, _gradients(group, scale))
        self._write(last, found)

    def _write(self, step: int, found: Sequence[dict[str, float | None]]) -> None:
        rows = [
            (step, layer.depth, layer.name, name, value)
            for layer, values in zip(self.layers, found, strict=True)
            for name, value in values.items()
        ]
        self._table.write(rows) if self._table else self._rows.extend(rows)


def _ratio(above: Iterable[torch.Tensor], below: Iterable[torch.Tensor]) -> float | None:
    """Frobenius norm of the first group over that of the second; None where the second is zero."""
    numerator, denominator = statistics.frobenius([list(above), list(below)])
    return numerator / denominator if denominator else None


def _noise(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float | None:
    """||g - h|| / ||g + h||: 0 where two batches agree, about 1 where their gradients are nothing but noise."""
    if not first or len(first) != len(second):
        return None
    return _ratio(map(operator.sub, first, second), map(operator.add, first, second))


def _gradients(group: statistics.Group, scale: float) -> list[torch.Tensor]:
    """Copies of the gradients that are there, in float64 and unscaled."""
    present = [weight.grad for weight in group if statistics.gradient(weight) is not None]
    return [grad.to_dense() / scale for grad in _widened(present)]


def _widened(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().to(statistics.widest(tensor)) for tensor in tensors]


def _unscaled(values: dict[str, float | None], scale: float) -> dict[str, float | None]:
    """Every gradient statistic of `layer_statistics` grows with the gradient in proportion."""
    scaled = {name for name, value in values.items() if name.startswith("grad_") and value is not None}
    return {name: value / scale if name in scaled else value for name, value in values.items()}


def _scale(scaler: torch.amp.GradScaler | None) -> float:
    if scaler is None:
        return 1.0
    stages = [state["stage"].name for state in getattr(scaler, "_per_optimizer_states", {}).values()]
    if "UNSCALED" in stages:
        raise ValueError("scaler: the gradients are unscaled already; call after_backward() without it")
    return scaler.get_scale()


def _cadence(every: int | Collection[int] | None) -> Callable[[int], bool]:
    if every is None:
        return lambda step: step == round(10 ** (round(10 * math.log10(step)) / 10))
    if isinstance(every, int):
        if every < 1:
            raise ValueError(f"every={every}: must be 1 or more")
        return lambda step: step == 1 or step % every == 0
    return frozenset(every).__contains__


def _open(path: Path) -> records.Table:
    path.parent.mkdir(parents=True, exist_ok=True)
    return records.Table(path, "layers", path.parent.resolve().name)


def _rank() -> int:
    there = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if there else 0
