"""The recorder, the one that runs and `attach` share: rows of layers.csv for the steps of a cadence.

>>> recorder = Recorder(model, layers, chosen(["grad_fro", "activations"]), Cadence())
>>> recorder.before_forward(step); loss = ...; loss.backward()
>>> rows = recorder.after_backward(step)

Looking never changes the training, and never stops it: what cannot be measured is left out, said once in `notes` and in
the log, and marked in the table by a row NAME_skipped of value 1 in the place of the row NAME.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bnrepro.gradients import following, outputs, statistics  # noqa: F401 (they enter what they define)
from bnrepro.gradients.layers import Layer
from bnrepro.gradients.passes import Listener
from bnrepro.gradients.registry import FOLLOWING, SKIPPED, Statistic

Cells = dict[str, float | None]  # column: value, None where there is nothing to measure

log = logging.getLogger("bnrepro.gradients")


class Row(NamedTuple):
    """A row of layers.csv; its value is None where there is no gradient."""

    step: int
    depth: int
    layer: str
    statistic: str
    value: float | None


class Notes:
    """What was left out, and why: each said once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._said: set[str] = set()

    def skip(self, what: str, why: object) -> None:
        if what not in self._said:
            self._said.add(what)
            self.lines.append(f"not measured: {what}: {str(why).splitlines()[0] if str(why) else 'no reason given'}")
            log.warning(self.lines[-1])


