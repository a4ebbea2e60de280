"""Ten models in every situation of training: each statistic against plain autograd and numpy, to 1e-6.

A row of the table that is printed is a model, a column a situation, a cell the largest relative error of any statistic
of any layer at any step (of an activation: relative to its standard deviation, where that is larger); "-" where the
situation does not apply. In every situation the weights and buffers after two steps are, bit for bit, those of the same
training unwatched.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import plain
import pytest
import torch
import torch.multiprocessing as mp
import zoo
from loops import expected, train
from situations import SITUATIONS, Situation
from torch import nn

from bnrepro.core import records

GOOD = 1e-6
OUTCOMES: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module", autouse=True)
def table(request):
    yield
    if OUTCOMES:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print("\n\n" + written())


def written() -> str:
    columns = [name for name in SITUATIONS if any(situation == name for _, situation in OUTCOMES)]
    lines = [" " * 18 + " ".join(f"{column:>11}" for column in columns)]
    for name in zoo.BUILD:
        lines.append(f"{name:18}" + " ".join(f"{OUTCOMES.get((name, column), '-'):>11}" for column in columns))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "name, situation",
    [(name, words) for name in zoo.BUILD for words, how in SITUATIONS.items() if how.ranks == 1 and name in how.only],
)
def test_every_statistic_is_that_of_autograd_and_numpy(name, situation, tmp_path):
    how = SITUATIONS[situation]
    if not how.prepare(zoo.BUILD[name](how.narrow)):
        pytest.skip(f"{name} has no {how.needs}")
    record(name, situation, error(name, how, tmp_path))


def record(name: str, situation: str, outcome: tuple[float, str]) -> None:
    worst, where = outcome
    OUTCOMES[name, situation] = f"{worst:.0e}"
    assert worst <= GOOD, f"{name}, {situation}: {where}"


def test_every_statistic_is_that_of_the_reduced_gradient_among_processes(tmp_path):
    mp.start_processes(_process, (tmp_path,), nprocs=2, start_method="spawn")
    for name, outcome in json.loads((tmp_path / "outcomes.json").read_text()).items():
        record(name, "DDP", outcome)


def _process(rank: int, directory: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{directory}/rendezvous", rank=rank, world_size=2)
    found = {name: error(name, SITUATIONS["DDP"], directory / name / str(rank), rank) for name in zoo.BUILD}
    if rank == 0:
        (directory / "outcomes.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def error(name: str, how: Situation, directory: Path, rank: int = 0) -> tuple[float, str]:
    """The largest error of any statistic, and where it is; inf for rows that are missing or too many."""
    unwatched, watched = built(name, how), built(name, how)
    start = plain.twin(watched)
    train(name, how, unwatched, None, rank)
    moments = train(name, how, watched, directory, rank)
    for key, value in unwatched.state_dict().items():
        same = torch.equal(value.nan_to_num(7), watched.state_dict()[key].nan_to_num(7))
        if not same:
            return math.inf, f"watching changed {key}"
    if rank:
        return 0.0, "rank 0 measures"
    worst = (0.0, "nothing")
    for turn, rows in enumerate(expected(name, how, start, moments)):
        worst = max(worst, compared(found_in(directory / f"turn{turn}" / "layers.csv"), rows))
    return worst


def built(name: str, how: Situation) -> nn.Module:
    torch.manual_seed(0)
    model = zoo.BUILD[name](how.narrow)
    how.prepare(model)
    return model


def found_in(path: Path) -> dict[tuple, float | None]:
    rows = records.read_layers(path).itertuples()
    return {(row.step, row.layer, row.statistic): None if row.missing else row.value for row in rows}


def compared(found: dict, wanted: dict) -> tuple[float, str]:
    if found.keys() != wanted.keys():
        return math.inf, f"rows {sorted(found.keys() ^ wanted.keys())[:5]} are missing or too many"
    errors = []
    for key, value in wanted.items():
        spread = wanted.get((*key[:2], "act_std"), 0.0) if key[2].startswith("act_") else 0.0
        errors.append((_relative(found[key], value, spread), f"{key}: {found[key]}, not {value}"))
    return max(errors)


def _relative(found: float | None, wanted: float | None, spread: float) -> float:
    if found is None or wanted is None:
        return 0.0 if found is wanted else math.inf
    if not (math.isfinite(found) and math.isfinite(wanted)):
        return 0.0 if str(float(found)) == str(float(wanted)) else math.inf
    unit = max(abs(wanted), spread)
    return abs(found - wanted) / unit if unit else float(found != wanted)
