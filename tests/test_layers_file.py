"""layers.csv of a watched training: quoted, and continued where the training was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnrepro.core import records
from bnrepro.gradients.attach import attach

STRANGE = ["a,b", 'say "hi"', "two\nlines", "line\u2028separator", "\r", " ", "名前", "", "nan", "1"]


def train(model: nn.Module, watch, steps: range, given: bool = False) -> None:
    for step in steps:
        model.zero_grad()
        (step * model(torch.ones(2, 3))).sum().backward()
        watch.after_backward(step if given else None)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({name.replace(".", "_") or "empty": nn.Linear(3, 3) for name in STRANGE})

    def forward(self, x):
        for part in self.parts.values():
            x = part(x)
        return x


@pytest.mark.parametrize("name", ["lr=0.1,bs=32", 'say "hi"', "two\nlines", "u\u2028v", "plain"])
def test_any_name_of_a_run_or_layer_is_read_back(name, tmp_path):
    model = Named()
    with attach(model, tmp_path / name, every=1) as watch:
        train(model, watch, range(1, 3))
    frame = records.read_layers(tmp_path / name / "layers.csv")
    assert set(frame["run"]) == {name}
    assert set(frame["layer"]) == {f"parts.{part}" for part in model.parts} and len(frame) == 2 * 3 * len(model.parts)
    assert watch.words()


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))


def whole(model: nn.Module, directory, **settings) -> bytes:
    with attach(model, directory, every=1, **settings) as watch:
        train(model, watch, range(1, 9))
    return (directory / "layers.csv").read_bytes()


@pytest.mark.parametrize("resume", [4, True])
def test_a_continued_table_is_that_of_one_training(model, tmp_path, resume):
    expected = whole(model, tmp_path / "one" / "run")
    with attach(model, tmp_path / "two" / "run", every=1) as watch:
        train(model, watch, range(1, 7))  # killed after step 6; the last checkpoint was of step 4
    with attach(model, tmp_path / "two" / "run", every=1, resume=resume) as watch:
        train(model, watch, range(5, 9), given=resume is True)
    assert (tmp_path / "two" / "run" / "layers.csv").read_bytes() == expected


def test_without_numbers_it_goes_on_behind_the_last_recorded_step(model, tmp_path):
    with attach(model, tmp_path, every=2) as watch:
        train(model, watch, range(1, 6))
    with attach(model, tmp_path, every=2, resume=True) as watch:
        train(model, watch, range(5, 8))
    assert sorted(set(watch.frame()["step"])) == [1, 2, 4, 6]


def test_a_line_that_a_kill_cut_is_dropped_and_a_first_start_may_say_resume(model, tmp_path):
    expected = whole(model, tmp_path / "run", resume=True)
    path = tmp_path / "run" / "layers.csv"
    path.write_bytes(expected[:-7])
    attach(model, tmp_path / "run", resume=True).close()
    assert expected.startswith(path.read_bytes()) and path.read_bytes().endswith(b"\n")


def test_something_else_is_not_continued(model, tmp_path):
    (tmp_path / "layers.csv").write_text("a,b\n1,2\n")
    with pytest.raises(records.RecordError, match="layers.csv, row 1: no layers.csv to continue"):
        attach(model, tmp_path, resume=True)
    with pytest.raises(records.RecordError, match="resume=True"):
        attach(model, tmp_path)
    assert (tmp_path / "layers.csv").read_text() == "a,b\n1,2\n"
