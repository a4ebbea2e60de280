"""The examples run as their docstrings say, at a small scale, and say what they are there to show."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "vanishing_gradients.ipynb"


def run(name: str, *words: str, directory: Path) -> str:
    command = [sys.executable, EXAMPLES / name, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "words", "runs"),
    [
        ("resnet18.py", ["--steps", "2"], ["resnet18-batch", "resnet18-none"]),
        ("transformer.py", ["--steps", "3"], ["transformer"]),
    ],
)
def test_an_example_shows_its_runs_and_draws_them(name, words, runs, tmp_path):
    shown = run(name, *words, directory=tmp_path)
    home = tmp_path / "outputs" / "examples"
    assert (home / name).with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    for found in runs:
        assert found in shown and (home / found / "layers.csv").stat().st_size > 1000
    assert "nothing remarkable" in shown
    if name == "transformer.py":
        assert ",grad_fro_clipped," in (home / "transformer" / "layers.csv").read_text()


def test_the_plain_script_needs_four_lines_and_finds_that_its_gradients_vanish(tmp_path):
    assert (EXAMPLES / "plain_script.py").read_text().count("  #\n") == 4
    last = run("plain_script.py", directory=tmp_path).splitlines()[-1]
    assert last.startswith("vanishing: the gradient shrinks") and not list(tmp_path.iterdir())


def outputs(notebook: nbformat.NotebookNode) -> tuple[str, int]:
    """Everything printed, and the number of pictures."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in found)
    return "".join(output.get("text", "") for output in found if output.output_type == "stream"), pictures


def test_the_notebook_runs_from_top_to_bottom(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, 4)
    (settings,) = [cell for cell in notebook.cells if cell.source.startswith("STEPS = ")]
    settings.source = "STEPS = 12\nWIDTH, DEPTH, BATCH = 40, 10, 50"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    text, pictures = outputs(notebook)
    assert pictures == 4 and "measured: the gradient shrinks" in text
    assert "times in the one with BN what it gets in the net without BN" in text


def test_the_notebook_is_kept_with_its_pictures():
    text, pictures = outputs(nbformat.read(NOTEBOOK, 4))
    assert pictures == 4 and "loss: 2.30 at first" in text
    assert NOTEBOOK.stat().st_size < 1e6
