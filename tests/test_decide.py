"""The loop that runs looks: two small experiments with a launcher that writes made-up runs, killed and continued."""

from __future__ import annotations

import csv
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bnrepro import cli
from bnrepro.core import checks, paths, records
from bnrepro.evidence import decide, power

SCRIPT = """
import pandas as pd
from bnrepro.draw import points, stats
from bnrepro.draw.claims import Claim

def data(tables):
    return points.frame([("p", "s", float(seed), 1.0, 1.0, 1.0, 1) for seed in tables.runs["seed"]])

def draw(data, figure):
    figure.subplots().plot(data.x, data.y)

def claims(tables):
    ours = stats.mean(tables.metrics.groupby("seed")["value"].mean())
    return [Claim.sign(claim="positive", source="S", statement="s", paper="p", ours=ours, needed=2)]
"""
YAML = "title: T\nsource: S\nshows: s\nscales: {quick: {cost: x}}\n"
DRAWS = {"sure": (5.0, 1.0), "later": (0.75, 1.0), "never": (0.0, 1.0)}  # mean, deviation


class Launcher:
    """What `bnrepro run` does, without training: it adds the seeds that are missing, and may be cut off."""

    def __init__(self, out: Path, stop_after: int | None = None, seconds: float = 1.0, naps: float = 0.0):
        self.out, self.stop_after, self.seconds, self.naps = out, stop_after, seconds, naps
        self.calls: list[tuple[str, int]] = []

    def __call__(self, words: list[str]) -> int:
        given = dict(word.split("=", 1) for word in words)
        name, seeds = given["experiment"], [int(seed) for seed in given["seed"].split(",")]
        self.calls.append((name, len(seeds)))
        home = self.out / "quick" / name
        records_of = [home / "runs" / f"seed={seed}" for seed in seeds]
        home.mkdir(parents=True, exist_ok=True)
        plan = {"command": "bnrepro run", "axes": ["seed"], "runs": [path.name for path in records_of]}
        for seed, path in zip(seeds, records_of, strict=True):
            if not path.exists():
                self._freeze(name, seed, path)
        records.write_json(plan, home / "plan.json")
        for seed, path in zip(seeds, records_of, strict=True):
            if not (path / "metrics.csv").exists():
                if self.stop_after is not None:
                    self.stop_after -= 1
                    if self.stop_after < 0:
                        raise KeyboardInterrupt
                time.sleep(self.naps)
                self._write(name, seed, path)
        return 0

    def _freeze(self, name: str, seed: int, path: Path) -> None:
        path.mkdir(parents=True)
        values = checks.build({"experiment": name, "scale": "quick", "seed": seed, "train": {"steps": 1}})
        from bnrepro.core.identity import as_dict

        records.write_json(as_dict(values), path / "config.json")

    def _write(self, name: str, seed: int, path: Path) -> None:
        mean, deviation = DRAWS[name]
        value = mean + deviation * np.random.default_rng(seed).standard_normal()
        (path / "metrics.csv").write_text(
            ",".join(records.COLUMNS["metrics"]) + f"\n{path.name},1,1.0,test,accuracy,{value!r}\n"
        )
        (path / "layers.csv").write_text(",".join(records.COLUMNS["layers"]) + "\n")
        manifest = {"data": "made up", "train_images": 10, "steps_per_epoch": 1, "parameters": 3, "device": "cpu"}
        records.write_json(manifest, path / "manifest.json")
        records.write_json({"status": "completed", "step": 1, "seconds": self.seconds}, path / "status.json")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for part in ("conf/experiment", "experiments"):
        (tmp_path / part).mkdir(parents=True)
    for name in DRAWS:
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(YAML)
        (tmp_path / "experiments" / f"{name}.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(folder: Path, *names: str, budget: float | None = None) -> decide.Request:
    return decide.Request(names, (), "quick", folder / "outputs", budget, "a while")


def steps(folder: Path) -> list[dict]:
    with (folder / "outputs" / "quick" / "steps.csv").open() as file:
        return list(csv.DictReader(file))


def events(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["experiment"], row["event"], row["look"]) for row in steps(folder)]


def tables(folder: Path) -> dict[str, bytes]:
    base = folder / "outputs" / "quick"
    return {str(path.relative_to(base)): path.read_bytes() for name in ("runs", "metrics", "claims", "figure")
            for path in sorted(base.glob(f"*/{name}.csv"))}  # fmt: skip


