"""What is committed in results/: copied only when it is whole and clean, and compared with what its tables give."""

from __future__ import annotations

import json
import re
import shutil

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from bnrepro import cli
from bnrepro.core import paths, records
from bnrepro.draw import experiment, figures
from bnrepro.report import check, gallery, publish

NAME = "mean_field"
README = f"before\n{gallery.BEGIN}\nold\n{gallery.END}\nafter\n"


@pytest.fixture
def checkout(tmp_path, monkeypatch, published):
    """A checkout with one published experiment, a README, and nothing run yet; commands run in it."""
    published(NAME, tmp_path / "results" / NAME)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "README.md").write_text(README)
    gallery.write()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_here(checkout):
    """outputs/laptop/NAME as `draw` leaves it, and nothing published."""
    home = checkout / "outputs" / "laptop" / NAME
    home.parent.mkdir(parents=True)
    (checkout / "results" / NAME).rename(home)
    return home


def command(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(words))
    return left.value.code, *capsys.readouterr()


def change(path, row: int, column: str, value: str) -> None:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert table.loc[row, column] != value
    table.loc[row, column] = value
    table.to_csv(path, index=False, lineterminator="\n")


# bnrepro check


def test_what_is_published_follows_from_its_tables(checkout, capsys):
    assert command(capsys, "check") == (0, f"1 figures in {checkout / 'results'} follow from their tables\n", "")


def test_each_file_that_was_altered_is_one_line_and_the_exit_code_is_1(checkout, capsys):
    home = checkout / "results" / NAME
    change(home / "figure.csv", 3, "y", "1.5")
    change(home / "claims.csv", 2, "verdict", "inconclusive")
    svg = (home / "figure.svg").read_text()
    (home / "figure.svg").write_text(svg.replace("#e69f00", "#e69f01", 1))
    pixels = matplotlib.image.imread(home / "figure.png")
    pixels[100, 100] = 0.5
    matplotlib.image.imsave(home / "figure.png", pixels)
    for readme in (checkout / "README.md", checkout / "results" / "README.md"):
        readme.write_text(readme.read_text().replace("| 8 |", "| 9 |", 1))

    code, out, err = command(capsys, "check")
    assert (code, err, out.count("\n")) == (1, "", 7)
    table, claims, vector, picture, summary, whole, light = out.splitlines()
    assert table.startswith(f"{home / 'figure.csv'}, line 5: has ") and "1.5" in table
    assert claims.startswith(f"{home / 'claims.csv'}, line 4: has ")
    assert "inconclusive" in claims.split("its tables give")[0] and "reproduced" in claims.split("its tables give")[1]
    assert vector.startswith(f"{home / 'figure.svg'}, line ") and "#e69f01" in vector and "#e69f00" in vector
    assert picture == f"{home / 'figure.png'}: its pixels are not those that its tables give"
    assert summary.startswith("README.md: ") and whole.startswith("results/README.md: ")
    assert light.startswith("results/index.html: ")


def test_one_altered_measurement_is_found_in_all_that_is_made_of_it(checkout, capsys):
    home = checkout / "results" / NAME
    layers = pd.read_csv(home / "layers.csv", dtype=str)
    claimed = layers["run"].str.startswith("activation=relu_batch_size=256_")
    row = layers.index[claimed & (layers["depth"] == "7")][0]
    change(home / "layers.csv", row, "value", str(1.1 * float(layers.loc[row, "value"])))
    code, out, _ = command(capsys, "check", NAME)
    assert code == 1
    assert [line.split(",")[0].split(":")[0].rsplit("/", 1)[1] for line in out.splitlines()] == [
        "figure.csv", "claims.csv", "figure.svg", "figure.png",
    ]  # fmt: skip


def test_a_repacked_picture_with_the_same_pixels_is_the_same(checkout):
    home = checkout / "results" / NAME
    before = (home / "figure.png").read_bytes()
    matplotlib.image.imsave(home / "figure.png", matplotlib.image.imread(home / "figure.png"))
    assert (home / "figure.png").read_bytes() != before
    assert check.mismatches(NAME, home) == []


def test_pictures_of_another_version_are_not_compared_and_numbers_are(checkout, capsys):
    home = checkout / "results" / NAME
    svg = (home / "figure.svg").read_text()
    (home / "figure.svg").write_text(re.sub(r"Matplotlib v[\d.]+", "Matplotlib v1.2.3", svg))
    (home / "figure.png").write_bytes(b"other")
    assert check.mismatches(NAME, home) == []
    said = capsys.readouterr().out
    assert "Matplotlib v1.2.3" in said and "pictures are not compared" in said and said.count("\n") == 1
    change(home / "figure.csv", 0, "n", "4")
    assert len(check.mismatches(NAME, home)) == 1


@pytest.mark.parametrize("file", [*publish.TABLES, *publish.DRAWN])
def test_a_file_that_is_missing_is_named(checkout, file, monkeypatch):
    home = checkout / "results" / NAME
    shutil.copytree(home, checkout / "whole")
    monkeypatch.setattr(figures, "draw", lambda _, to: publish.copy(checkout / "whole", to, publish.DRAWN))
    (home / file).unlink()
    assert any(line.startswith(f"{home / file}: not there") for line in check.mismatches(NAME, home))


# bnrepro publish, and the README


