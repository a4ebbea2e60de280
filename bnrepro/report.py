"""From saved tables to figures, verdicts and a page: no torch, no data, no network.

`collect` turns the run directories of one experiment into its tables, `draw` turns tables into figure.csv, claims.csv
and the pictures, `write` puts what is drawn on one page.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bnrepro import paths, records
from bnrepro.config import flat

if TYPE_CHECKING:
    import pandas as pd


def experiment(name: str) -> ModuleType:
    """experiments/NAME.py, found by its name alone."""
    path = paths.EXPERIMENTS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bnrepro_experiment_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def about(name: str) -> dict:
    """conf/experiment/NAME.yaml as plain values: title, source, shows, cost, scales."""
    import yaml

    return yaml.safe_load((paths.CONF / "experiment" / f"{name}.yaml").read_text())


def collect(home: Path) -> int:
    """Write runs.csv, metrics.csv and layers.csv from the runs of the last plan; returns the number of results.

    Runs without a result are listed in runs.csv with their status, but their half-written tables are left out.
    """
    import pandas as pd

    plan = records.read_json(home / "plan.json")
    directories = [home / "runs" / name for name in plan["runs"]]
    runs = pd.DataFrame([_run_row(directory, plan["axes"]) for directory in directories])
    whole = ["last_step", "train_images", "parameters"]
    runs[whole] = runs[whole].astype("Int64")  # whole numbers stay whole where a run has none yet
    done = [path for path, status in zip(directories, runs["status"], strict=True) if status in records.RESULTS]
    for table in ("metrics", "layers"):
        records.write_text(_joined(done, table), home / f"{table}.csv")
    records.write_frame(runs, home / "runs.csv", "runs")
    return len(done)


def draw(name: str, directory: Path) -> pd.DataFrame:
    """From the tables in `directory` to figure.csv, claims.csv, figure.svg and figure.png there; returns the claims."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from bnrepro import claims, style

    module, tables = experiment(name), records.load(directory)
    data = module.data(tables)
    records.write_frame(data, directory / "figure.csv", "figure")
    data = records.read(directory / "figure.csv", "figure")  # what is drawn is what the file says
    judged = claims.frame(module.claims(tables))
    records.write_frame(judged, directory / "claims.csv", "claims")
    with plt.rc_context(style.RC):
        figure = plt.figure(figsize=(style.WIDTH, 3.2))
        module.draw(data, figure)
        figure.suptitle(f"{about(name)['title']}\n{_setting(tables)}", fontsize=8)
        figure.savefig(directory / "figure.svg", metadata={"Date": None})
        figure.savefig(directory / "figure.png", metadata={"Software": None})
        plt.close(figure)
    return judged


def notes(name: str, directory: Path) -> list[str]:
    """What the experiment has to say beside its claims: the sentences of its optional function `notes`."""
    module = experiment(name)
    return module.notes(records.load(directory)) if hasattr(module, "notes") else []


def show(name: str, judged: pd.DataFrame) -> str:
    """The claims of one experiment, for the terminal."""
    lines = [f"{name}"]
    for row in judged.itertuples():
        lines.append(f"  {row.verdict:15} {row.claim}: {row.statement}")
        lines.append(f"  {'':15} paper {row.paper}; ours {_number(row)}, n={row.n}")
    return "\n".join(lines)


def write(names: list[str], homes: list[Path], page: Path) -> None:
    """One Markdown page: of each experiment the picture, the claims and where the tables are."""
    parts = ["# bnrepro: figures and verdicts\n"]
    for name, home in zip(names, homes, strict=True):
        judged = records.read(home / "claims.csv", "claims")
        facts, picture = about(name), (home / "figure.png").relative_to(page.parent)
        parts.append(f"## {name}: {facts['title']}\n\n{facts['source']}. {facts['shows']}\n\n![{name}]({picture})\n")
        parts.append(markdown(judged))
    records.write_text("\n".join(parts), page)


def markdown(judged: pd.DataFrame) -> str:
    """The claims as a Markdown table."""
    lines = ["| claim | paper | ours [95% interval] | n | rule | verdict |", "| --- | --- | --- | --- | --- | --- |"]
    for row in judged.itertuples():
        cells = (f"{row.statement} ({row.source})", row.paper, _number(row), row.n, row.rule, f"**{row.verdict}**")
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _number(row) -> str:
    if row.n == 0:
        return "none"
    return f"{row.ours:.4g}" + (f" [{row.low:.4g}, {row.high:.4g}]" if row.low == row.low else "")


def _setting(tables: records.Tables) -> str:
    """What the reader of a figure must know: scale, data, and runs that have no result."""
    runs = tables.runs[tables.runs["status"].isin(records.RESULTS)]
    parts = [tables.scale]
    for name, group in runs[runs["status"] != "diverged"].groupby("data"):
        images, epochs = group["train_images"].astype(float).astype(int), group["epochs"].astype(float)
        length = f"{_range(epochs)} epochs" if epochs.max() > 1 else f"{_range(group['last_step'].astype(int))} steps"
        parts.append(f"{name}: {_range(images)} images, {length}")
    if missing := len(tables.runs) - len(runs):
        parts.append(f"{missing} of {len(tables.runs)} runs missing")
    return "; ".join([*parts, *_notes(tables)])


def _notes(tables: records.Tables) -> list[str]:
    scale = about(tables.runs["experiment"].iloc[0])["scales"].get(tables.scale) or {}
    return [scale["note"]] if "note" in scale else []


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:,.4g}" if low == high and low < 1000 else f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _run_row(directory: Path, axes: list[str]) -> dict:
    config = records.read_json(directory / "config.json")
    if config is None:
        raise records.RecordError(f"{directory / 'config.json'}: not there; the same `bnrepro run` makes it again")
    manifest = records.read_json(directory / "manifest.json") or {}
    status = records.read_json(directory / "status.json") or {"status": "pending"}
    settings, step = flat(config), status.get("step", 0)
    row = {"run": directory.name, "experiment": directory.parents[1].name, "scale": config["scale"]}
    row |= {"seed": config["seed"], "status": status["status"], "last_step": step, "seconds": status.get("seconds")}
    row |= {"precision": config["train"]["precision"], "epochs": round(step / manifest.get("steps_per_epoch", 1), 3)}
    row |= {name: manifest.get(name) for name in records.COLUMNS["runs"] if name not in row}
    return row | {axis: settings.get(axis) for axis in axes}


def _joined(directories: list[Path], table: str) -> str:
    """All runs' rows under one header, of checked files, so that a damaged one is named and not the joined table."""
    texts = [records.check(directory / f"{table}.csv", table) for directory in directories]
    body = "".join(text.split("\n", 1)[1] for text in texts)
    return ",".join(records.COLUMNS[table]) + "\n" + body
