"""Drawing: all files or none, whatever a user's matplotlib is set to, and one broken experiment stops no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnrepro import cli
from bnrepro.core import paths
from bnrepro.draw import experiment, figures
from bnrepro.report import publish

NAME, OTHER = "vgg_curves", "mean_field"


@pytest.fixture
def out(tmp_path):
    """OUT with the published tables of two experiments in the places of the quick ones."""
    for name in (NAME, OTHER):
        publish.copy(paths.RESULTS / name, tmp_path / "out" / "quick" / name, publish.TABLES)
    return tmp_path / "out"


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """broken(content): experiments/NAME.py holds this instead."""

    def write(content: str) -> Path:
        shutil.copytree(paths.EXPERIMENTS, tmp_path / "experiments")
        monkeypatch.setattr(paths, "EXPERIMENTS", tmp_path / "experiments")
        (tmp_path / "experiments" / f"{NAME}.py").write_text(content)
        return tmp_path / "experiments" / f"{NAME}.py"

    return write


def verb(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(list(words))
    return done.value.code


def test_a_personal_matplotlib_has_no_influence(out, tmp_path):
    """Its settings would change every figure; LaTeX is not there, and no such backend exists."""
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 5\ntext.usetex: True\naxes.grid: False\n")
    own = {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "nonsense", "PATH": ""}
    command = [sys.executable, "-m", "bnrepro", "draw", NAME, f"out={out}"]
    done = subprocess.run(command, cwd=paths.ROOT, env=os.environ | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for file in publish.DRAWN:
        assert (out / "quick" / NAME / file).read_bytes() == (paths.RESULTS / NAME / file).read_bytes(), file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def data(tables):\n    return tables.runs['nothing']\n\ndef draw(data, fig): ...\ndef claims(tables): ...\n",
         ", line 2: KeyError: 'nothing'"),
        ("def data(tables:\n", ", line 1: "),
        ("import nothing_of_this_name\n", ", line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("def data(tables): ...\n", ": no function draw, claims; it must have data, draw, claims"),
    ],
)  # fmt: skip
def test_a_broken_experiment_is_named_and_the_others_are_drawn(content, said, out, broken, capsys):
    path = broken(content)
    assert verb("report", f"out={out}") == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"{path}{said}") and printed.err.count("\n") == 1
    assert (out / "quick" / OTHER / "figure.svg").exists() and not (out / "quick" / NAME / "figure.svg").exists()
    assert f'id="{OTHER}-claims"' in (out / "quick" / "report.html").read_text()


def test_a_figure_that_fails_at_its_last_step_leaves_the_older_set(out, monkeypatch):
    home = out / "quick" / NAME
    figures.draw(NAME, home)
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    monkeypatch.setattr(figures, "_save", lambda figure, made: (made / "figure.svg").write_text("half") and 1 / 0)
    with pytest.raises(experiment.ExperimentError, match="ZeroDivisionError"):
        figures.draw(NAME, home)
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before


def test_a_published_table_is_there_once(tmp_path):
    """Compressed first, then short enough to stay as it is."""
    for content in (b"a\n" * publish.LARGE, b"a\n"):
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "metrics.csv").write_bytes(content)
        publish.copy(tmp_path / "home", tmp_path / "target", ("metrics.csv",))
        assert len(list((tmp_path / "target").iterdir())) == 1
    assert (tmp_path / "target" / "metrics.csv").read_bytes() == b"a\n"
