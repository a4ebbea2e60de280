"""Run the next look of the experiment whose claims a minute decides best, until all is decided, hopeless or over.

Every look is one sweep by the path of `bnrepro run`, with seeds 100 and up and any engine. What is known is read from
the files of runs and claims alone, so that the same command continues after whatever ended it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnrepro.core import paths, records
from bnrepro.core.checks import ConfigError
from bnrepro.draw import collect, figures, looks
from bnrepro.draw.verdicts import DECIDED
from bnrepro.evidence import power
from bnrepro.plan import limits

STEPS = ["time", "experiment", "event", "look", "seeds", "why", "seconds", "decided", "open"]  # of steps.csv
UNKNOWN = 0.5  # the chance of a decision that a claim without any run is given

Launch = Callable[[list[str]], int]  # the words of `bnrepro run` -> its exit code


@dataclass(frozen=True)
class Request:
    """What `decide` was asked for. `overrides` go on to every sweep; `budget` is in seconds, None without one."""

    names: tuple[str, ...]
    overrides: tuple[str, ...]
    scale: str
    out: Path
    budget: float | None
    told: str = ""  # the budget as it was typed

    def home(self, name: str) -> Path:
        return self.out / self.scale / name


@dataclass(frozen=True)
class Step:
    """The next look of one experiment: `gain` decisions are expected of it, `seconds` of one core (nan: not known)."""

    name: str
    look: int
    done: int
    gain: float
    seconds: float

    @property
    def why(self) -> str:
        if math.isnan(self.seconds):
            return "no runs yet: what it decides is not known"
        return f"{self.gain:.2g} decisions expected for {power.duration(self.seconds)} of a core"

    @property
    def worth(self) -> float:
        """Decisions by the second; what nobody has run comes first."""
        return math.inf if math.isnan(self.seconds) else self.gain / max(self.seconds, 1e-9)


def seconds_of(budget: str) -> float:
    """Of 90s, 3m, 2h, 1.5d. Raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget)
    if not found or not float(found[1]):
        raise ConfigError("budget", budget, "must be a time such as 90s, 3m, 2h or 1d")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def run(asked: Request, launch: Launch) -> int:
    """Look after look. Returns 0 when nothing is left that is worth a run, 1 when runs failed or the budget is over."""
    ends = math.inf if asked.budget is None else time.monotonic() + asked.budget
    failed: set[str] = set()
    said: set[str] = set()
    while True:
        open_ = {name: state for name in asked.names if name not in failed and (state := _state(asked, name))}
        steps = [step for name, state in open_.items() if (step := _next(asked, name, state, said))]
        if not steps:
            return 1 if failed else 0
        step = _chosen(steps, ends - time.monotonic())
        code = _take(asked, step, ends, launch)
        if code is None:
            print(f"stopped: the budget of {asked.told} is over; the same command continues", flush=True)
            return 1
        if code:
            failed.add(step.name)


def _state(asked: Request, name: str) -> power.Outlook | str:
    """What the runs say, else what the published pilot at this scale says, else "nothing"."""
    home = asked.home(name)
    if (home / "plan.json").exists():
        collect.tables(home)
        runs = records.read(home / "runs.csv", "runs")
        if (runs["status"].isin(records.RESULTS) & (runs["seed"] >= looks.FIRST_SEED)).any():
            figures.draw(name, home)
            return power.outlook(name, home)
    pilot = paths.home(name).results / name
    if (pilot / "claims.csv").exists() and (found := power.outlook(name, pilot)).scale == asked.scale:
        return found
    return "nothing"


def _next(asked: Request, name: str, state: power.Outlook | str, said: set[str]) -> Step | None:
    """The next look, or None where there is nothing worth a run, which is told once."""
    if isinstance(state, str):
        plan = figures.plan_of_looks(name, asked.scale, [looks.FIRST_SEED]) or list(looks.DEFAULT)
        return Step(name, plan[0], 0, UNKNOWN, math.nan)
    own = (asked.home(name) / "claims.csv").exists()
    done = state.counted if own else 0  # published seeds are not in this folder
    look = next((n for n in state.plan if n > done), None)
    reason = _reason(state, look) if own else ""
    if reason or look is None:
        if name not in said:
            said.add(name)
            _tell(asked, name, reason)
        return None
    chances = [claim.likely.get(look, math.nan) for claim in state.claims if not claim.hopeless]
    gain = sum(UNKNOWN if math.isnan(chance) else chance for chance in chances)
    return Step(name, look, done, gain, (look - done) * state.seconds)


