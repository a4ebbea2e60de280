"""From tables to figure.csv, claims.csv and the pictures, and what is said beside them."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bnrepro.core import files, paths, records
from bnrepro.draw import edges, experiment, looks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def plan_of_looks(name: str, scale: str, seeds: Iterable[int] = ()) -> list[int] | None:
    """After how many seeds the claims are judged: the YAML's `looks`, or the default.

    None at scale quick, as long as none of the seeds counts: its few are judged once.
    """
    if scale == "quick" and max(seeds, default=0) < looks.FIRST_SEED:
        return None
    return list(experiment.about(name).get("looks", looks.DEFAULT))


def draw(name: str, directory: Path) -> pd.DataFrame:
    """From the tables in `directory` to figure.csv, claims.csv, figure.svg and figure.png there; returns the claims.

    All four are replaced together, or none. Raises RecordError for tables that cannot be read, ExperimentError for an
    experiment that cannot draw or claim.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from bnrepro.core import style
    from bnrepro.draw import verdicts

    module, tables = experiment.load(name), records.load(directory)
    style.learn((records.read_json(directory / "protocol.json") or {}).get("looks", {}))
    with experiment.blamed(paths.home(name).script(name)), files.together(directory) as made, style.context():
        records.write_frame(_shown(module, tables), made / "figure.csv", "figure")
        data = records.read(made / "figure.csv", "figure")  # what is drawn is what the file says
        judged = verdicts.frame(module.claims, tables, plan_of_looks(name, tables.scale, tables.runs["seed"]))
        records.write_frame(judged, made / "claims.csv", "claims")
        figure = Figure(figsize=(style.WIDTH, 3.2))
        FigureCanvasAgg(figure)  # its text is measured as that of figure.png
        module.draw(data[data["panel"] != edges.PANEL], figure)
        said = [part for text in (setting(tables.runs), edges.line(data)) for part in textwrap.wrap(text, style.LINE)]
        lines = [experiment.about(name)["title"], *said]
        figure.suptitle("\n".join(lines), fontsize=8)
        _settle(figure)
        _save(figure, made)
    return judged


def _shown(module: ModuleType, tables: records.Tables) -> pd.DataFrame:
    """figure.csv; its last rows are the choices behind it that lie at the edge of their grid."""
    import pandas as pd

    with edges.watched() as found:
        data = module.data(tables)
    return pd.concat([data, edges.rows(found.values())]) if found else data


def _save(figure: Figure, directory: Path) -> None:
    """By the printers themselves: savefig renders a figure once more, for what the layout has settled already."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasSVG(figure).print_svg(directory / "figure.svg", metadata={"Date": None})
    figure.set_dpi(mpl.rcParams["savefig.dpi"])
    FigureCanvasAgg(figure).print_png(directory / "figure.png", metadata={"Software": None})


def notes(name: str, directory: Path) -> list[str]:
    """What there is to say beside the claims: the experiment's optional function `notes`, and remarks on its runs."""
    module = experiment.load(name)
    with experiment.blamed(paths.home(name).script(name)):
        said = module.notes(records.load(directory)) if hasattr(module, "notes") else []
    figure = directory / "figure.csv"
    at_edge = edges.line(records.read(figure, "figure")) if figure.exists() else ""
    remarks = (records.read_json(directory / "protocol.json") or {}).get("notes", {})
    said = [*said, *([f"{at_edge}; widen the grid"] if at_edge else [])]
    return [*said, *(f"{run}: {remark}" for run, held in remarks.items() for remark in held)]


def show(name: str, judged: pd.DataFrame) -> str:
    """The claims of one experiment, for the terminal."""
    from bnrepro.draw import claims

    lines = [f"{name}"]
    for row in judged.itertuples():
        lines.append(f"  {row.verdict:15} {row.claim}: {row.statement}")
        lines.append(f"  {'':15} paper {row.paper}; ours {claims.number(row)}, n={row.n}")
    return "\n".join(lines)


def _settle(figure: Figure) -> None:
    """Lay out once and round: the solver's last digits change from process to process, and the SVG hashes them."""
    figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")  # and not again for each of the two files
    for axis in figure.axes:
        axis.set_position([round(part, 6) for part in axis.get_position().bounds])


def setting(every: pd.DataFrame) -> str:
    """What the reader of a figure must know of runs.csv: scale, data, runs that diverged, stalled or have no result."""
    runs, scale = every[every["status"].isin(records.RESULTS)], every["scale"].iloc[0]
    parts = [scale]
    for name, group in runs[runs["status"] != "diverged"].groupby("data"):
        images, epochs = group["train_images"].astype(float), group["epochs"].astype(float)
        steps = group["last_step"].astype(int)
        length = f"{_range(epochs)} epochs" if epochs.max() > 1 else f"{_range(steps)} steps"
        parts.append(f"{name}: {_range(images)} images, {'1 step' if length == '1 steps' else length}")
    counts = Counter(every["status"].where(every["status"].isin(records.RESULTS), "missing"))
    if lost := [f"{counts[word]} {word}" for word in (*records.RESULTS[1:], "missing") if counts[word]]:
        parts.append(f"of {len(every)} runs {', '.join(lost)}")
    note = (experiment.about(every["experiment"].iloc[0])["scales"].get(scale) or {}).get("note")
    return "; ".join([*parts, *([note] if note else [])])


def _range(values: pd.Series) -> str:
    ends = values.min(), values.max()
    low, high = (f"{value:,.0f}" if value == round(value) else f"{value:,.4g}" for value in ends)
    return low if low == high else f"{low} to {high}"
