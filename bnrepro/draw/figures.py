"""From saved tables to figures and verdicts: no torch, no data, no network.

`collect` turns the run directories of one experiment into its tables, `draw` turns tables into figure.csv, claims.csv
and the pictures. What is drawn is put on one page by bnrepro/page.py.
"""

from __future__ import annotations

import importlib.util
import textwrap
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bnrepro.core import files, paths, records, run_dir
from bnrepro.core.identity import flat
from bnrepro.draw import looks, protocol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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


def plan_of_looks(name: str, scale: str) -> list[int] | None:
    """After how many seeds the claims are judged: the YAML's `looks`, or the default; None at scale quick."""
    return None if scale == "quick" else list(about(name).get("looks", looks.DEFAULT))


def collect(home: Path) -> int:
    """Write the tables and protocol.json from the runs of the last plan; returns the number of results.

    Runs without a result are listed in runs.csv with their status, but their half-written tables are left out.
    """
    import pandas as pd

    plan = records.read_json(home / "plan.json")
    directories = [home / "runs" / name for name in plan["runs"]]
    configs = [_config(directory) for directory in directories]
    manifests = [records.read_json(directory / "manifest.json") or {} for directory in directories]
    rows = zip(directories, configs, manifests, strict=True)
    runs = pd.DataFrame([_run_row(*row, plan["axes"]) for row in rows])
    whole = ["last_step", "train_images", "parameters"]
    runs[whole] = runs[whole].astype("Int64")  # whole numbers stay whole where a run has none yet
    done = [path for path, status in zip(directories, runs["status"], strict=True) if status in records.RESULTS]
    for table in ("metrics", "layers"):
        files.write_text(_joined(done, table), home / f"{table}.csv")
    more = {"looks": plan["looks"]} if "looks" in plan else {}
    if remarks := {path.name: held for path in done if (held := run_dir.note(path).get("notes"))}:
        more["notes"] = remarks
    records.write_json(protocol.of(plan["command"], configs, manifests) | more, home / "protocol.json")
    records.write_frame(runs, home / "runs.csv", "runs")
    return len(done)


def draw(name: str, directory: Path) -> pd.DataFrame:
    """From the tables in `directory` to figure.csv, claims.csv, figure.svg and figure.png there; returns the claims."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from bnrepro.core import style
    from bnrepro.draw import verdicts

    module, tables = experiment(name), records.load(directory)
    style.learn((records.read_json(directory / "protocol.json") or {}).get("looks", {}))
    data = module.data(tables)
    records.write_frame(data, directory / "figure.csv", "figure")
    data = records.read(directory / "figure.csv", "figure")  # what is drawn is what the file says
    judged = verdicts.frame(module.claims, tables, plan_of_looks(name, tables.scale))
    records.write_frame(judged, directory / "claims.csv", "claims")
    with plt.rc_context(style.RC):
        figure = plt.figure(figsize=(style.WIDTH, 3.2))
        module.draw(data, figure)
        lines = [about(name)["title"], *textwrap.wrap(setting(tables.runs), style.LINE)]
        figure.suptitle("\n".join(lines), fontsize=8)
        _settle(figure)
        _save(figure, directory)
    plt.close(figure)
    return judged


def _save(figure: Figure, directory: Path) -> None:
    """By the printers themselves: savefig renders a figure once more, for what the layout has settled already."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure).print_svg(directory / "figure.svg", metadata={"Date": None})
    figure.set_dpi(mpl.rcParams["savefig.dpi"])
    FigureCanvasAgg(figure).print_png(directory / "figure.png", metadata={"Software": None})


def notes(name: str, directory: Path) -> list[str]:
    """What there is to say beside the claims: the experiment's optional function `notes`, and remarks on its runs."""
    module = experiment(name)
    said = module.notes(records.load(directory)) if hasattr(module, "notes") else []
    remarks = (records.read_json(directory / "protocol.json") or {}).get("notes", {})
    return [*said, *(f"{run}: {remark}" for run, held in remarks.items() for remark in held)]


def show(name: str, judged: pd.DataFrame) -> str:
    """The claims of one experiment, for the terminal."""
    from bnrepro.draw import claims

    lines = [f"{name}"]
    for row in judged.itertuples():
        lines.append(f"  {row.verdict:15} {row.claim}: {row.statement}")
        lines.append(f"  {'':15} paper {row.paper}; ours {claims.number(row)}, n={row.n}")
    return "\n".join(lines)


def _settle(figure: Figure) -> None:
    """Lay out once and round: the solver's last digits change from process to process, and the SVG hashes them."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")  # and not again for each of the two files
    for axis in figure.axes:
        axis.set_position([round(part, 6) for part in axis.get_position().bounds])


def setting(every: pd.DataFrame) -> str:
    """What the reader of a figure must know of runs.csv: scale, data, runs that diverged, stalled or have no result."""
    runs, scale = every[every["status"].isin(records.RESULTS)], every["scale"].iloc[0]
    parts = [scale]
    for name, group in runs[runs["status"] != "diverged"].groupby("data"):
        images, epochs = group["train_images"].astype(float), group["epochs"].astype(float)
        steps = group["last_step"].astype(int)
        length = f"{_range(epochs)} epochs" if epochs.max() > 1 else f"{_range(steps)} steps"
        parts.append(f"{name}: {_range(images)} images, {'1 step' if length == '1 steps' else length}")
    counts = Counter(every["status"].where(every["status"].isin(records.RESULTS), "missing"))
    if lost := [f"{counts[word]} {word}" for word in (*records.RESULTS[1:], "missing") if counts[word]]:
        parts.append(f"of {len(every)} runs {', '.join(lost)}")
    note = (about(every["experiment"].iloc[0])["scales"].get(scale) or {}).get("note")
    return "; ".join([*parts, *([note] if note else [])])


def _range(values: pd.Series) -> str:
    ends = values.min(), values.max()
    low, high = (f"{value:,.0f}" if value == round(value) else f"{value:,.4g}" for value in ends)
    return low if low == high else f"{low} to {high}"


def _config(directory: Path) -> dict:
    if (config := records.read_json(directory / "config.json")) is None:
        raise records.RecordError(f"{directory / 'config.json'}: not there; the same `bnrepro run` makes it again")
    return config


def _run_row(directory: Path, config: dict, manifest: dict, axes: list[str]) -> dict:
    status = run_dir.note(directory)
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
