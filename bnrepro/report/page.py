"""All verdicts on one HTML page that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro.core import files, identity, paths, records, schema
from bnrepro.draw import claims, errors, experiment, figures
from bnrepro.gradients import view
from bnrepro.report import deviations, publish

if TYPE_CHECKING:
    import pandas as pd

MARKS = dict(zip(claims.VERDICTS, "✓✗≈…◌", strict=True))  # a verdict is never told by its colour alone

# What reviewers of a reproduction ask for, what we answer, and the section of each experiment (or #one of the page).
CHECKLIST = (
    ("Claims tested", "Each is a sentence with its source and the evidence for the paper's value.", "claims"),
    ("Criterion fixed beforehand", "Rule and reason stand in experiments/NAME.py before the runs start.", "claims"),
    ("n", "How many seeds stand behind each value.", "claims"),
    ("Seeds", "Which they are; one seed gives all arms the same weights, batches and order.", "runs"),
    (
        "Variation, and of what",
        "Intervals over seeds, at the level of the plan of looks; each figure says what its bands and bars are.",
        "figure",
    ),
    ("All hyperparameters, and how they were chosen", "Every field of a run, not only those we set.", "protocol"),
    ("A model that can be checked", "Its settings and its number of parameters.", "model"),
    ("Data, and what was left out", "Checksum, and the images used for training, choosing and testing.", "data"),
    ("Dependencies", "The versions that the runs recorded.", "versions"),
    ("One command for a figure", "One to run it again, one to draw it again.", "commands"),
    ("Compute", "Hardware, and the time of the runs.", "runs"),
    ("Original beside reproduced values", "In one row, with the verdict.", "claims"),
    ("Negative results", "Every claim that was not reproduced or is open, in one list.", "#open"),
    ("What was easy, and what was hard", "In two sentences.", "effort"),
    ("Raw records", "The tables that figure and verdicts are made of, with checksums.", "records"),
    ("Tests", "What is tested, and how to run the tests.", "#tests"),
)


@dataclass(frozen=True)
class Setting:
    """One hyperparameter: its name, its value or values in words, and its help."""

    name: str
    value: str
    help: str


def write(places: dict[str, Path], target: Path, committed: bool) -> None:
    """The page of experiments that are drawn: {name: directory}; `committed`: they are copies of results/."""
    import jinja2
    import pandas as pd

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["prose"] = prose
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text())
    experiments = [_experiment(name, home, committed) for name, home in places.items()]
    judged = pd.concat([records.read(home / "claims.csv", "claims") for home in places.values()])
    text = template.render(
        experiments=experiments, checklist=CHECKLIST, verdicts=MARKS, general=deviations.general(), committed=committed,
        together=errors.lines(judged),
    )  # fmt: skip
    files.write_text(text, target)


def redrawn(name: str, home: Path, target: Path) -> Path:
    """A copy of committed tables below `target`, with figure and verdicts drawn from them alone."""
    publish.copy(home, target / name, publish.TABLES)
    figures.draw(name, target / name)
    return target / name


def _experiment(name: str, home: Path, committed: bool) -> dict:
    """All that the template shows of one experiment."""
    facts, runs = experiment.about(name), records.read(home / "runs.csv", "runs")
    scale, protocol = runs["scale"].iloc[0], records.read_json(home / "protocol.json")
    judged = _claims(home, runs["seed"].nunique())
    return {
        "name": name, "scale": scale, "setting": figures.setting(runs), "protocol": protocol,
        "title": facts["title"], "source": facts["source"], "shows": facts["shows"],
        **{part: facts.get(part, "Not recorded.") for part in ("chosen", "easy", "hard")},
        "figure": base64.b64encode((home / "figure.svg").read_bytes()).decode(), "alt": _alt(facts["title"], home),
        "notes": figures.notes(name, home), "gradients": _gradients(home),
        "claims": judged, "counts": Counter(row["verdict"] for row in judged),
        "reference": None if committed else _reference(name, judged),
        "settings": _settings(protocol) if protocol else None, "deviations": deviations.of(name),
        "runs": _runs(runs), "models": _models(runs), "files": _files(home),
        "redraw": f"bnrepro draw {'--committed ' * committed}{name}{'' if committed else f' scale={scale}'}",
    }  # fmt: skip


def _gradients(home: Path) -> dict | None:
    """Heat map, curves and words for one run of each arm, where gradients of layers are recorded."""
    looks = view.of_arms(home)
    if not looks:
        return None
    from bnrepro.gradients import heatmap

    svg = io.StringIO()
    heatmap.save(looks, svg, file_format="svg")
    words = [f"{one.name}: {finding.text}" for one in looks for finding in one.findings]
    return {"figure": base64.b64encode(svg.getvalue().encode()).decode(), "words": words}


def _claims(home: Path, seeds: int) -> list[dict]:
    rows = []
    for row in records.read(home / "claims.csv", "claims").itertuples():
        asked, because = claims.halves(row.rule)
        n = f"{row.n} of {seeds}" if row.n < seeds else str(row.n)
        rows.append(row._asdict() | {"ours": claims.number(row), "asked": asked, "because": because, "n": n})
    return rows


def _reference(name: str, judged: list[dict]) -> dict | None:
    """The committed numbers for the same claims, where there are any: {claim: row}, and their scale."""
    home = paths.home(name).results / name
    if not (home / "claims.csv").exists():
        return None
    runs = records.read(home / "runs.csv", "runs")
    rows = {row["claim"]: row for row in _claims(home, runs["seed"].nunique())}
    return {
        "scale": runs["scale"].iloc[0],
        "rows": [(row, rows[row["claim"]]) for row in judged if row["claim"] in rows],
    }


def _alt(title: str, home: Path) -> str:
    data = records.read(home / "figure.csv", "figure")
    panels, series = (", ".join(dict.fromkeys(data[column])) for column in ("panel", "series"))
    return f"{title}. Panels: {panels}. Series: {series}. The plotted numbers are in figure.csv."


def _settings(protocol: dict) -> dict[str, list[Setting]]:
    """Every hyperparameter: varied between the runs, set for all of them, or left at its default."""
    everywhere = {name: [[value, None]] for name, value in protocol["fixed"].items()}
    kinds = {part: [kind for kind, _ in (everywhere | protocol["varied"])[f"{part}.kind"]] for part in schema.KINDS}
    found = {"varied": [], "set": [], "default": []}
    for name, values in (protocol["varied"] | everywhere).items():
        specs = schema.specs(name, kinds)
        group = "varied" if name in protocol["varied"] else "set"
        if group == "set" and not name.endswith(".kind") and values[0][0] in [identity.default(spec) for spec in specs]:
            group = "default"
        help = "; ".join(dict.fromkeys(spec.metadata["help"] for spec in specs))
        found[group].append(Setting(name, _values(values), help))
    return found


def _values(counted: list[list]) -> str:
    """ "none, batch (30 runs each)" of [["none", 30], ["batch", 30]]; a count of None is not said."""
    counts = {count for _, count in counted}
    if len(counts) > 1:
        return ", ".join(f"{word(value)} ({count} runs)" for value, count in counted)
    (count,) = counts
    each = " each" if len(counted) > 1 else ""
    return ", ".join(word(value) for value, _ in counted) + (f" ({count} runs{each})" if count else "")


def word(value: object) -> str:
    """A setting as a reader writes it."""
    if isinstance(value, list):
        return ", ".join(map(word, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _runs(runs: pd.DataFrame) -> dict:
    """Counts by status, seeds, and the time of the runs that have a result."""
    seconds = runs[runs["status"].isin(records.RESULTS)]["seconds"].astype(float)
    times = {"all runs together": seconds.sum(), "median": seconds.median(), "longest": seconds.max()}
    counts = runs["status"].value_counts()
    return {
        "total": len(runs), "statuses": [(status, int(counts.get(status, 0))) for status in records.STATUSES],
        "seeds": ", ".join(map(str, sorted(runs["seed"].unique()))),
        "precision": ", ".join(runs["precision"].unique()),
        "time": [(name, _time(value)) for name, value in times.items()],
    }  # fmt: skip


def _models(runs: pd.DataFrame) -> list[tuple[str, str, int]]:
    """(what varies of the model, parameters, runs) of each model."""
    parts = [column for column in records.varied(runs) if column.startswith("model.")]
    found = runs.dropna(subset="parameters").groupby([*parts, "parameters"], sort=False, dropna=False).size()
    names = [part.removeprefix("model.") for part in parts]
    rows = []
    for key, count in found.items():
        *values, parameters = key if isinstance(key, tuple) else (key,)
        said = [
            f"{name} {word(value)}" for name, value in zip(names, values, strict=True) if value == value and value != ""
        ]
        rows.append((", ".join(said) or "all runs", f"{int(parameters):,}", count))
    return rows


def _files(home: Path) -> list[tuple[str, str, str]]:
    """(name, bytes, start of the SHA-256) of the files that figure and verdicts are made of."""
    found = [path for file in publish.TABLES if (path := records.stored(home / file)).exists()]
    contents = [(path.name, path.read_bytes()) for path in found]
    return [(name, f"{len(content):,}", hashlib.sha256(content).hexdigest()[:16]) for name, content in contents]


def _time(seconds: float) -> str:
    if seconds != seconds:
        return "none"
    return (
        f"{seconds:.3g} s"
        if seconds < 120
        else f"{seconds / 60:.3g} min"
        if seconds < 7200
        else f"{seconds / 3600:.3g} h"
    )


def prose(text: str):
    """Escaped, with `code` between backticks and *stress* between stars."""
    from markupsafe import Markup, escape

    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(re.sub(r"(?<!\w)\*(\w[^*<]*)\*(?!\w)", r"<em>\1</em>", marked))