class Recorder:
    """Call `before_forward` in front of the forward pass of every step, and `after_backward` behind backward."""

    def __init__(
        self,
        model: nn.Module,
        watched: Sequence[Layer],
        wanted: Sequence[Statistic],
        cadence: Container[int],
        notes: Notes | None = None,
        nonlinearities: Sequence[type[nn.Module]] = (),
    ):
        self.layers, self.wanted, self.cadence = list(watched), list(wanted), cadence
        self.notes = notes or Notes()
        heard = [statistic for statistic in wanted if statistic.of == "output"]
        self._listener = Listener(model, watched, heard, self.notes.skip, nonlinearities) if heard and watched else None
        self._kept: tuple[int, list[list[Tensor]], list[list[Tensor]]] | None = None

    def before_forward(self, step: int) -> None:
        """Hooks are on the model only for the forward passes of a step that is due."""
        if self._listener:
            self._listener.start() if step in self.cadence else self._listener.stop()

    def after_backward(self, step: int, scale: float = 1.0) -> list[Row]:
        """Of this step if it is due, and what has become known of the one before. Gradients are divided by `scale`."""
        rows = self._follow(step, scale)
        if step in self.cadence:
            rows += self._rows(step, [self._column(statistic, scale) for statistic in self.wanted])
            self._keep(step, scale)
        if self._listener:
            self._listener.stop()
        return rows

    def after_clipping(self, step: int) -> list[Row]:
        """The cheap statistics of the gradients as they are now, under names that end in `_clipped`."""
        if step not in self.cadence:
            return []
        cheap = [statistic for statistic in self.wanted if statistic.of == "gradient" and statistic.cost == "cheap"]
        columns = [self._column(statistic, 1.0) for statistic in cheap]
        clipped = [[{f"{name}_clipped": value for name, value in c.items()} for c in column] for column in columns]
        return self._rows(step, clipped)

    def close(self) -> None:
        if self._listener:
            self._listener.stop()
        self._kept = None

    def _rows(self, step: int, columns: list[list[Cells]]) -> list[Row]:
        """By layer, and for each by statistic, in the order that was asked for."""
        return [
            Row(step, layer.depth, layer.name, name, value)
            for i, layer in enumerate(self.layers)
            for column in columns
            for name, value in column[i].items()
        ]

    def _column(self, statistic: Statistic, scale: float) -> list[Cells]:
        """One statistic of every layer."""
        if statistic.of == "output":
            return self._heard(statistic)
        if statistic.of == "norm":
            return [self._of_norm(statistic, layer) for layer in self.layers]
        if statistic.of in FOLLOWING:
            return [{} for _ in self.layers]
        groups = [
            [statistics.gradient(weight) if statistic.of == "gradient" else weight for weight in layer.weights]
            for layer in self.layers
        ]
        try:
            values = [{statistic.name: value} for value in statistic.function(groups)]
        except Exception:  # one weight that torch cannot compute with does not take the others with it
            values = [self._alone(statistic, layer, group) for layer, group in zip(self.layers, groups, strict=True)]
        return [{name: _unscaled(value, scale, statistic) for name, value in cells.items()} for cells in values]

    def _alone(self, statistic: Statistic, layer: Layer, group: Sequence[Tensor | None]) -> Cells:
        try:
            (value,) = statistic.function([group])
            return {statistic.name: value}
        except Exception as error:
            return self._skipped(statistic, layer, error)

    def _skipped(self, statistic: Statistic, layer: Layer, error: object) -> Cells:
        self.notes.skip(f"{statistic.name} of {layer}", repr(error) if isinstance(error, Exception) else error)
        return {f"{statistic.name}{SKIPPED}": 1.0}

    def _of_norm(self, statistic: Statistic, layer: Layer) -> Cells:
        try:
            return statistic.function(layer.norm) if layer.norm is not None else {}
        except Exception as error:
            return self._skipped(statistic, layer, error)

    def _heard(self, statistic: Statistic) -> list[Cells]:
        try:
            heard = self._listener.heard() if self._listener else {}
        except Exception as error:  # the pass that is repeated for a compiled model
            self.notes.skip(statistic.name, repr(error))
            heard = {}
        if not heard:  # none of the layers: a custom nonlinearity, one called as a function, or scripted
            why = "no module of torch.nn that is a nonlinearity was called with gradients after any layer"
            self.notes.skip(statistic.name, why)
            return [{f"{statistic.name}{SKIPPED}": 1.0} for _ in self.layers]
        return [dict(heard.get(layer.name, {}).get(statistic.name, {})) for layer in self.layers]

    @torch.no_grad()
    def _keep(self, step: int, scale: float) -> None:
        """Copy what the next call compares with: weights before the update, and this batch's gradients."""
        sources = {statistic.of for statistic in self.wanted}
        weights = [_widened(layer.weights) if "update" in sources else [] for layer in self.layers]
        gradients = [_gradients(layer, scale) if "next gradient" in sources else [] for layer in self.layers]
        self._kept = (step, weights, gradients) if sources & set(FOLLOWING) else None

    @torch.no_grad()
    def _follow(self, step: int, scale: float) -> list[Row]:
        """What the last due step did to the weights, and how far its gradient agrees with this one's."""
        if self._kept is None:
            return []
        last, weights, gradients = self._kept
        self._kept = None
        columns = []
        for statistic in self.wanted:
            if statistic.of == "update":
                pairs = zip(self.layers, weights, (_widened(layer.weights) for layer in self.layers), strict=True)
                columns.append(list(self._compared(statistic, pairs)))
            if statistic.of == "next gradient" and step == last + 1:
                new = (_gradients(layer, scale) for layer in self.layers)
                columns.append(list(self._compared(statistic, zip(self.layers, gradients, new, strict=True))))
        return self._rows(last, columns)

    def _compared(
        self, statistic: Statistic, pairs: Iterable[tuple[Layer, list[Tensor], list[Tensor]]]
    ) -> Iterator[Cells]:
        for layer, old, new in pairs:
            try:
                yield {statistic.name: statistic.function(old, new)}
            except Exception as error:
                yield self._skipped(statistic, layer, error)


def _gradients(layer: Layer, scale: float) -> list[Tensor]:
    """Copies of the gradients that are there, in float64 and unscaled."""
    present = [grad for weight in layer.weights if (grad := statistics.gradient(weight)) is not None]
    return [grad / scale for grad in _widened([grad.to_dense() if grad.is_sparse else grad for grad in present])]


def _widened(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Copies, in float64 where the device has it."""
    wide = (statistics.prepared(tensor.detach()) for tensor in tensors)
    return [tensor.to(statistics.widest(tensor), copy=True) for tensor in wide]


def _unscaled(value: float | None, scale: float, statistic: Statistic) -> float | None:
    return value if value is None or scale == 1 else value / scale**statistic.degree
