"""Drawing of many experiments, one after the other, with what the terminal shows of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from bnrepro.core import records
from bnrepro.draw import collect, figures


def each(places: dict[str, Path], make: Callable[[str, Path], Path]) -> dict[str, Path]:
    """{name: what `make` gives} of those experiments that it works for; of any other it is printed why."""
    made = {}
    for name, home in places.items():
        try:
            made[name] = make(name, home)
        except records.RecordError as error:
            print(error, file=sys.stderr)
    return made


def from_runs(name: str, home: Path) -> Path:
    """Draw from the runs, or from tables that somebody copied there, and print the claims."""
    if (home / "plan.json").exists():
        collect.tables(home)
    return from_tables(name, home)


def from_tables(name: str, home: Path) -> Path:
    """Draw from the tables alone, and print the claims."""
    if not (home / "runs.csv").exists():
        raise records.RecordError(f"{home}: no runs of {name}; start them: bnrepro run experiment={name}")
    print(figures.show(name, figures.draw(name, home)))
    print("".join(f"  {note}\n" for note in figures.notes(name, home)), end="")
    print(f"  figure: {home / 'figure.png'}\n")
    return home
