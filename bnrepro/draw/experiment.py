"""The two files of an experiment: conf/experiment/NAME.yaml, read as values, and experiments/NAME.py, which draws."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from bnrepro.core import experiment_file, paths, records
from bnrepro.draw.claims import ClaimError

PARTS = ("data", "draw", "claims")


class ExperimentError(records.RecordError):
    """experiments/NAME.py cannot be used: the message names its file, the line and what happened there."""


def load(name: str) -> ModuleType:
    """experiments/NAME.py, found by its name alone, the user's before the packaged one.

    Raises ExperimentError if it fails or lacks one of PARTS.
    """
    path = paths.home(name).script(name)
    spec = importlib.util.spec_from_file_location(f"bnrepro_experiment_{name}", path)
    if spec is None or spec.loader is None:
        raise ExperimentError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    with blamed(path):
        spec.loader.exec_module(module)
    if missing := [part for part in PARTS if not callable(getattr(module, part, None))]:
        raise ExperimentError(f"{path}: no function {', '.join(missing)}; it must have {', '.join(PARTS)}")
    return module


def rehearse(name: str) -> None:
    """Load experiments/NAME.py and ask for its claims without any run, so that a mistake costs no hours of training.

    Raises ExperimentError for a file that cannot be loaded, a name that is nowhere defined, or claims that cannot be
    judged. Whatever else is raised there may be for want of runs.
    """
    import pandas as pd

    from bnrepro.draw import verdicts

    if name not in paths.experiments():  # the plan says so, with the names that are nearest
        return
    module, runs = load(name), pd.DataFrame(_planned(about(name)))
    runs = runs.assign(run=[f"run {number}" for number in runs.index], experiment=name, scale="quick", status="pending")
    runs = runs.reindex(columns=[*records.COLUMNS["runs"], *(set(runs) - set(records.COLUMNS["runs"]))])
    settings = runs[["run", "seed", "status", *records.varied(runs)]]
    none = [pd.DataFrame(columns=records.COLUMNS[table]).merge(settings, on="run") for table in ("metrics", "layers")]
    none = [table.astype({"value": float, "step": float}) for table in none]
    empty = records.Tables(runs, *none)
    with blamed(paths.home(name).script(name)):
        try:
            verdicts.check(module.claims(empty))
        except (NameError, ImportError, ClaimError):
            raise
        except Exception:
            return


def _planned(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of the runs that the quick scale's `vary` asks for, with one seed."""
    vary = (facts["scales"].get("quick") or {}).get("vary", facts.get("vary")) or {}
    rows = []
    for grid in vary if isinstance(vary, list) else [vary]:
        lists = [value if isinstance(value, list) else [value] for value in grid.values()]
        rows += [dict(zip(grid, point, strict=True)) | {"seed": 0} for point in itertools.product(*lists)]
    return rows


def about(name: str, folder: paths.Folder | None = None) -> dict[str, Any]:
    """conf/experiment/NAME.yaml as plain values: title, source, shows, cost, scales; of `folder`, else of its home."""
    return experiment_file.read((folder or paths.home(name)).config_file(name))


@contextlib.contextmanager
def blamed(path: Path) -> Iterator[None]:
    """Whatever is raised inside comes out as an ExperimentError of one line, so that other experiments go on."""
    try:
        yield
    except records.RecordError:
        raise
    except SyntaxError as error:
        raise ExperimentError(f"{error.filename or path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{path}, line {lines[-1]}" if lines else str(path)
        text = " ".join(str(error).split())
        raise ExperimentError(f"{place}: {type(error).__name__}: {text}") from error
