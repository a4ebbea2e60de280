"""Verdicts of an experiment's claims, by the plan of looks that its YAML states.

With a plan, seeds 100 and up count: a claim is judged after so many of them as the plan says, at the plan's level, and
at no other n; the first look that decides stands. Runs of smaller seeds are a pilot, which decides nothing. Without a
plan (scale quick, seeds below 100) all seeds are judged once, by an interval of 95 %. A seed counts when all its runs
have a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnrepro.core.records import COLUMNS, RESULTS, Tables
from bnrepro.draw import looks, stats
from bnrepro.draw.claims import Claim, ClaimError

if TYPE_CHECKING:
    import pandas as pd

Claims = Callable[[Tables], Iterable[Claim]]
DECIDED = ("reproduced", "not reproduced")


def frame(claims: Claims, tables: Tables, plan: Sequence[int] | None) -> pd.DataFrame:
    """The table claims.csv; `plan` is the numbers of seeds of the looks, None for all seeds at once.

    Raises ClaimError for two claims of one name.
    """
    import pandas as pd

    judged = _fixed(claims, tables) if plan is None else _by_looks(claims, tables, plan)
    _once([row["claim"] for row in judged])
    return pd.DataFrame(judged, columns=COLUMNS["claims"])


def check(claims: Iterable[Claim]) -> None:
    """Raise ClaimError for claims that no runs could decide: none at all, or two of one name."""
    names = [claim.claim for claim in claims]
    if not names:
        raise ClaimError("no claims")
    _once(names)


def _once(names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ClaimError(f"two claims are called {twice[0]}")


def _fixed(claims: Claims, tables: Tables) -> list[dict]:
    return [_row(claim, stats.LEVEL, "fixed n", claim.verdict(stats.LEVEL)) for claim in claims(tables)]


def _by_looks(claims: Claims, tables: Tables, plan: Sequence[int]) -> list[dict]:
    planned = ", ".join(map(str, plan))
    open_seeds = set(tables.runs["seed"][~tables.runs["status"].isin(RESULTS)])  # of runs that are still to come
    counted = sorted(seed for seed in set(tables.runs["seed"]) - open_seeds if seed >= looks.FIRST_SEED)
    if not counted and max(tables.runs["seed"]) >= looks.FIRST_SEED:
        return [_row(claim, stats.LEVEL, f"before {planned}", "not enough runs") for claim in claims(_of(tables, []))]
    if not counted:
        return [_row(claim, stats.LEVEL, f"pilot, planned {planned}", "pilot") for claim in claims(tables)]
    level = looks.level(plan)
    rows: dict[str, dict[str, Any]] = {}
    for n in [n for n in plan if n <= len(counted)]:
        for claim in claims(_of(tables, counted[:n])):
            if claim.claim not in rows or rows[claim.claim]["verdict"] not in DECIDED:
                rows[claim.claim] = _row(claim, level, f"{n} of {planned}", claim.verdict(level))
    if not rows:
        few = claims(_of(tables, counted))
        return [_row(claim, level, f"before {planned}", "not enough runs") for claim in few]
    return list(rows.values())


def _of(tables: Tables, seeds: Sequence[int]) -> Tables:
    """The tables of these seeds."""
    kept = {name: table[table["seed"].isin(seeds)] for name, table in vars(tables).items()}
    return replace(tables, **kept)


def _row(claim: Claim, level: float, look: str, verdict: str) -> dict:
    low, high = claim.ours.at(level)
    texts = {name: getattr(claim, name) for name in ("claim", "kind", "source", "paper")}
    texts["statement"] = claim.sentence
    numbers = {"ours": claim.ours.value, "low": low, "high": high, "n": claim.ours.n, "method": claim.ours.method}
    return texts | numbers | {"level": level, "look": look, "rule": claim.rule, "verdict": verdict}
