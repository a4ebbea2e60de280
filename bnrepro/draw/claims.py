"""A claim of a paper, our number for it, and the verdict of a rule that was fixed before the run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnrepro.draw.stats import Estimate  # needs numpy, which `bnrepro list` does without

KINDS = ("identity", "size", "sign")
SIGN = "the sign is the claim"
FACTOR = 2.0  # a size that misses the paper's by more is told beside a sign that is right
VERDICTS = ("reproduced", "not reproduced", "inconclusive", "not enough runs", "pilot")


class ClaimError(ValueError):
    """A claim that no runs could decide, whatever they show."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Reproduced when the whole interval of `ours` lies within [least, most], not reproduced when wholly outside.

    `paper` is text that keeps its evidence ("4.1 (stated)", "about 80 (read off a plot)"); `because` gives the reason
    for the bounds. With fewer than `needed` runs the verdict is "not enough runs", whatever the value. Made by one of
    three constructors, which say of which of KINDS a claim is. `theirs` is the paper's number in the units of ours,
    where it has one: of a sign that is right and a size that is not, the statement then says so.

    Raises ClaimError for bounds that cannot hold, or none.
    """

    claim: str
    source: str
    statement: str
    paper: str
    ours: Estimate
    least: float = -math.inf
    most: float = math.inf
    needed: int = 5
    because: str = ""
    theirs: float | None = None
    kind: str

    def __post_init__(self) -> None:
        if math.isinf(self.least) and math.isinf(self.most):
            raise ClaimError(f"claim {self.claim}: no bound; give least, most or both")
        if not self.least <= self.most:
            raise ClaimError(f"claim {self.claim}: least={self.least:g} is above most={self.most:g}")

    @classmethod
    def identity(cls, **fields: Any) -> Claim:
        """What is exact, or follows from a theory: our interval against its value."""
        return cls(kind="identity", **fields)

    @classmethod
    def size(cls, **fields: Any) -> Claim:
        """Our interval against the paper's number, with a tolerance that `because` explains."""
        return cls(kind="size", **fields)

    @classmethod
    def sign(cls, *, above: float | None = None, below: float | None = None, but: str = "", **fields: Any) -> Claim:
        """Only the side of a value: `above` 0 unless said otherwise; a ratio's is 1. `but` tells what weakens it."""
        bounds = {"least": 0.0 if above is None else above} if below is None else {"most": below}
        return cls(kind="sign", **{"because": SIGN + (f"; {but}" if but else "")} | bounds | fields)

    @property
    def rule(self) -> str:
        if math.isinf(self.most):
            bounds = f">= {self.least:g}"
        elif math.isinf(self.least):
            bounds = f"<= {self.most:g}"
        else:
            bounds = f"within {self.least:g} to {self.most:g}"
        return f"interval {bounds}, n >= {self.needed}" + (f" ({self.because})" if self.because else "")

    @property
    def sentence(self) -> str:
        """The statement; with what is wrong in size where only a sign is claimed and ours is off by FACTOR or more."""
        ours, theirs = self.ours.value, self.theirs
        if self.kind != "sign" or not theirs or math.isnan(ours):
            return self.statement
        center = self.least if math.isfinite(self.least) else self.most
        if center == 1 and ours > 0 and theirs > 0:  # a ratio: its distance from 1 is told on the logarithm
            ours, theirs = math.log(ours), math.log(theirs)
        ratio = ours / theirs
        if 1 / FACTOR < ratio < FACTOR:
            return self.statement
        told = "of the other sign than" if ratio <= 0 else f"{ratio:.2g} times"
        told += " the paper's" + (" on the logarithm" if center == 1 else "")
        return f"{self.statement} [sign only: the size is {told}]"

    def verdict(self, level: float) -> str:
        """By the interval that misses the true value with probability `level`."""
        low, high = self.ours.at(level)
        if self.ours.n < self.needed or math.isnan(low):
            return "not enough runs"
        if self.least <= low and high <= self.most:
            return "reproduced"
        if high < self.least or low > self.most:
            return "not reproduced"
        return "inconclusive"


def halves(rule: str) -> tuple[str, str]:
    """A rule as claims.csv holds it, as what is asked for and the reason for it."""
    asked, _, because = rule.partition(" (")
    return asked, because.removesuffix(")")


def bounds(rule: str) -> tuple[float, float]:
    """Least and most of a rule as claims.csv holds it; infinite where it does not ask. Raises ValueError for others."""
    asked = re.match(r"interval (?:within (\S+) to (\S+)|>= (\S+)|<= (\S+)), ", rule)
    if asked is None:
        raise ValueError(f"{rule}: no rule of a claim")
    low, high, least, most = asked.groups()
    return float(low or least or -math.inf), float(high or most or math.inf)


def number(row: Any) -> str:
    """Our value of one row of claims.csv, with its interval."""
    if row.n == 0:
        return "none"
    return f"{row.ours:.4g}" + (f" [{row.low:.4g}, {row.high:.4g}]" if row.low == row.low else "")
