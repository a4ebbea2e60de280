"""Claims as tables for papers, documents and programs."""

from __future__ import annotations

import json
import math

import pytest

from bnrepro.core import paths, records
from bnrepro.report import cite

PLACES = {name: paths.RESULTS / name for name in ("ics", "overhead")}


def test_json_has_every_column_of_every_claim():
    rows = json.loads(cite.text(PLACES, "json"))
    tables = {name: records.read(home / "claims.csv", "claims") for name, home in PLACES.items()}
    assert len(rows) == sum(map(len, tables.values()))
    for row in rows:
        held = tables[row["experiment"]].set_index("claim").loc[row["claim"]]
        assert row["verdict"] == held["verdict"]
        assert row["low"] == held["low"] or (row["low"] is None and math.isnan(held["low"]))


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_a_table_has_a_line_for_each_claim(form):
    count = sum(len(records.read(home / "claims.csv", "claims")) for home in PLACES.values())
    lines = cite.text(PLACES, form).splitlines()
    assert sum(line.startswith(("| ics", "| overhead", "ics &", "overhead &")) for line in lines) == count


def test_what_latex_would_read_as_commands_is_escaped():
    assert cite.escaped(r"50 % & a_b \\x {y} #1 <2") == (
        r"50 \% \& a\_b \textbackslash{}\textbackslash{}x \{y\} \#1 \textless{}2"
    )
