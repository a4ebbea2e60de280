"""What figures after Santurkar et al. make of tables: shift of histograms, areas under losses, one claim a number."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bnrepro.core import paths, records
from bnrepro.draw import experiment


def atoms(norm: str, means: list[float], deviation: float) -> pd.DataFrame:
    """A unit whose histogram lies at one mean after another, 50 steps apart, and one that stands still."""
    rows = [
        (norm, 100, 3, step, f"input_atom@0:{atom}", mean + deviation * (-1) ** atom)
        for step, mean in zip((50, 100, 150), means, strict=True)
        for atom in range(16)
    ]
    rows += [(norm, 100, 3, step, f"input_atom@1:{atom}", 2.0) for step in (50, 100) for atom in range(16)]
    return pd.DataFrame(rows, columns=["model.norm", "seed", "depth", "step", "statistic", "value"])


def test_the_shift_of_a_unit_is_how_far_its_histogram_moves_in_deviations():
    lp_norms = experiment.load("lp_norms")
    tables = SimpleNamespace(layers=pd.concat([atoms("none", [0, 1, 3], 2.0), atoms("l1", [0, 1, 3], 0.5)]))
    shift = lp_norms._shift(tables)
    found = shift.set_index("norm")["value"]
    assert found["none"] == pytest.approx(np.sqrt(1 * 2) / 2) and found["l1"] == pytest.approx(np.sqrt(1 * 2) / 0.5)
    assert lp_norms._over(shift, "l1", "none").value == pytest.approx(4)


def test_losses_are_compared_by_the_area_under_their_logarithm_and_not_by_the_last_one():
    """Equal at both ends, but one arm comes down a thousand steps later."""
    lp_norms = experiment.load("lp_norms")
    losses = {"none": [100.0, 100, 100, 1], "l1": [100.0, 1, 1, 1]}
    rows = [
        ("loss", "linear net", norm, 100, step, value)
        for norm, values in losses.items()
        for step, value in zip((1, 1001, 2001, 3001), values, strict=True)
    ]
    measured = pd.DataFrame(rows, columns=["quantity", "net", "norm", "seed", "step", "value"])
    assert lp_norms._over(lp_norms._final(measured), "none", "l1").value == pytest.approx(1)
    assert lp_norms._area_ratio(measured, ["none"], "l1").value == pytest.approx(100 ** (2 / 3))


@pytest.mark.parametrize(("name", "most"), [("ics", 10), ("landscape", 7), ("lp_norms", 21)])
def test_claims_have_names_of_their_own_ask_for_eight_seeds(name, most):
    """Whatever is published: a number is claimed once, and the plan of looks is that of the rule."""
    tables, claims = records.load(paths.RESULTS / name), experiment.load(name).claims
    found = claims(tables)
    assert len({claim.claim for claim in found}) == len({claim.statement for claim in found}) == len(found) == most
    assert all(claim.needed == 8 for claim in found) and experiment.about(name)["looks"] == [8, 16]
    none = SimpleNamespace(**{name: table[:0] for name, table in vars(tables).items()})
    assert [claim.claim for claim in claims(none)] == [claim.claim for claim in found]  # before the first look
