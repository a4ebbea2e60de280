"""The run directories of one experiment, joined to its tables and protocol.json."""

from __future__ import annotations

from pathlib import Path

from bnrepro.core import files, records, run_dir
from bnrepro.core.identity import flat
from bnrepro.draw import protocol


def tables(home: Path) -> int:
    """Write the tables and protocol.json from the runs of the last plan; returns the number of results.

    Runs without a result are listed in runs.csv with their status, but their half-written tables are left out.
    """
    import pandas as pd

    if (plan := records.read_json(home / "plan.json")) is None:
        raise records.RecordError(f"{home / 'plan.json'}: not there; the same `bnrepro run` makes it again")
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