def test_it_stops_at_decisions_and_at_hopelessness_and_says_so(folder, capsys):
    launcher = Launcher(folder / "outputs")
    assert decide.run(asked(folder, "sure", "never"), launcher) == 0
    assert launcher.calls[:2] == [("sure", 6), ("never", 6)] and ("sure", 12) not in launcher.calls
    done = events(folder)
    assert ("sure", "judged", "6") in done and ("sure", "decided", "") in done
    assert {event for name, event, _ in done if name == "never"} & {"hopeless", "inconclusive at the planned end"}
    assert "positive reproduced" in capsys.readouterr().out
    judged = next(row for row in steps(folder) if row["event"] == "judged")
    assert judged["seeds"] == "100 to 105" and judged["decided"] == "positive reproduced" and judged["why"]


def test_killed_and_continued_it_ends_with_the_same_tables(folder):
    whole = asked(folder, "sure", "later")
    assert decide.run(whole, Launcher(folder / "outputs")) == 0
    undisturbed = tables(folder)
    again = replace(whole, out=folder / "again" / "outputs")
    for stop in (2, 3, 4):
        with pytest.raises(KeyboardInterrupt):
            decide.run(again, Launcher(again.out, stop_after=stop))
    assert decide.run(again, Launcher(again.out)) == 0
    assert tables(folder / "again") == undisturbed


def test_the_budget_ends_it_in_the_middle_of_a_look_and_the_same_command_continues(folder, capsys):
    launcher = Launcher(folder / "outputs", naps=0.2)
    assert decide.run(asked(folder, "sure", budget=0.5), launcher) == 1
    assert ("sure", "stopped", "6") in events(folder) and "the budget of a while is over" in capsys.readouterr().out
    assert decide.run(asked(folder, "sure"), launcher) == 0
    assert ("sure", "decided", "") in events(folder)


def test_runs_that_failed_are_not_judged(folder):
    assert decide.run(asked(folder, "sure"), lambda words: 1) == 1
    assert ("sure", "failed", "6") in events(folder) and not list(folder.rglob("claims.csv"))


def test_a_minute_goes_where_it_decides_most():
    cheap, dear = decide.Step("a", 12, 6, 1.0, 10.0), decide.Step("b", 12, 6, 5.0, 100.0)
    assert decide._chosen([dear, cheap], 1000) is cheap
    assert decide._chosen([replace(dear, gain=50), cheap], 1000).name == "b"
    assert decide._chosen([replace(dear, gain=50), cheap], 20) is cheap  # the dear one does not fit
    assert decide._chosen([dear], 20) is dear
    assert decide._chosen([cheap, replace(dear, seconds=float("nan"))], 1000).name == "b"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("3m", 180), ("1.5h", 5400), ("2d", 172800)])
def test_a_budget_is_a_time(text, seconds):
    assert decide.seconds_of(text) == seconds


@pytest.mark.parametrize("words", [["budget=3"], ["budget=0s"], ["until=tomorrow"], ["seed=1"], ["engine_minutes=2"]])
def test_what_it_cannot_be_asked_is_refused_before_any_run(words, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["decide", "sigmoid_gradients", *words])
    assert done.value.code == 2 and words[0].partition("=")[0] in capsys.readouterr().err


def test_power_tells_of_each_open_claim_what_it_costs(capsys):
    with pytest.raises(SystemExit):
        cli.main(["power", "vgg_curves", "--json"])
    rows = json.loads(capsys.readouterr().out)
    held = records.read(paths.RESULTS / "vgg_curves" / "claims.csv", "claims")
    still = held[~held["verdict"].isin(["reproduced", "not reproduced"])]
    assert [row["claim"] for row in rows] == list(still["claim"])
    for row in rows:
        if row["look"] is not None:
            assert row["seconds"] == pytest.approx(row["look"] * row["seconds_per_seed"]) or row["counted"]
    runs = records.read(paths.RESULTS / "vgg_curves" / "runs.csv", "runs")
    one = power.outlook("vgg_curves", paths.RESULTS / "vgg_curves")
    assert one.seconds == pytest.approx(runs["seconds"].sum() / runs["seed"].nunique())
    assert "core-hours" in power.text([one])
    assert pd.isna(one.cost(None))
