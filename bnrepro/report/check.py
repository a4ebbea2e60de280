"""Whether what is committed in results/ still follows from its tables and its script: drawn again and compared."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from bnrepro.core import records
from bnrepro.draw import figures
from bnrepro.report import publish


def mismatches(name: str, home: Path) -> list[str]:
    """One line for each file of `home` that differs from what is drawn from the tables there.

    Tables of numbers are compared byte for byte, the SVG too, the PNG by its pixels. Another version of matplotlib than
    the one that drew the committed files draws other pictures: then they are left out, and a printed line says so.
    """
    with tempfile.TemporaryDirectory() as beside:
        again = Path(beside) / name
        try:
            publish.copy(home, again, publish.TABLES)
            figures.draw(name, again)
        except records.RecordError as error:
            return [str(error)]
        found = [_text(home / file, again / file) for file in ("figure.csv", "claims.csv")]
        drawn, here = _drawn_by(home / "figure.svg"), _drawn_by(again / "figure.svg")
        if drawn == here:
            found += [
                _text(home / "figure.svg", again / "figure.svg"),
                _pixels(home / "figure.png", again / "figure.png"),
            ]
        elif drawn:
            print(f"{home}: drawn by {drawn}, here is {here}; pictures are not compared")
        else:
            found.append(f"{home / 'figure.svg'}: not there, or not drawn by matplotlib")
    return [line for line in found if line]


def _text(held: Path, made: Path) -> str | None:
    """The first line that differs, in words."""
    if not held.exists():
        return f"{held}: not there"
    old, new = held.read_bytes().split(b"\n"), made.read_bytes().split(b"\n")
    if old == new:
        return None
    number = next(i for i in range(max(len(old), len(new))) if old[i : i + 1] != new[i : i + 1])
    has, should = (lines[number].decode(errors="replace") if number < len(lines) else "nothing" for lines in (old, new))
    start = max(0, len(os.path.commonprefix([has, should])) - 20)
    return f"{held}, line {number + 1}: has {_part(has, start)}, its tables give {_part(should, start)}"


def _pixels(held: Path, made: Path) -> str | None:
    """PNG files are packed differently by other versions of the packer, so their pixels are compared."""
    from matplotlib.image import imread

    if not held.exists():
        return f"{held}: not there"
    try:
        old, new = imread(held), imread(made)
    except (OSError, SyntaxError) as error:
        return f"{held}: {error}"
    if old.shape == new.shape and (old == new).all():
        return None
    return f"{held}: its pixels are not those that its tables give"


def _drawn_by(svg: Path) -> str | None:
    """The version of matplotlib, which it writes into the file."""
    found = re.search(r"Matplotlib v[\w.+]+", svg.read_text(errors="replace")) if svg.exists() else None
    return found[0] if found else None


def _part(line: str, start: int, length: int = 60) -> str:
    """As much of a line as shows the difference."""
    return "..." * (start > 0) + line[start : start + length] + "..." * (len(line) > start + length)
