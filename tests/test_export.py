"""A figure once more: as PDF, in a style, and into a figure of the user's."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

import bnrepro
from bnrepro.core import checks, paths, records
from bnrepro.draw import export

NAME = "mean_field"


@pytest.fixture
def home(tmp_path, published):
    return published(NAME, tmp_path / NAME)


def test_a_pdf_lies_beside_the_others_and_leaves_them_as_they_were(home):
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    assert export.save(NAME, home, "pdf") == home / "figure.pdf"
    assert (home / "figure.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.name != "figure.pdf"} == before


def test_a_style_changes_it_and_one_that_is_not_there_is_named(home):
    plain = export.save(NAME, home, "pdf").read_bytes()
    style = home / "mine.mplstyle"
    style.write_text("axes.facecolor: yellow\n")
    assert export.save(NAME, home, "pdf", str(style)).read_bytes() != plain
    with pytest.raises(checks.ConfigError, match="--style=gone.mplstyle: must be a style"):
        export.save(NAME, home, "pdf", "gone.mplstyle")
    with pytest.raises(checks.ConfigError, match="--format=gif: must be one of pdf, eps"):
        export.save(NAME, home, "gif")


def test_a_published_figure_is_drawn_into_ones_own_and_leaves_rcparams_alone():
    mpl.use("agg")
    before = mpl.rcParams.copy()
    whole = Figure(figsize=(8, 6), layout="constrained")
    upper, lower = whole.subfigures(2, 1)
    assert bnrepro.figure(NAME, into=upper) is upper
    assert upper.axes and not lower.axes and mpl.rcParams == before
    assert len(bnrepro.figure(NAME).axes) == len(upper.axes)


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(records.RecordError, match="no such experiment"):
        bnrepro.figure("lr_swep")
    with pytest.raises(records.RecordError, match="figure.csv: not there"):
        bnrepro.figure(paths.experiments()[0], directory=tmp_path)
