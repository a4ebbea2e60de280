"""Copy the tables and figures of one experiment from where users run to results/, which is committed."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from pathlib import Path

from bnrepro.core import checks, files, paths, records

TABLES = ("runs.csv", "metrics.csv", "layers.csv", "protocol.json")  # all that drawing and the page need
DRAWN = ("figure.csv", "claims.csv", "figure.svg", "figure.png")
FILES = TABLES + DRAWN
LIMIT = 2_000_000  # bytes of one file
LARGE = 500_000  # bytes of a table that is stored compressed: all figures together have to stay small


def publish(name: str, home: Path) -> None:
    """Copy, if every run has a result and ran on committed code. Raises RecordError saying what is in the way."""
    check_writable([name])
    runs = records.read(home / "runs.csv", "runs")
    missing = runs[~runs["status"].isin(records.RESULTS)]
    if len(missing):
        raise records.RecordError(
            f"{home}: {len(missing)} of {len(runs)} runs have no result, e.g. {missing['run'].iloc[0]}"
        )
    dirty = runs["dirty"].astype(str)  # unknown where bnrepro was installed from files of no checkout
    unclean = runs[dirty != "False" if paths.home(name) == paths.packaged() else dirty == "True"]
    if len(unclean):
        raise records.RecordError(f"{home}: {len(unclean)} runs ran on uncommitted code, e.g. {unclean['run'].iloc[0]}")
    for file in FILES:
        if not (home / file).exists():
            raise records.RecordError(f"{home / file}: not there; make it: bnrepro draw {name}")
        if (size := len(_packed((home / file).read_bytes(), file))) > LIMIT:
            raise records.RecordError(
                f"{home / file}: {size} bytes; record fewer steps (probes.steps), the limit is {LIMIT}"
            )
    copy(home, paths.home(name).results / name, FILES)


def check_writable(names: Iterable[str]) -> None:
    """Raise ConfigError for an experiment that was installed with the package, whose results are not to be replaced."""
    for name in names:
        if paths.INSTALLED and paths.home(name) == paths.packaged():
            expected = "its results came with the package; publish from a checkout, or an experiment of your own"
            raise checks.ConfigError("experiment", name, expected)


def copy(home: Path, target: Path, names: tuple[str, ...]) -> None:
    """Replace these files in `target`, all or none, large tables compressed. Raises RecordError for a missing one."""
    with files.together(target) as made:
        for name in names:
            source = records.stored(home / name)
            try:
                content = source.read_bytes()
            except FileNotFoundError:
                raise records.RecordError(f"{source}: not there") from None
            kept = _packed(content, source.name)
            (made / (source.name if kept is content else f"{name}.xz")).write_bytes(kept)
        new = {path.name for path in made.iterdir()}
    for name in names:  # a table is there once, compressed or not
        for stale in {name, f"{name}.xz"} - new:
            (target / stale).unlink(missing_ok=True)


def _packed(content: bytes, name: str) -> bytes:
    """A large table compressed, the same bytes whenever that is done; anything else as it is."""
    large = name.endswith(".csv") and len(content) > LARGE
    return lzma.compress(content, preset=9 | lzma.PRESET_EXTREME) if large else content
