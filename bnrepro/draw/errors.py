"""How many verdicts may be wrong by chance, and which stand up to having been asked among many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnrepro.draw import claims, looks, predict
from bnrepro.draw.verdicts import DECIDED

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Together:
    """Over the claims of all experiments: {kind: {verdict: count}}, and what multiplicity leaves of the decided ones.

    `judged` claims had a look, or one interval of 95 %; `wrong` is the most that chance makes wrong of them, 5 %. Of
    the `decided`, `benjamini_hochberg` stand where 5 % of those named may be wrong (1995), `holm` where the chance of
    a single wrong one is 5 % (1979).
    """

    kinds: dict[str, dict[str, int]]
    judged: int
    decided: int
    wrong: float
    benjamini_hochberg: int
    holm: int


def together(table: pd.DataFrame) -> Together:
    """Of the rows of one or more claims.csv."""
    kinds = {kind: dict.fromkeys(claims.VERDICTS, 0) for kind in claims.KINDS}
    for kind, verdict in zip(table["kind"], table["verdict"], strict=True):
        kinds[kind][verdict] += 1
    judged = table[table["verdict"].isin((*DECIDED, "inconclusive"))]
    p = np.array([p_value(row) for row in judged.itertuples()])
    decided = judged["verdict"].isin(DECIDED).to_numpy()
    known = np.where(np.isnan(p), 1.0, p)
    found = int(decided.sum())
    survive = [int((decided & rule(known)).sum()) for rule in (_benjamini_hochberg, _holm)]
    return Together(kinds, len(judged), found, looks.ERROR * len(judged), *survive)


def lines(table: pd.DataFrame) -> list[str]:
    """The same in words, a sentence each, for a page or a README."""
    found = together(table)
    parts = []
    for kind, counts in found.kinds.items():
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
        parts.append(f"{sum(counts.values())} of {kind} ({told or 'none'})")
    return [
        f"By kind: {'; '.join(parts)}.",
        f"Of {found.judged} judged claims up to {found.wrong:.0f} are expected to be wrong by chance, 5 % each over "
        "all looks.",
        f"Of {found.decided} decided ones {found.benjamini_hochberg} survive Benjamini-Hochberg at 5 %, and "
        f"{found.holm} survive Holm.",
    ]


def p_value(row: Any) -> float:
    """Two-sided, of a judged row: the level at which its interval just touches the nearest bound.

    Over all looks of its plan together: times their number, an upper limit (Bonferroni) that is close for small values.
    0 where all seeds agree, nan where the method is not Student's or there is no interval.
    """
    from scipy.special import stdtr

    ours, spread, (least, most) = predict.on_scale(row)
    if math.isnan(spread) or row.method in ("exact binomial", "order statistics"):
        return math.nan
    distance = min(abs(ours - least), abs(ours - most)) if least <= ours <= most else max(least - ours, ours - most)
    if not spread:
        return 0.0
    return min(1.0, 2 * float(stdtr(row.n - 1, -distance / spread * math.sqrt(row.n))) * _looks(row.look))


def _looks(look: str) -> int:
    """How many looks a plan has, as the column `look` of claims.csv tells it ("6 of 6, 12, 24")."""
    return len(look.partition(" of ")[2].split(",")) if " of " in look else 1


def _benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Rejected up to the largest that is at most its rank times 5 % over their number."""
    ordered = np.sort(p)
    below = ordered[ordered <= looks.ERROR * np.arange(1, len(p) + 1) / max(len(p), 1)]
    return p <= below[-1] if len(below) else np.zeros(len(p), dtype=bool)


def _holm(p: np.ndarray) -> np.ndarray:
    """Rejected while the k-th smallest is at most 5 % over the number of those not yet rejected."""
    order, kept = np.argsort(p), np.zeros(len(p), dtype=bool)
    for place, index in enumerate(order):
        if p[index] > looks.ERROR / (len(p) - place):
            break
        kept[index] = True
    return kept
