"""Copy the tables and figures of one experiment from where users run to results/, which is committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from bnrepro import paths, records, report

FILES = ("runs.csv", "metrics.csv", "layers.csv", "figure.csv", "claims.csv", "figure.svg", "figure.png")
BEGIN, END = "<!-- gallery: written by bnrepro publish -->", "<!-- end of gallery -->"
LIMIT = 2_000_000  # bytes of one file


def publish(name: str, home: Path) -> None:
    """Copy, if every run has a result and ran on committed code. Raises RecordError saying what is in the way."""
    runs = records.read(home / "runs.csv", "runs")
    missing = runs[~runs["status"].isin(records.RESULTS)]
    if len(missing):
        raise records.RecordError(
            f"{home}: {len(missing)} of {len(runs)} runs have no result, e.g. {missing['run'].iloc[0]}"
        )
    unclean = runs[runs["dirty"].astype(str) != "False"]
    if len(unclean):
        raise records.RecordError(f"{home}: {len(unclean)} runs ran on uncommitted code, e.g. {unclean['run'].iloc[0]}")
    for file in FILES:
        if (size := (home / file).stat().st_size) > LIMIT:
            raise records.RecordError(
                f"{home / file}: {size} bytes; record fewer steps (probes.steps), the limit is {LIMIT}"
            )
    target = paths.RESULTS / name
    target.mkdir(parents=True, exist_ok=True)
    for file in FILES:
        shutil.copyfile(home / file, target / file)


def write_gallery() -> None:
    """Rewrite the README between its two marks: picture and verdicts of everything in results/."""
    readme = paths.ROOT / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = []
    for name in paths.experiments():
        if (paths.RESULTS / name / "claims.csv").exists():
            facts, judged = report.about(name), records.read(paths.RESULTS / name / "claims.csv", "claims")
            scale = records.read(paths.RESULTS / name / "runs.csv", "runs")["scale"].iloc[0]
            parts.append(
                f"### {facts['title']}\n\n{facts['shows'].strip()} Source: {facts['source']}. Scale: {scale}.\n"
            )
            parts.append(f"![{facts['title']}](results/{name}/figure.png)\n\n{report.markdown(judged)}")
    records.write_text("\n".join([before + BEGIN + "\n", *parts, END]) + after, readme)