def _reason(state: power.Outlook, look: int | None) -> str:
    """Why no look is worth a run any more; empty where one is."""
    names = ", ".join(claim.claim for claim in state.claims)
    if not state.claims:
        return f"decided: all {state.judged} claims"
    if look is None:
        return f"inconclusive at the planned end: {names}"
    if all(claim.hopeless for claim in state.claims):
        chances = [chance for claim in state.claims for chance in claim.likely.values() if not math.isnan(chance)]
        told = f"at most {100 * max(chances):.0f} %" if chances else "no number: too few seeds have a value"
        return f"hopeless: {names} (chance of a decision by {state.plan[-1]} seeds: {told})"
    return ""


def _chosen(steps: Sequence[Step], left: float) -> Step:
    """The most decisions by the second, of those that the time left is enough for, where it is enough for any."""
    fitting = [step for step in steps if not step.seconds > left]
    return max(fitting or steps, key=lambda step: step.worth)


def _take(asked: Request, step: Step, ends: float, launch: Launch) -> int | None:
    """Run and judge one look; returns the exit code of the sweep, None when the budget ended it."""
    left = ends - time.monotonic()
    if left <= 0:
        return None
    seeds = range(looks.FIRST_SEED, looks.FIRST_SEED + step.look)
    shown = f"{seeds[0]} to {seeds[-1]}"
    budget = "" if math.isinf(left) else f", {limits.clock(left)} left"
    print(f"look at {step.look} of {step.name}: seeds {shown}, {step.why}{budget}", flush=True)
    _append(asked, step.name, "started", step.look, shown, step.why)
    before, started = _verdicts(asked, step.name), time.monotonic()
    words = [f"experiment={step.name}", *asked.overrides, f"seed={','.join(map(str, seeds))}"]
    try:
        with limits.time_limit(None if math.isinf(left) else left, "budget", asked.told):
            code = launch(words)
    except TimeoutError:
        _append(asked, step.name, "stopped", step.look, shown, "the budget is over", time.monotonic() - started)
        return None
    took = time.monotonic() - started
    if code:
        why = "runs failed: repair them, then the same command with retry_failed=true"
        print(f"{step.name}: {why}", flush=True)
        _append(asked, step.name, "failed", step.look, shown, why, took)
        return code
    collect.tables(asked.home(step.name))
    judged = figures.draw(step.name, asked.home(step.name))
    after = dict(zip(judged["claim"], judged["verdict"], strict=True))
    decided = {claim: verdict for claim, verdict in after.items() if verdict in DECIDED}
    new = [f"{claim} {verdict}" for claim, verdict in decided.items() if before.get(claim) != verdict]
    open_ = [claim for claim in after if claim not in decided]
    print(f"  decided: {', '.join(new) or 'nothing'}; open: {len(open_)}", flush=True)
    _append(asked, step.name, "judged", step.look, shown, step.why, took, "; ".join(new), "; ".join(open_))
    return 0


def _verdicts(asked: Request, name: str) -> dict[str, str]:
    home = asked.home(name)
    if not (home / "claims.csv").exists():
        return {}
    held = records.read(home / "claims.csv", "claims")
    return dict(zip(held["claim"], held["verdict"], strict=True))


def _tell(asked: Request, name: str, reason: str) -> None:
    event, _, rest = reason.partition(": ")
    print(f"{name}: {reason}", flush=True)
    _append(asked, name, event, why=rest)


def _append(
    asked: Request, name: str, event: str, look: int | str = "", seeds: str = "", why: str = "",
    seconds: float | None = None, decided: str = "", still_open: str = "",
) -> None:  # fmt: skip
    """A row of OUT/SCALE/steps.csv."""
    path = asked.out / asked.scale / "steps.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    now, took = time.strftime("%Y-%m-%dT%H:%M:%S"), "" if seconds is None else f"{seconds:.1f}"
    with path.open("a", encoding="utf-8", newline="") as file:
        if file.tell() == 0:
            file.write(records.line(STEPS))
        file.write(records.line([now, name, event, look, seeds, why, took, decided, still_open]))
