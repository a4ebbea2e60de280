"""What every experiment owes, for each one that is found: two files, a run, tables, a figure and claims.

A new experiment is tested by being there. Its quick grid is run with one seed, with its sizes shrunk and its data made
up, so that it takes a second; everything else is as its files say.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from bnrepro import cli
from bnrepro.core import checks, paths, records, style
from bnrepro.core.schema import STATISTICS, Config
from bnrepro.draw import claims, figures
from bnrepro.plan import grid
from bnrepro.report import check, page
from bnrepro.train import execute

EXPERIMENTS = paths.experiments()
SCALES = ("quick", "laptop", "paper")
DRAWN = ("figure.csv", "claims.csv", "figure.svg", "figure.png")
PUBLISHED = [name for name in EXPERIMENTS if (paths.RESULTS / name / "runs.csv").exists()]
SPLITS = {"batch", "train", "valid", "test", "test_population", "test_precise"}
SPLITS |= {"test_batch", "test_sorted", "test_corrupted", "test_corrupted_batch"}
METRICS = {"loss", "accuracy", "gradient_norm", "gradient_change"}
MEASURED = {"ics_norm", "ics_norm_after", "ics_distance", "ics_cosine", "grad_std", "grad_kurtosis", "grad_share"}
MEASURED |= {"channel_mean", "channel_std", "input_q15", "input_q50", "input_q85", "norm_skew"}
MEASURED |= {"norm_kurtosis", "input_mean", "input_var", "variance_ratio", "variance_shift"}

REDRAW = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "hydra")))
from bnrepro.draw import figures
for name, directory in zip(sys.argv[1::2], sys.argv[2::2]):
    from pathlib import Path
    figures.draw(name, Path(directory))
"""


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main(list(words))
    return done.value.code


