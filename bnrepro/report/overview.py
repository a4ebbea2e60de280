"""The experiments and their runs: where they lie, and the lines of `bnrepro list` and `bnrepro status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bnrepro.core import checks, paths, records, run_dir
from bnrepro.draw import experiment


def home(name: str, base: Path | None) -> Path:
    """The directory of an experiment below OUT/SCALE, or, without any, among what is published.

    Raises ConfigError for a name that no experiment has.
    """
    if name not in paths.experiments():
        raise checks.ConfigError("experiment", name, checks.one_of(name, paths.experiments()))
    return base / name if base else paths.home(name).results / name


def places(names: list[str], base: Path | None) -> dict[str, Path]:
    """{name: directory} of these experiments, or of all that have runs. Raises RecordError where none has."""
    found = {name: home(name, base) for name in names or paths.experiments()}
    if not names:
        found = {name: place for name, place in found.items() if {"plan.json", "runs.csv"} & _files(place)}
    if not found:
        raise records.RecordError(f"{base or paths.RESULTS}: no runs; start them: bnrepro reproduce")
    return found


def _files(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def experiment_line(name: str, place: Path, scale: str) -> str:
    """Name, state of the runs in `place`, their cost at this scale, source, and whose it is."""
    try:
        facts = experiment.about(name)
    except records.RecordError as error:
        return f"{name:18} broken: {error}"
    cost = (facts["scales"].get(scale) or {}).get("cost", "")
    return f"{name:18} {_state(place):22} {cost:28} {facts['source'].split(';')[0]}{paths.whose(name)}"


def _state(place: Path) -> str:
    plan = records.read_json(place / "plan.json")
    if plan is None:
        return "no runs"
    notes = [run_dir.note(place / "runs" / run_name) for run_name in plan["runs"]]
    counts = Counter(note.get("status", "pending") for note in notes)
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def run_lines(name: str, place: Path) -> Iterator[str]:
    """Status, step, time and directory of every run of the last plan."""
    plan = records.read_json(place / "plan.json")
    if plan is None:
        yield f"{name}: no runs in {place}"
        return
    for run_name in plan["runs"]:
        directory = place / "runs" / run_name
        note, state = run_dir.note(directory), run_dir.status(directory)
        yield f"{state:12} step {note.get('step', 0):>7} {note.get('seconds', 0):8.1f} s  {directory}"
