"""An experiment's script is asked for its claims before the first run; what no runs could decide is one line."""

from __future__ import annotations

import pytest

from bnrepro import cli
from bnrepro.core import paths
from bnrepro.draw import experiment

YAML = "title: T\nsource: S\nshows: s\nscales: {quick: {cost: x, vary: {model.norm: [none, batch], seed: [0, 1]}}}\n"
SCRIPT = """
from bnrepro.draw import select, stats
from bnrepro.draw.claims import Claim

def data(tables): pass
def draw(data, figure): pass

def claim(name, **bounds):
    return Claim.size(claim=name, source="S", statement="s", paper="p", ours=stats.mean([]), **bounds)

def claims(tables):
    arms = select.arms(select.final(tables, "test"), "model.norm")
    return {claims}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    for part in ("conf/experiment", "experiments"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    return (tmp_path / "experiments" / "mine.py").write_text


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ("[claim('a', least=2, most=1)]", "mine.py, line 9: ClaimError: claim a: least=2 is above most=1"),
        ("[claim('a')]", "mine.py, line 9: ClaimError: claim a: no bound; give least, most or both"),
        ("[claim('a', least=1), claim('a', most=2)]", "ClaimError: two claims are called a"),
        ("[]", "ClaimError: no claims"),
        ("[claim('a', least=lowest)]", "mine.py, line 13: NameError: name 'lowest' is not defined"),
        ("[claim('a'", "mine.py, line 13: '(' was never closed"),
    ],
)
def test_what_no_runs_could_decide_stops_before_the_first_step(claims, message, write, tmp_path, capsys):
    write(SCRIPT.replace("{claims}", claims))
    with pytest.raises(SystemExit) as done:
        cli.main(["run", "mine"])
    error = capsys.readouterr().err
    assert done.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_what_is_missing_only_for_want_of_runs_is_no_mistake(write):
    write(SCRIPT.replace("{claims}", "[claim('a', least=arms['none'][0])]"))
    experiment.rehearse("mine")


@pytest.mark.parametrize("name", paths.experiments())
def test_every_experiment_passes(name):
    experiment.rehearse(name)