def shrunk(values: dict) -> Config:
    """The run that `values` describe with small layers, few steps and synthetic images in the place of its own."""
    config = checks.build(values)
    shape = [3, 32, 32] if config.model.kind != "mlp" or config.data.image == "rgb32" else [1, 6, 6]
    held_out, steps, epochs = min(config.data.valid_size, 20), config.train.steps, config.train.epochs
    data = {"kind": "synthetic", "name": None, "shape": shape, "size": 2 * config.data.batch_size + held_out}
    data |= {"train_size": None, "valid_size": held_out, "test_size": None}
    if config.data.kind == "linear_map":  # made up already
        data = {"size": min(config.data.size, 50), "batch_size": min(config.data.batch_size, 50)}
    width = max(4, config.model.width // 20) if config.model.kind == "mlp" else config.model.width * 0.25
    model = replace(config.model, width=width, groups=1)
    return replace(
        config, device="cpu", threads=1, data=replace(config.data, **data), model=model,
        train=replace(config.train, steps=steps and min(steps, 50), epochs=epochs and min(epochs, 2.0)),
    )  # fmt: skip


def no_network(*_: object) -> None:
    raise AssertionError("an experiment at scale=quick must need no network")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """smoke(name): OUT/quick/NAME with the runs and the drawn figure of an experiment, made once."""
    out = tmp_path_factory.mktemp("smoke")

    @cache
    def run(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grid, "build", shrunk)
            patch.setattr(socket.socket, "connect", no_network)
            assert command("run", f"experiment={name}", "scale=quick", "seed=0", f"out={out}", "launch=false") == 0
            home = out / "quick" / name
            for planned in records.read_json(home / "plan.json")["runs"]:
                execute.execute(home / "runs" / planned)
            assert command("draw", name, f"out={out}") == 0
        return home

    return run


@pytest.fixture(scope="module")
def redrawn(smoke, tmp_path_factory):
    """{name: directory} of all experiments, drawn again from copies of their tables in one process without torch."""
    homes = {name: tmp_path_factory.mktemp("redrawn") / name for name in EXPERIMENTS}
    for name, home in homes.items():
        copy_tables(smoke(name), home)
    words = [str(word) for pair in homes.items() for word in pair]
    subprocess.run([sys.executable, "-c", REDRAW, *words], check=True)
    return homes


def copy_tables(source: Path, target: Path) -> None:
    target.mkdir()
    for table in ("runs", "metrics", "layers"):
        shutil.copy(source / f"{table}.csv", target)


@pytest.fixture(scope="module")
def drawn(smoke):
    """drawn(name): the matplotlib figure, made once, and the frame it was drawn from."""

    @cache
    def draw(name: str) -> tuple[plt.Figure, pd.DataFrame]:
        data = records.read(smoke(name) / "figure.csv", "figure")
        with plt.rc_context({**style.RC, "figure.max_open_warning": 0}):
            figure = plt.figure()
            figures.experiment(name).draw(data, figure)
            figure.canvas.draw()
        return figure, data

    yield draw
    plt.close("all")


def test_there_are_experiments_and_each_has_both_of_its_files():
    assert len(EXPERIMENTS) >= 5
    assert paths.choices("experiment") == EXPERIMENTS == sorted(path.stem for path in paths.EXPERIMENTS.glob("*.py"))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_says_what_it_is_and_what_each_scale_costs(name):
    facts = figures.about(name)
    parts = ("title", "source", "shows", "chosen", "easy", "hard")
    assert all(isinstance(facts.get(part), str) and facts[part].strip() for part in parts)
    assert set(facts["scales"]) <= set(SCALES) and {"quick", "laptop"} <= set(facts["scales"])
    for scale in facts["scales"].values():
        assert re.search(r"\d+ runs", scale["cost"])
    module = figures.experiment(name)
    assert module.__doc__ and all(callable(getattr(module, part)) for part in ("data", "draw", "claims"))


@pytest.mark.parametrize(
    ("name", "scale"), [(name, scale) for name in EXPERIMENTS for scale in figures.about(name)["scales"]]
)
def test_every_scale_composes_into_as_many_runs_as_it_says(name, scale, tmp_path, capsys, monkeypatch):
    """The costs that `bnrepro list` shows begin with the number of runs; quick needs no more than the package."""
    kinds, build = set(), checks.build
    monkeypatch.setattr(grid, "build", lambda values: kinds.add(values["data"]["kind"]) or build(values))
    assert command("run", f"experiment={name}", f"scale={scale}", "dry_run=true", f"out={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    count = int(re.search(r"(\d+) runs", figures.about(name)["scales"][scale]["cost"])[1])
    assert len(set(lines)) == len(lines) == count + 1
    assert lines[-1] == f"{count} runs, nothing started" and not list(tmp_path.iterdir())
    assert kinds and (scale != "quick" or kinds <= {"mnist5k", "synthetic", "linear_map"})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_runs_and_its_tables_obey_the_schema(name, smoke):
    home = smoke(name)
    tables = records.load(home)  # refuses other headers and rows that were cut
    planned = records.read_json(home / "plan.json")["runs"]
    assert tables.runs["run"].tolist() == planned and set(tables.runs["status"]) <= set(records.RESULTS)
    assert set(tables.metrics["run"]) == set(planned)
    task = records.read_json(home / "runs" / planned[0] / "config.json")["task"]
    if task == "train":
        assert set(tables.metrics["split"]) <= SPLITS
        assert set(tables.metrics["metric"].str.split("@").str[0]) <= METRICS
    names = {*tables.metrics["split"], *tables.metrics["metric"].str.split("@").str[0]}
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert tables.metrics["step"].min() >= 1 and (tables.metrics["epoch"] > 0).all()
    assert tables.metrics["value"].notna().all()
    known = {name for name in STATISTICS if name != "activations"} | MEASURED
    measured = tables.layers["statistic"].str.split("@").str[0].unique()
    assert all(name in known or name.startswith(("act_", "norm_")) for name in measured)
    assert not tables.metrics.duplicated(["run", "step", "split", "metric"]).any()
    assert not tables.layers.duplicated(["run", "step", "depth", "statistic"]).any()
    assert set(records.varied(tables.runs)) <= set(checks.known_fields())


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_figure_has_points_with_numbers(name, smoke):
    data = records.read(smoke(name) / "figure.csv", "figure")
    assert list(data.columns) == records.COLUMNS["figure"] and len(data) > 0
    for column in ("x", "y", "low", "high"):
        assert pd.api.types.is_numeric_dtype(data[column])
    assert np.isfinite(data["x"]).all() and data["y"].notna().any()
    assert pd.api.types.is_integer_dtype(data["n"]) and (data["n"] >= 0).all()
    spread = data.dropna(subset=["low", "high"])
    assert (spread["low"] <= spread["y"] + 1e-9).all() and (spread["y"] <= spread["high"] + 1e-9).all()
    assert data["panel"].astype(bool).all() and data["series"].astype(bool).all()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_makes_claims_and_one_seed_reproduces_none(name, smoke):
    table = records.read(smoke(name) / "claims.csv", "claims")
    assert len(table) >= 1 and table["claim"].is_unique
    assert table[["claim", "source", "statement", "paper", "rule"]].astype(str).ne("").all().all()
    assert set(table["verdict"]) <= set(claims.VERDICTS)
    for claim in figures.experiment(name).claims(records.load(smoke(name))):
        assert claim.needed >= 3 and claim.because
        assert claim.least > -np.inf or claim.most < np.inf, "a claim that no number can fail"
        assert claim.ours.n <= 1 and claim.verdict == "not enough runs"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_page_has_every_claim_and_every_setting(name, smoke):
    home = smoke(name)
    page.write({name: home}, home / "report.html", committed=False)
    text = (home / "report.html").read_text()
    assert all(f'id="{name}-claim-{claim}"' in text for claim in records.read(home / "claims.csv", "claims")["claim"])
    protocol = records.read_json(home / "protocol.json")
    assert all(f">{field}<" in text for field in (*protocol["fixed"], *protocol["varied"]))
    assert set(records.varied(records.read(home / "runs.csv", "runs"))) <= {*protocol["varied"], *protocol["fixed"]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_drawing_again_without_torch_gives_the_same_bytes(name, smoke, redrawn):
    for file in DRAWN:
        assert (redrawn[name] / file).read_bytes() == (smoke(name) / file).read_bytes(), file
    assert (redrawn[name] / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (redrawn[name] / "figure.svg").read_text()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_figure_follows_from_the_published_tables(name):
    assert check.mismatches(name, paths.RESULTS / name) == []


def arm(series: str) -> str:
    return series.split(",")[0].strip()


def words_of(figure: plt.Figure) -> list[str]:
    """Texts of all legends and of the ticks, which are where a reader finds the names of the arms."""
    found = [text.get_text() for axis in figure.axes for text in axis.get_xticklabels()]
    return found + [text.get_text() for legend in legends_of(figure) for text in legend.get_texts()]


def legends_of(figure: plt.Figure) -> list[plt.matplotlib.legend.Legend]:
    parts = [figure, *figure.subfigs]
    return [axis.get_legend() for axis in figure.axes if axis.get_legend()] + [
        one for part in parts for one in part.legends
    ]


def colours_of(figure: plt.Figure) -> set[str]:
    colours = [line.get_color() for axis in figure.axes for line in axis.lines]
    for collection in (collection for axis in figure.axes for collection in axis.collections):
        colours += list(collection.get_edgecolor()) + list(collection.get_facecolor())
    return {to_hex(colour).upper() for colour in colours}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_panel_can_be_read(name, drawn):
    """Every panel has a title or labels, the figure says what both axes are, and nothing is drawn outside of it."""
    figure, data = drawn(name)
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert len(panels) >= 1 and all(axis.has_data() for axis in panels)
    assert figure.get_supxlabel() or all(axis.get_xlabel() for axis in panels if axis.get_subplotspec().is_last_row())
    assert figure.get_supylabel() or all(axis.get_ylabel() for axis in panels if axis.get_subplotspec().is_first_col())
    assert all(axis.get_title() or axis.get_ylabel() for axis in panels)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_arm_is_named_and_drawn_in_its_own_colour(name, drawn):
    figure, data = drawn(name)
    words, colours = words_of(figure), colours_of(figure)
    for series in data["series"]:
        label = str(style.ARMS.get(arm(series), {}).get("label", arm(series)))
        assert any(word.startswith(label) for word in words), series
        assert style.arm(series)["color"].upper() in colours, series


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_legend_shows_an_arm_in_the_colour_it_has_in_every_figure(name, drawn):
    figure, data = drawn(name)
    looks = {style.label(series): style.arm(series) for series in data["series"]}
    looks |= {style.label(arm(series)): style.arm(series) for series in data["series"]}
    for legend in legends_of(figure):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            look = looks.get(re.sub(r" \([^()]*\)$", "", text.get_text()), {"color": style.GREY})  # of no arm
            assert to_hex(handle.get_color()).upper() == look["color"].upper(), text.get_text()


def test_arms_of_one_figure_differ_in_colour_and_arms_have_one_look():
    looks = {(arm["color"], arm["marker"], arm.get("linestyle", "-")) for arm in style.ARMS.values()}
    pairs = [(name, look["color"]) for name, look in style.ARMS.items()]
    assert len(pairs) == len(set(pairs)) and len(looks) >= len(style.ARMS) - 2
    assert style.arm("batch, width 200") == style.arm("batch") != style.arm("none")


@pytest.mark.parametrize("low, high", [(1.05, 1.45), (0.3, 1.4), (2.5, 6.5), (3, 70)])
def test_a_logarithmic_axis_of_about_a_decade_has_several_plain_numbers(low, high):
    figure = plt.figure()
    axis = figure.subplots()
    axis.set(yscale="log", ylim=(low, high))
    style.label_within_decade(axis.yaxis)
    figure.canvas.draw()
    words = [tick.label1.get_text() for tick in axis.yaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    plt.close(figure)
    assert len(words) >= 2 and all(low <= float(word) <= high for word in words)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_that_diverge_or_are_missing_do_not_break_the_figure(name, smoke, tmp_path):
    """The last run diverged at its first recorded step, the one before it was never started."""
    copy_tables(smoke(name), tmp_path / name)
    runs = pd.read_csv(tmp_path / name / "runs.csv", dtype=str, keep_default_na=False)
    pending, diverged = runs["run"].iloc[-2:]
    runs.loc[runs["run"] == diverged, "status"] = "diverged"
    runs.loc[runs["run"] == pending, ["status", "last_step", "seconds", "data"]] = ["pending", "0", "", ""]
    runs.to_csv(tmp_path / name / "runs.csv", index=False)
    for table in ("metrics", "layers"):
        rows = pd.read_csv(tmp_path / name / f"{table}.csv", dtype=str, keep_default_na=False)
        evaluated = rows["split"] != "batch" if table == "metrics" else False
        kept = (rows["run"] != pending) & ~((rows["run"] == diverged) & evaluated)
        rows[kept].to_csv(tmp_path / name / f"{table}.csv", index=False)
    judged = figures.draw(name, tmp_path / name)
    assert set(judged["verdict"]) == {"not enough runs"}
    picture = (tmp_path / name / "figure.svg").read_text()
    assert re.search(rf"of {len(runs)} runs 1 diverged, (\d+ stalled, )?1 missing", picture)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of conf/ and experiments/ to which experiments can be added."""
    for name in ("CONF", "EXPERIMENTS"):
        shutil.copytree(getattr(paths, name), tmp_path / name.lower())
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add_copy(checkout: Path) -> str:
    shutil.copy(paths.CONF / "experiment" / "sigmoid_gradients.yaml", paths.CONF / "experiment" / "my_figure.yaml")
    shutil.copy(paths.EXPERIMENTS / "sigmoid_gradients.py", paths.EXPERIMENTS / "my_figure.py")
    return "my_figure"


def add_example(checkout: Path) -> str:
    """The example that experiments/README.md shows, word for word."""
    text = (paths.EXPERIMENTS / "README.md").read_text()
    for path, content in re.findall(r"`((?:conf/)?experiments?/\w+\.\w+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
        (checkout / path).write_text(content)
    return "activations"


@pytest.mark.parametrize("add", [add_copy, add_example])
def test_an_experiment_is_added_by_its_two_files_alone(add, checkout, monkeypatch, capsys):
    name = add(checkout)
    assert paths.experiments() == sorted([*EXPERIMENTS, name])
    assert command("list") == 0
    assert f"{name} " in capsys.readouterr().out
    monkeypatch.setattr(grid, "build", shrunk)
    assert command("run", f"experiment={name}", "seed=0,1", "launch=false") == 0
    for directory in (checkout / "outputs" / "quick" / name / "runs").iterdir():
        assert execute.execute(directory) in records.RESULTS
    assert command("run", f"experiment={name}", "seed=0,1") == 0
    assert command("report", name) == 0
    assert all((checkout / "outputs" / "quick" / name / file).stat().st_size for file in DRAWN)
    assert f'id="{name}-claims"' in (checkout / "outputs" / "quick" / "report.html").read_text()
    assert command("status", name) == 0
    assert "completed" in capsys.readouterr().out