def test_publish_copies_all_that_a_reader_needs_and_writes_the_gallery(run_here, checkout, capsys):
    code, out, err = command(capsys, "publish", NAME, "scale=laptop")
    assert (code, err) == (0, "") and str(checkout / "results" / NAME) in out
    copied = {path.name.removesuffix(".xz") for path in (checkout / "results" / NAME).iterdir()}
    assert copied == {*publish.TABLES, *publish.DRAWN}
    assert "runs" in publish.TABLES[0] and "protocol.json" in copied
    readme = (checkout / "README.md").read_text()
    assert readme.startswith("before\n") and readme.endswith("after\n") and "old" not in readme
    text = (checkout / "results" / "README.md").read_text()
    claims = records.read(run_here / "claims.csv", "claims")
    assert all(row.statement in text and f"**{row.verdict}**" in text for row in claims.itertuples())
    reproduced = (claims["verdict"] == "reproduced").sum()
    assert f"| laptop | {reproduced} | {len(claims) - reproduced} | 0 | 0 |" in text
    assert f"]({NAME}/figure.png)" in text and f"| all | {len(claims)} | {reproduced} |" in readme
    gallery.write()
    assert (checkout / "README.md").read_text() == readme


def test_the_readme_shows_the_headlines_and_links_them_to_their_experiments():
    text = gallery.summary()
    headlines = {name: experiment.about(name).get("headline") for name in paths.experiments()}
    headlines = {name: headline for name, headline in headlines.items() if headline}
    assert len(headlines) == 5
    for name, headline in headlines.items():
        judged = records.read(paths.RESULTS / name / "claims.csv", "claims").set_index("claim")
        assert judged.loc[headline, "statement"] in text
    links = re.findall(r"\]\(results/README.md#([^)]*)\)", text)
    assert len(links) == 5 and set(links) <= set(re.findall(r"\]\(#([^)]*)\)", gallery.whole()))


def test_links_of_the_gallery_lead_to_its_headings(checkout):
    text = gallery.whole()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert links == ["gradient-growth-per-layer-at-initialisation-with-batch-normalization"] and len(headings) == 1


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("status", "failed", "1 of 168 runs have no result"), ("dirty", "True", "1 runs ran on uncommitted code")],
)
def test_runs_that_failed_or_ran_on_changed_code_are_not_published(run_here, checkout, capsys, column, value, said):
    change(run_here / "runs.csv", 0, column, value)
    code, _, err = command(capsys, "publish", NAME, "scale=laptop")
    assert code == 2 and said in err and err.count("\n") == 1
    assert not (checkout / "results" / NAME).exists()


@pytest.mark.parametrize("file", ["protocol.json", "figure.svg"])
def test_a_file_that_is_not_there_yet_is_named_with_the_command_that_makes_it(run_here, capsys, file):
    (run_here / file).unlink()
    code, _, err = command(capsys, "publish", NAME, "scale=laptop")
    assert code == 2 and f"{file}: not there; make it: bnrepro draw {NAME}" in err


def test_a_table_too_large_for_a_repository_is_refused(run_here, checkout, capsys, monkeypatch):
    monkeypatch.setattr(publish, "LIMIT", 1000)
    code, _, err = command(capsys, "publish", NAME, "scale=laptop")
    assert code == 2 and "record fewer steps" in err and not (checkout / "results" / NAME).exists()


def test_a_large_table_is_published_compressed_and_read_as_before(run_here, checkout, capsys, monkeypatch):
    size = (run_here / "layers.csv").stat().st_size
    monkeypatch.setattr(publish, "LARGE", size - 1)
    before = records.load(run_here).layers
    assert command(capsys, "publish", NAME, "scale=laptop")[0] == 0
    home = checkout / "results" / NAME
    assert not (home / "layers.csv").exists() and (home / "layers.csv.xz").stat().st_size < size / 3
    pd.testing.assert_frame_equal(records.load(home).layers, before)
    assert command(capsys, "check")[0] == 0
    first = (home / "layers.csv.xz").read_bytes()
    assert command(capsys, "publish", NAME, "scale=laptop")[0] == 0
    assert (home / "layers.csv.xz").read_bytes() == first
    (home / "layers.csv.xz").write_bytes(first[:-50])
    with pytest.raises(records.RecordError, match=r"layers.csv.xz: "):
        records.load(home)


def test_redrawing_mends_figure_and_gallery(checkout, capsys):
    home, readme = checkout / "results" / NAME, checkout / "README.md"
    change(home / "figure.csv", 3, "y", "1.5")
    readme.write_text(README)
    assert command(capsys, "draw", "--committed")[0] == 0
    assert command(capsys, "check")[0] == 0 and "old" not in readme.read_text()


def test_nothing_published_names_a_path_or_a_dirty_run():
    """Places on a machine and its name say nothing about a result."""
    for path in paths.RESULTS.glob("*/*"):
        text = path.read_bytes()
        assert not re.search(rb"/(tmp|home|root|Users|work)/", text), path
    for path in paths.RESULTS.glob("*/protocol.json"):
        assert all(not facts["dirty"] for facts, _ in json.loads(path.read_text())["commits"])


def test_numbers_are_written_with_digits_that_processors_agree_on(tmp_path):
    table = pd.DataFrame([("p", "s", 1.0, 1 / 3, np.nan, 1e-300 / 3, 5)], columns=records.COLUMNS["figure"])
    records.write_frame(table, tmp_path / "figure.csv", "figure")
    assert (tmp_path / "figure.csv").read_text().splitlines()[1] == "p,s,1,0.3333333333,,3.333333333e-301,5"
