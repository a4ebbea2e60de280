"""A light page of many experiments, with search and filters; figures are files beside it, scripts are not needed."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnrepro.core import files, paths, records
from bnrepro.draw import claims, experiment, figures
from bnrepro.report import deviations, page

if TYPE_CHECKING:
    import pandas as pd

WIDE, TALL = 180, 26  # of a forest plot, in CSS pixels
SHOWN = 3  # deviations of an experiment; the document has all


def write(places: dict[str, Path], target: Path) -> None:
    """The page of experiments that are drawn, {name: directory}; `target` lies beside or above the directories."""
    files.write_text(text(places, target.parent), target)


def text(places: dict[str, Path], base: Path) -> str:
    """The page, with figures named relative to `base`."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"] = page.prose
    template = environment.from_string(Path(__file__).with_name("index.html.jinja").read_text())
    experiments = [_experiment(name, home, base) for name, home in places.items()]
    every = [row for one in experiments for row in one["claims"]]
    return template.render(
        experiments=experiments, total=Counter(row["verdict"] for row in every), count=len(every), marks=page.MARKS,
        papers=sorted({row["paper_of"] for row in every}), kinds=claims.KINDS,
    )  # fmt: skip


def _experiment(name: str, home: Path, base: Path) -> dict[str, Any]:
    facts, runs = experiment.about(name), records.read(home / "runs.csv", "runs")
    protocol, scale = records.read_json(home / "protocol.json") or {}, runs["scale"].iloc[0]
    judged = [_claim(row) for row in records.read(home / "claims.csv", "claims").itertuples()]
    own = [table for table in deviations.of(name) if re.search(rf"\b{name}\b", table.heading)]
    rows = [row for table in own for row in table.rows]
    return {
        "name": name, "title": facts["title"], "source": facts["source"], "shows": facts["shows"],
        "setting": figures.setting(runs), "figure": (home / "figure.svg").relative_to(base).as_posix(),
        "size": _size(home / "figure.svg"), "claims": judged, "counts": Counter(row["verdict"] for row in judged),
        "protocol": _protocol(runs, protocol, facts), "deviations": rows[:SHOWN], "more": max(0, len(rows) - SHOWN),
        "columns": own[0].columns if own else [],
        "commands": [
            protocol.get("command", f"bnrepro run {name} scale={scale}"),
            f"bnrepro draw --committed {name}" if base == paths.RESULTS else f"bnrepro draw {name} scale={scale}",
        ],
    }  # fmt: skip


def _claim(row: Any) -> dict[str, Any]:
    asked, because = claims.halves(row.rule)
    return row._asdict() | {
        "ours_shown": claims.number(row), "asked": asked, "because": because, "paper_of": row.source.split(",")[0],
        "plot": forest(row),
    }  # fmt: skip


def _protocol(runs: pd.DataFrame, protocol: dict, facts: dict) -> list[tuple[str, str]]:
    """What a reader asks first: (name, in words)."""
    statuses = runs["status"].value_counts()
    varied = [
        f"{name}: {', '.join(page.word(value) for value, _ in values)}"
        for name, values in protocol.get("varied", {}).items()
        if name != "seed"
    ]
    return [
        ("runs", f"{len(runs)}: " + ", ".join(f"{count} {status}" for status, count in statuses.items())),
        ("seeds", ", ".join(map(str, sorted(runs["seed"].unique())))),
        ("varied", "; ".join(varied) or "nothing but the seed"),
        ("chosen", facts.get("chosen", "Not recorded.")),
    ]


def forest(row: Any) -> dict[str, Any] | None:
    """One claim drawn: where the rule wants the interval (a band), and interval and value, as x in 0 to WIDE.

    On a logarithmic axis where the interval was made on the logarithm. None where there is no interval.
    """
    if not (math.isfinite(row.low) and math.isfinite(row.high)):
        return None
    least, most = claims.bounds(row.rule)
    held = [row.low, row.high, row.ours, *(bound for bound in (least, most) if math.isfinite(bound))]
    logarithmic = "logarithm" in row.method and min(held) > 0
    at = math.log if logarithmic else float
    left, right = min(map(at, held)), max(map(at, held))
    margin = 0.12 * (right - left) or 1.0

    def x(value: float) -> float:
        if math.isinf(value):
            return 0.0 if value < 0 else float(WIDE)
        return round((at(value) - left + margin) / (right - left + 2 * margin) * WIDE, 1)

    return {
        "band": (x(least), round(x(most) - x(least), 1)), "low": x(row.low), "high": x(row.high), "ours": x(row.ours),
        "bounds": [x(bound) for bound in (least, most) if math.isfinite(bound)], "log": logarithmic,
        "wide": WIDE, "tall": TALL,
    }  # fmt: skip


def _size(svg: Path) -> tuple[int, int]:
    """Width and height in points, so that a browser keeps the place of a figure that is not loaded yet."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg.read_text()[:3000])
    return (round(float(found[1])), round(float(found[2]))) if found else (720, 320)
