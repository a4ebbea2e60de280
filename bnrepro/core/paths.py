"""Where things lie. One module joins paths, so that no other has to know."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
EXPERIMENTS = ROOT / "experiments"
RESULTS = ROOT / "results"
DEVIATIONS = ROOT / "DEVIATIONS.md"


def choices(group: str) -> list[str]:
    """The names that can be typed for a configuration group, e.g. choices("model"): the files of conf/GROUP."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def experiments() -> list[str]:
    """Every experiment: a name with both files, conf/experiment/NAME.yaml and experiments/NAME.py."""
    return [name for name in choices("experiment") if (EXPERIMENTS / f"{name}.py").exists()]
