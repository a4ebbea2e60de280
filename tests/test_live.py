"""Rows as they come: what a step returns, and what is written where while a training runs."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bnrepro.core import records
from bnrepro.gradients import attach as attaching
from bnrepro.gradients import live
from bnrepro.gradients.recorder import Row

attach = attaching.attach


@pytest.fixture
def train():
    """train(steps, **what attach takes): the watch, and the rows that its steps returned."""

    def run(steps: int = 3, statistics=("grad_fro",), **given):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
        model[0].requires_grad_(False)
        watch = attach(model, every=1, statistics=statistics, **given)
        returned = []
        for step in range(steps):
            model.zero_grad()
            model(torch.ones(2, 4) * (step + 1)).square().sum().backward()
            returned.append(watch.after_backward())
            with torch.no_grad():
                model[2].weight -= 0.01 * model[2].weight.grad
        watch.close()
        return watch, returned

    return run


def test_a_step_returns_its_rows_and_what_became_known_of_the_last_one(train):
    watch, (first, second, _) = train(statistics=("grad_fro", "update_ratio"))
    assert [row[:4] for row in first] == [(1, 1, "0", "grad_fro"), (1, 2, "2", "grad_fro")]
    assert first[0].value is None and first[1].value > 0
    assert {(row.step, row.statistic) for row in second} == {(1, "update_ratio"), (2, "grad_fro")}
    assert watch.after_backward() == []  # closed


def test_every_destination_gets_every_row_of_its_step(train, tmp_path):
    scalars, logged, called = [], [], []
    writer = SimpleNamespace(add_scalar=lambda *given: scalars.append(given))
    _, returned = train(to=[tmp_path / "rows.csv", writer, SimpleNamespace(log=logged.append), called.append])
    assert called == returned and all(isinstance(row, Row) for rows in called for row in rows)
    there = [row for rows in returned for row in rows if row.value is not None]
    assert scalars == [("grad_fro/02 2", row.value, row.step) for row in there]
    assert logged == [{live.STEP: row.step, "grad_fro/02 2": row.value} for row in there]
    table = records.read_layers(tmp_path / "rows.csv")
    assert list(table["value"].dropna()) == [row.value for row in there] and table["missing"].sum() == 3


def test_tensorboard_reads_what_its_library_wrote(train, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, returned = train(to=f"tensorboard={tmp_path}")
    events = accumulator.EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    found = [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors("grad_fro/02 2")]
    assert found == [(row.step, pytest.approx(row.value)) for rows in returned for row in rows if row.value is not None]


def test_a_destination_that_fails_is_said_once_and_stops_nothing(train):
    calls, good = [], []

    def full(rows):
        calls.append(rows)
        raise OSError("no space left")

    watch, _ = train(to=[full, good.append])
    assert len(calls) == 1 and len(good) == 3
    assert watch.notes == ["not measured: rows for full: OSError('no space left')"]


def test_what_is_no_destination_or_not_installed_is_refused_at_once(train, monkeypatch):
    with pytest.raises(ValueError, match=r"to='nowhere': must be FILE.csv, tensorboard=DIR, wandb, trackio"):
        train(to="nowhere")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(records.RecordError, match="wandb: not installed; pip install 'wandb"):
        train(to="wandb")
