"""What further seeds would decide and cost, claim by claim: forecasts from tables, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from bnrepro.core import records
from bnrepro.draw import figures, looks, predict
from bnrepro.draw.predict import Forecast
from bnrepro.draw.verdicts import DECIDED

HEAD = ("claim", "n", "estimate", "spread", "look", "chance", "by end", "per seed", "in total")
METHOD = (
    f"chances by seeded simulation ({predict.PATHS:,} paths), if estimate and spread stay as they are; "
    "spread: standard deviation over seeds, x: a factor; time of one core, all arms"
)


@dataclass(frozen=True)
class Outlook:
    """The open claims of one experiment. `seconds` of runs a seed takes, all arms together; nan where none is done.

    `counted` seeds from 100 on are done, all runs of them.
    """

    name: str
    scale: str
    plan: tuple[int, ...]
    counted: int
    seconds: float
    claims: tuple[Forecast, ...]
    judged: int  # claims in all

    def cost(self, look: int | None) -> float:
        """Seconds from here to a look, nan without one."""
        return math.nan if look is None else (look - self.counted) * self.seconds


def outlook(name: str, home: Path) -> Outlook:
    """From claims.csv and runs.csv in `home`. Raises RecordError where they are not there."""
    runs = records.read(home / "runs.csv", "runs")
    done = runs[runs["status"].isin(records.RESULTS)]
    scale = runs["scale"].iloc[0]
    plan = figures.plan_of_looks(name, scale, [looks.FIRST_SEED])
    assert plan is not None  # seeds that count have one at every scale
    unfinished = set(runs["seed"]) - set(done["seed"]) | set(runs["seed"][~runs["status"].isin(records.RESULTS)])
    counted = {seed for seed in set(done["seed"]) - unfinished if seed >= looks.FIRST_SEED}
    rows = list(records.read(home / "claims.csv", "claims").itertuples())
    open_ = tuple(predict.forecast(row, plan) for row in rows if row.verdict not in DECIDED or row.look == "fixed n")
    seconds = done["seconds"].astype(float).sum() / done["seed"].nunique() if len(done) else math.nan
    return Outlook(name, scale, tuple(plan), len(counted), float(seconds), open_, len(rows))


def text(found: list[Outlook]) -> str:
    """A table for each experiment, and the sum of what would be decided."""
    lines, decided, hours = [], 0, 0.0
    for one in found:
        if not one.claims:
            continue
        plan = ", ".join(map(str, one.plan))
        lines += ["", f"{one.name}, {one.scale}: looks at {plan}; {len(one.claims)} of {one.judged} claims open"]
        lines.append("  " + _columns(HEAD))
        lines += ["  " + _columns(_cells(one, claim)) for claim in one.claims]
        due = [claim.look for claim in one.claims if claim.look]
        decided += len(due)
        hours += one.cost(max(due)) / 3600 if due else 0.0
    total = sum(len(one.claims) for one in found)
    lines += ["", f"{decided} of {total} open claims would be decided by the plans, for {hours:.3g} core-hours", METHOD]
    return "\n".join(lines[1:] if len(lines) > 2 else lines)


def as_values(found: list[Outlook]) -> list[dict]:
    """One entry a claim, for JSON; what is not known is null."""
    rows = []
    for one in found:
        for claim in one.claims:
            row = {"experiment": one.name, "scale": one.scale, "plan": list(one.plan), **asdict(claim)}
            row |= {"hopeless": claim.hopeless, "seconds_per_seed": one.seconds, "seconds": one.cost(claim.look)}
            row["likely"] = {str(n): chance for n, chance in claim.likely.items()}
            rows.append({name: None if value != value else value for name, value in row.items()})
    return rows


def _cells(one: Outlook, claim: Forecast) -> tuple[str, ...]:
    spread = "-" if math.isnan(claim.spread) else f"{claim.spread:.3g}"
    if claim.logarithmic and not math.isnan(claim.spread):
        spread = f"x {math.exp(claim.spread):.3g}"
    if claim.look:
        look = str(claim.look)
    elif claim.needed:
        look = f"none (n={claim.needed:,})"
    else:
        look = "none"
    return (
        claim.claim, str(claim.n), f"{claim.estimate:.4g}", spread, look, _share(claim.chance), _share(claim.by_end),
        duration(one.seconds), duration(one.cost(claim.look)) + (" hopeless" if claim.hopeless else ""),
    )  # fmt: skip


def _columns(cells: tuple[str, ...]) -> str:
    widths = (28, 3, 10, 9, 16, 7, 7, 9, 0)
    return " ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _share(chance: float) -> str:
    return "-" if math.isnan(chance) else f"{100 * chance:.0f} %"


def duration(seconds: float) -> str:
    """Such as 45 s, 12 min, 3.4 h; - for what is not known."""
    if math.isnan(seconds):
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
