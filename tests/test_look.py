"""Looking at a run: found by name, in the terminal, as a figure and as HTML."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bnrepro import cli
from bnrepro.core import paths, records
from bnrepro.core.identity import as_dict
from bnrepro.gradients import heatmap, terminal, view

STEPS = (1, 2, 5, 10)
NAMES = ("input<b>", "middle", "frozen", "output")


def write(directory, gradients: dict[str, list[float | None]], statistic: str = "grad_fro"):
    """A run's directory whose layers.csv holds one gradient for every layer and step."""
    directory.mkdir(parents=True)
    table = records.Table(directory / "layers.csv", "layers", directory.name)
    for depth, (layer, values) in enumerate(gradients.items(), start=1):
        table.write((step, depth, layer, statistic, value) for step, value in zip(STEPS, values, strict=True))
    table.close()
    return directory


@pytest.fixture
def run(tmp_path):
    """out/quick/made/runs/first: gradients over six decades, a frozen layer, a nan and a zero."""
    values = {"input<b>": [1e-6, 2e-6, 0.0, 1e-6], "middle": [1e-3] * 4, "frozen": [None] * 4}
    return write(tmp_path / "out/quick/made/runs/first", values | {"output": [1.0, 1.0, 2.0, float("nan")]})


def text_of(*looks, width: int = 100) -> list[str]:
    console = Console(width=width, no_color=True, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    terminal.show(looks, None, console)
    return console.export_text().splitlines()


def test_a_run_is_found_by_directory_and_by_name(run, tmp_path):
    assert view.find(str(run)).layers.equals(view.find("first", tmp_path / "out").layers)
    with pytest.raises(records.RecordError, match="nowhere: neither a run's directory nor a run in"):
        view.find("nowhere", tmp_path / "out")
    write(tmp_path / "out/laptop/made/runs/first", {"a": [1.0] * 4})
    with pytest.raises(records.RecordError, match="first: 2 runs have this name; give a directory"):
        view.find("first", tmp_path / "out")


def test_published_runs_are_found_by_name():
    runs = records.read(paths.RESULTS / "sigmoid_gradients" / "runs.csv", "runs")["run"]
    found = view.find(next(run for run in runs if "norm=none" in run))
    assert [finding.kind for finding in found.findings] == ["vanishing"]


def test_a_table_of_many_runs_and_one_without_gradients_are_refused(run, tmp_path):
    with open(run / "layers.csv", "a") as file:
        file.write("second,1,1,a,grad_fro,1.0\n")
    with pytest.raises(records.RecordError, match="holds 2 runs; give one by name: first"):
        view.find(str(run))
    other = write(tmp_path / "weights", {"a": [1.0] * 4}, "weight_fro")
    with pytest.raises(records.RecordError, match="no gradient recorded: the table holds weight_fro"):
        view.find(str(other))


def test_the_theory_comes_from_the_frozen_configuration(run, tiny):
    changes = {"model.norm": "none", "model.depth": 6, "model.activation": "sigmoid"}
    (run / "config.json").write_text(json.dumps(as_dict(tiny(changes))))
    factor, source = view.find(str(run)).expected
    assert 1 / 4.7 < factor < 1 / 4 and source.startswith("sigmoid without a norm")


def test_the_heat_map_tells_decades_gaps_zeros_and_what_is_not_finite(run):
    lines = text_of(view.find(str(run)))
    cells = {}
    for line in lines[2:7]:
        label, values = line[:10].strip(), line[10:].split()
        cells[label] = values
    assert cells == {
        "": ["1", "2", "5", "10"],
        "1 input<b>": ["-6", "-6", "zero", "-6"],
        "2 middle": ["-3", "-3", "-3", "-3"],
        "3 frozen": [".", ".", ".", "."],
        "4 output": ["0", "0", "0", "nan"],
    }


def test_curves_lie_on_logarithmic_axes(run):
    lines = text_of(view.find(str(run)))
    start = next(i for i, line in enumerate(lines) if line.startswith(" 2.0e+00|"))
    block = [line[9:] for line in lines[start : start + terminal.HEIGHT]]
    rows = {letter: [i for i, line in enumerate(block) if letter in line] for letter in "abd"}
    assert lines[start + terminal.HEIGHT - 1].startswith(" 1.0e-06|")
    assert max(rows["a"]) == terminal.HEIGHT - 1 and rows["b"] == [6] and min(rows["d"]) == 0
    assert not any("c" in line for line in block)


def test_the_words_follow_and_two_runs_are_compared(run, tmp_path):
    other = write(tmp_path / "healthy", {name: [0.1] * 4 for name in NAMES})
    lines = " ".join(text_of(view.find(str(run)), view.find(str(other)), width=160))
    assert "first: not finite: at step 10 the gradient of layer 4 (output)" in lines
    assert "healthy: nothing remarkable" in lines and "side by side: relative to the last layer" in lines


def test_a_deep_net_is_thinned_out_with_both_ends(tmp_path):
    deep = write(tmp_path / "deep", {f"layer{i}": [1.0] * 4 for i in range(150)})
    lines = text_of(view.find(str(deep)))
    names = [line.split()[1] for line in lines if " layer" in line[:10] and ":" not in line]
    assert len(names) == terminal.ROWS and names[0] == "layer0" and names[-1] == "layer149"


def test_the_figure_shows_the_values_of_the_table(run):
    found = view.find(str(run))
    figure = heatmap.draw([found])
    heat, curves = figure.subfigs[0].axes[:2]
    marks, image = heat.get_images()
    shown = image.get_array().filled(np.nan)
    assert shown[1].tolist() == [1e-3] * 4 and shown[0, 0] == 1e-6 and np.isnan(shown[2]).all()
    assert 0 < shown[0, 2] < image.norm.vmin  # exactly zero: below the scale
    marks = marks.get_array().filled(np.nan)
    assert (marks[2] == 0).all() and marks[3, 3] == 1 and np.isnan(marks[1]).all()  # grey: missing, red: nan
    lines = [line for line in curves.get_lines() if len(line.get_xdata())]
    assert lines[0].get_xdata().tolist() == [1, 2, 10] and lines[0].get_ydata().tolist() == [1e-6, 2e-6, 1e-6]
    assert lines[-1].get_ydata().tolist() == [1.0, 1.0, 2.0]


def test_two_runs_share_one_scale(run, tmp_path):
    other = write(tmp_path / "healthy", {name: [0.1] * 4 for name in NAMES})
    figure = heatmap.draw([view.find(str(run)), view.find(str(other))])
    norms = [part.axes[0].get_images()[1].norm for part in figure.subfigs]
    assert {(norm.vmin, norm.vmax) for norm in norms} == {(1e-6, 2.0)}


def test_of_an_experiment_the_first_run_of_each_norm_with_several_layers_is_looked_at(tmp_path):
    rows = {"a": {"x": 1.0, "y": 1.0}, "b": {"x": 1.0, "y": 1.0}, "c": {"x": 1.0}, "d": {"x": 1e-3, "y": 1.0}}
    lines = [f"{run},1,{depth},{layer},grad_fro,{value}" for run, layers in rows.items()
             for depth, (layer, value) in enumerate(layers.items())]  # fmt: skip
    (tmp_path / "layers.csv").write_text("\n".join(["run,step,depth,layer,statistic,value", *lines, ""]))
    norms = {"a": "batch", "b": "batch", "c": "none", "d": "none"}
    empty = dict.fromkeys(records.COLUMNS["runs"], "")
    runs = pd.DataFrame([empty | {"run": run, "model.norm": norm} for run, norm in norms.items()])
    runs.to_csv(tmp_path / "runs.csv", index=False)
    assert [one.name for one in view.of_arms(tmp_path)] == ["a", "d"]


def test_a_run_is_exported_to_tensorboard(run, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(SystemExit, match="0"):
        cli.main(["inspect", str(run), f"--tensorboard={tmp_path / 'board'}"])
    board = EventAccumulator(str(tmp_path / "board" / "first")).Reload()
    tag = "grad_fro/02 middle"
    found = board.Tensors(tag)
    assert [(event.step, event.tensor_proto.float_val[0]) for event in found] == [
        (step, pytest.approx(1e-3)) for step in STEPS
    ]
    assert not any("frozen" in tag for tag in board.Tags()["tensors"])


def test_without_tensorboard_the_option_says_what_to_install(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(SystemExit, match="[12]"):
        cli.main(["inspect", str(run), f"--tensorboard={tmp_path / 'board'}"])
    assert "tensorboard: not installed; pip install 'tensorboard>=2.17'" in capsys.readouterr().err


def test_the_verb(run, tmp_path, capsys):
    def inspect(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            cli.main(["inspect", *words])
        return exit.value.code, *capsys.readouterr()

    picture = tmp_path / "look.png"
    code, out, _ = inspect(str(run), "--figure", str(picture))
    assert code == 0 and f"figure: {picture}" in out and "not finite" in out
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert inspect("first", "--out", str(tmp_path / "out"))[0] == 0
    for words, message in (
        ((), "inspect: 0 runs given; give one or two"),
        ((str(run), "--statistic", "grad_max"), "statistic=grad_max: first recorded grad_fro"),
        ((str(run), "--figure", str(tmp_path / "look.xyz")), r"figure=.*look.xyz: must end in .*png"),
        (("nowhere",), "nowhere: neither a run's directory"),
    ):
        code, _, err = inspect(*words)
        assert code == 2 and re.match(message, err), err


def test_looking_needs_no_torch():
    code = "import sys; from bnrepro.gradients import view, terminal, heatmap; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
