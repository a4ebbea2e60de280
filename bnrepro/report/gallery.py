"""What is published: in Markdown in results/README.md, on the page results/index.html, and summed up in the README."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from bnrepro.core import files, paths, records
from bnrepro.draw import claims, errors, experiment
from bnrepro.report import index

if TYPE_CHECKING:
    import pandas as pd

BEGIN, END = "<!-- summary: written by bnrepro publish -->", "<!-- end of summary -->"
COLUMNS = ["claim", "paper", "ours [interval]", "n", "verdict"]


def write() -> None:
    """Rewrite results/README.md, results/index.html, and the README of the checkout between its two marks."""
    if paths.INSTALLED:
        return
    before, _, rest = _readme().read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    files.write_text(before + summary() + after, _readme())
    files.write_text(whole(), _whole())
    files.write_text(_page(), _index())


def outdated() -> list[str]:
    """Of the three documents, those that do not say what is in results/."""
    stale = []
    if summary() not in _readme().read_text():
        stale.append("README.md")
    if not _whole().exists() or _whole().read_text() != whole():
        stale.append("results/README.md")
    if not _index().exists() or _index().read_text() != _page():
        stale.append("results/index.html")
    return stale


def summary() -> str:
    """Counts of verdicts, and one claim of each experiment whose YAML names its `headline`."""
    import pandas as pd

    judged = _judged()
    counts = dict.fromkeys(claims.VERDICTS, 0)
    rows = []
    for name, held in judged.items():
        for verdict, count in held["verdict"].value_counts().items():
            counts[str(verdict)] += count
        headline = experiment.about(name, paths.packaged()).get("headline")
        for row in held[held["claim"] == headline].itertuples():
            link = f"[{row.statement}](results/README.md#{_anchor(_title(name))})"
            rows.append((link, row.paper, claims.number(row), row.n, f"**{row.verdict}**"))
    total = table(["", "claims", *claims.VERDICTS], [["all", sum(counts.values()), *counts.values()]])
    said = "\n".join(f"- {line}" for line in errors.lines(pd.concat(judged.values()))) + "\n" if judged else ""
    return "\n".join([BEGIN + "\n", total, said, table(COLUMNS, rows), END])


def whole() -> str:
    """A table of the verdicts, then picture and claims of each experiment in results/."""
    judged = _judged()
    rows = []
    for name, held in judged.items():
        counts = held["verdict"].value_counts()
        link = f"[{_title(name)}](#{_anchor(_title(name))})"
        rows.append([link, _scale(name), *(counts.get(verdict, 0) for verdict in claims.VERDICTS)])
    parts = [
        "# Published results\n",
        "Written by `bnrepro publish` from the tables beside it. [How to read a verdict](../README.md#read-a-verdict);",
        "`bnrepro report --committed` puts the same on one page, with every setting and what differs from a paper.\n",
        table(["experiment", "scale", *claims.VERDICTS], rows),
    ]
    for name, held in judged.items():
        about = experiment.about(name, paths.packaged())
        parts.append(f"## {about['title']}\n\n{about['shows']} Source: {about['source']}. Scale: {_scale(name)}.\n")
        parts.append(f"![{about['title']}]({name}/figure.png)\n\n{_claims(held)}")
    return "\n".join(parts)


def _claims(judged: pd.DataFrame) -> str:
    rows = [(row.statement, row.paper, claims.number(row), row.n, f"**{row.verdict}**") for row in judged.itertuples()]
    return table(COLUMNS, rows)


def _page() -> str:
    return index.text({name: paths.RESULTS / name for name in _judged()}, paths.RESULTS)


def _judged() -> dict[str, pd.DataFrame]:
    """{name: claims.csv} of each experiment in results/."""
    ours = paths.packaged()
    homes = {name: ours.results / name for name in sorted(ours.names())}
    return {
        name: records.read(home / "claims.csv", "claims")
        for name, home in homes.items()
        if (home / "claims.csv").exists()
    }


def _title(name: str) -> str:
    return experiment.about(name, paths.packaged())["title"]


def _scale(name: str) -> str:
    return records.read(paths.RESULTS / name / "runs.csv", "runs")["scale"].iloc[0]


def table(columns: list[str], rows: list) -> str:
    """In Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _anchor(title: str) -> str:
    """What a heading is linked by on the usual hosts: lower case, words joined by hyphens, no punctuation."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _readme() -> Path:
    return paths.ROOT / "README.md"


def _whole() -> Path:
    return paths.RESULTS / "README.md"


def _index() -> Path:
    return paths.RESULTS / "index.html"
