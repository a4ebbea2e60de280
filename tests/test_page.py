"""The page: complete, self-contained, readable by a browser, and honest about what did not hold."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from bnrepro import cli
from bnrepro.core import paths, records
from bnrepro.draw import claims
from bnrepro.report import deviations, page

PUBLISHED = [name for name in paths.experiments() if (paths.RESULTS / name / "runs.csv").exists()]
NAME = "mean_field"

OFFLINE = """
import socket, sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "hydra")))
def refuse(*_): raise AssertionError("no network")
socket.socket.connect = refuse
from bnrepro import cli
cli.main(sys.argv[1:])
"""


class Page(HTMLParser):
    """What a test asks of a page: ids, links, images, and the text below each id."""

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.images, self.tags, self.words = [], [], [], Counter(), {"": ""}
        self.current = ""
        self.feed(text)

    def handle_starttag(self, tag, pairs):
        attributes = dict(pairs)
        self.tags[tag] += 1
        self.words[self.current] += "" if tag in ("span", "code", "em", "a", "strong") else " "
        if name := attributes.get("id"):
            self.ids.append(name)
            self.current = name
            self.words[name] = ""
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)

    def handle_data(self, data):
        self.words[self.current] += data

    def after(self, name: str) -> str:
        """The text from the element `name` to the next one that has an id."""
        return " ".join(self.words[name].split())


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    """The page of results/, made by the command, without torch, Hydra and network."""
    out = tmp_path_factory.mktemp("page")
    command = [sys.executable, "-c", OFFLINE, "report", "--committed", f"out={out}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return out / "committed" / "report.html"


@pytest.fixture(scope="module")
def parsed(committed) -> Page:
    return Page(committed.read_text())


@pytest.fixture
def home(tmp_path, published) -> Path:
    """outputs/quick/NAME as a user's own run would leave it, from which pages are made in this process."""
    home = tmp_path / "quick" / NAME
    published(NAME, home)
    runs = pd.read_csv(home / "runs.csv", dtype=str, keep_default_na=False).assign(scale="quick")
    runs.to_csv(home / "runs.csv", index=False)
    return home


def written(home: Path, committed: bool = False) -> Page:
    page.write({NAME: home}, home.parent / "report.html", committed)
    return Page((home.parent / "report.html").read_text())


def test_there_are_published_experiments():
    assert NAME in PUBLISHED


def test_the_page_needs_nothing_but_itself(committed, parsed):
    text = committed.read_text()
    assert not parsed.tags["script"] and not parsed.tags["iframe"] and not re.search(r"@import|url\(", text)
    assert {re.split("[:,]", link)[0] for link in re.findall(r'(?:src|href)="([^"]*)"', text) if link[0] != "#"} == {
        "data"
    }


def test_every_link_leads_to_a_place_and_places_are_unique(parsed):
    assert [name for name, count in Counter(parsed.ids).items() if count > 1] == []
    assert all(link.startswith("#") for link in parsed.links) and len(parsed.links) > 30
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)


def test_the_gradients_of_an_experiment_are_shown_with_what_they_mean(parsed):
    text = parsed.after("sigmoid_gradients-gradients")
    assert "vanishing: the gradient shrinks" in text and "nothing remarkable" in text
    assert sum(image["alt"].startswith("Heat map") for image in parsed.images) >= 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_figure_is_the_committed_one_and_has_a_text(name, committed, parsed):
    image = [image for image in parsed.images if not image["alt"].startswith("Heat map")][PUBLISHED.index(name)]
    svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))
    assert svg == (committed.parent / name / "figure.svg").read_bytes() and b"<svg" in svg
    data = records.read(paths.RESULTS / name / "figure.csv", "figure")
    assert all(panel in image["alt"] for panel in data["panel"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_claim_stands_with_all_that_is_known_of_it(name, parsed):
    for row in records.read(paths.RESULTS / name / "claims.csv", "claims").itertuples():
        words = parsed.after(f"{name}-claim-{row.claim}")
        asked, because = claims.halves(row.rule)
        number = f"{row.ours:.4g} [{row.low:.4g}, {row.high:.4g}]" if row.n else "none"
        shown = asked.replace(" >= ", " ≥ ").replace(" <= ", " ≤ ")
        assert because, "a rule without a reason"
        for part in (row.statement, row.source, row.paper, number, shown, f"because: {because}", row.verdict):
            assert part in words, part


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_setting_of_the_runs_is_on_the_page(name, parsed):
    protocol = json.loads((paths.RESULTS / name / "protocol.json").read_text())
    words = parsed.after(f"{name}-protocol")
    for field in (*protocol["fixed"], *protocol["varied"]):
        assert f" {field} " in words
    assert len(protocol["fixed"]) + len(protocol["varied"]) > 35


@pytest.mark.parametrize("name", PUBLISHED)
def test_data_versions_time_and_records_are_on_the_page(name, parsed):
    protocol = json.loads((paths.RESULTS / name / "protocol.json").read_text())
    runs = records.read(paths.RESULTS / name / "runs.csv", "runs")
    assert protocol["images"][0][0]["data_sha256"] in parsed.after(f"{name}-data")
    counts = runs["status"].value_counts()
    assert all(f"{count} {status}" in parsed.after(f"{name}-runs") for status, count in counts.items())
    assert all(str(seed) in parsed.after(f"{name}-runs") for seed in runs["seed"].unique())
    assert f"torch {protocol['versions'][0][0]['torch']}" in parsed.after(f"{name}-versions")
    assert runs["commit"].iloc[0] in parsed.after(f"{name}-versions")
    assert f"{int(runs['parameters'].iloc[0]):,}" in parsed.after(f"{name}-model")
    assert f"bnrepro draw --committed {name}" in parsed.after(f"{name}-commands")
    assert protocol["command"] in parsed.after(f"{name}-commands")
    assert f"{records.stored(paths.RESULTS / name / 'layers.csv').stat().st_size:,}" in parsed.after(f"{name}-records")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_deviations_that_name_the_experiment_are_on_the_page(name, parsed):
    words = parsed.after(f"{name}-deviations")
    own = next(table for table in deviations.tables() if name in _named(table))
    assert own.rows and all(f" {row[0]} " in words for row in own.rows)
    assert all(row[0] in words for table in deviations.of(name) for row in table.rows)


def test_every_numbered_deviation_is_read_and_belongs_somewhere():
    numbers = re.findall(r"^\| ([DE]\d+) \|", paths.DEVIATIONS.read_text(), re.MULTILINE)
    assert [row[0] for table in deviations.tables() for row in table.rows] == numbers and len(set(numbers)) > 80
    assert all(len(row) == len(table.columns) for table in deviations.tables() for row in table.rows)
    found = {row[0] for name in paths.experiments() for table in deviations.of(name) for row in table.rows}
    general = {row[0] for row in deviations.general().rows}
    assert {number for number in numbers if number[0] == "D"} == {n for n in found | general if n[0] == "D"}
    assert deviations.of("no_such_experiment") == []


@pytest.mark.parametrize("name", paths.experiments())
def test_every_experiment_has_a_heading_of_its_own_or_shares_one(name):
    assert sum(name in _named(table) for table in deviations.tables()) == 1


def _named(table: deviations.Table) -> list[str]:
    """The experiments in a heading: "landscape and ics (Santurkar, Fig. 3)"."""
    return table.heading.partition(" (")[0].split(" and ")


def test_each_of_the_16_points_of_a_reviewer_has_its_place(parsed):
    assert len(page.CHECKLIST) == 16
    words = parsed.after("checklist")
    for point, _, part in page.CHECKLIST:
        assert f"{point}." in words
        places = [part[1:]] if part.startswith("#") else [f"{name}-{part}" for name in PUBLISHED]
        assert all(place in parsed.ids and f"#{place}" in parsed.links for place in places)


def judge(home: Path, verdict: str, n: int) -> None:
    """Give the first claim another verdict and n."""
    table = pd.read_csv(home / "claims.csv", dtype=str, keep_default_na=False)
    table.loc[0, ["verdict", "n"]] = [verdict, str(n)]
    table.to_csv(home / "claims.csv", index=False)


@pytest.mark.parametrize("verdict", claims.VERDICTS)
def test_what_is_not_reproduced_is_listed_and_counted(verdict, home):
    judge(home, verdict, 3)
    found = written(home)
    statement = pd.read_csv(home / "claims.csv")["statement"][0]
    assert (statement in found.after("open")) == (verdict != "reproduced")
    assert (f"{verdict} {statement}" in found.after("open")) == (verdict != "reproduced")
    counts = re.search(r"quick((?: \d+)+)", found.after("summary"))[1].split()
    total = len(pd.read_csv(home / "claims.csv"))
    expected = {"reproduced": total - 1} | {verdict: 1} if verdict != "reproduced" else {verdict: total}
    assert [int(count) for count in counts] == [expected.get(one, 0) for one in claims.VERDICTS]
    assert " 3 of 6 " in found.after(f"{NAME}-claim-relu_32"), "seeds without a value are said"


def test_a_page_on_which_all_holds_says_so(home):
    table = pd.read_csv(home / "claims.csv").assign(verdict="reproduced")
    table.to_csv(home / "claims.csv", index=False)
    assert "Every claim on this page was reproduced" in written(home).after("open")


def test_ours_stands_beside_the_committed_reference_only_when_it_is_ours(home):
    judge(home, "inconclusive", 3)
    words = written(home).after(f"{NAME}-reference")
    assert f"at scale quick, results/{NAME} at scale laptop" in words
    first = pd.read_csv(paths.RESULTS / NAME / "claims.csv").iloc[0]
    assert f"{first['statement']} {first['ours']:.4g}" in words and "n = 3 of 6 inconclusive" in words
    assert f"n = 6 {first['verdict']}" in words
    assert f"{NAME}-reference" not in written(home, committed=True).ids


def test_tables_without_a_protocol_make_a_page_that_says_so(home):
    (home / "protocol.json").unlink()
    assert "there is no protocol.json" in written(home).after(f"{NAME}-protocol")


def test_what_is_in_the_tables_is_text_and_never_markup(home):
    table = pd.read_csv(home / "claims.csv", dtype=str, keep_default_na=False)
    table.loc[0, "statement"] = "<script>alert(1)</script> & `code` *stress* 2*3*4"
    table.to_csv(home / "claims.csv", index=False)
    found = written(home)
    assert not found.tags["script"] and "<script>alert(1)</script> &" in found.after(f"{NAME}-claim-relu_32")
    marked = str(page.prose("a `b<c` *stress* 2*3*4"))
    assert marked == "a <code>b&lt;c</code> <em>stress</em> 2*3*4"


def test_the_same_tables_make_the_same_page(home):
    texts = []
    for _ in range(2):
        written(home)
        texts.append((home.parent / "report.html").read_bytes())
    assert texts[0] == texts[1]


def test_a_published_experiment_without_a_table_is_one_line(tmp_path, monkeypatch, capsys, published):
    published(NAME, tmp_path / "results" / NAME)
    (tmp_path / "results" / NAME / "layers.csv").unlink()
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    with pytest.raises(SystemExit) as left:
        cli.main(["report", "--committed", f"out={tmp_path}"])
    assert left.value.code == 2 and capsys.readouterr().err.endswith("layers.csv: not there\n")


# In a browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_without_error(committed, browser, width, scheme):
    """No message on the console, no request, every image decoded, nothing wider than the screen, text readable."""
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url[:40]))
    tab.goto(committed.as_uri())
    assert said == [] and [url for url in asked if not url.startswith(("file:", "data:"))] == []
    sizes = tab.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth])")
    assert len(sizes) >= len(PUBLISHED) and all(done and wide > 300 for done, wide in sizes)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("body", ".quiet", "a", *(f".{verdict.replace(' ', '-')}" for verdict in claims.VERDICTS)):
        assert tab.evaluate(CONTRAST, selector) >= 4.5, selector
    tab.close()


def test_the_contents_lead_to_their_sections_by_keyboard(committed, browser):
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(committed.as_uri())
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    links = tab.locator("nav a")
    for i in range(links.count()):
        tab.keyboard.press("Tab")
        target = tab.evaluate("document.activeElement.getAttribute('href')")
        assert target == links.nth(i).get_attribute("href")
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        links.nth(i).press("Enter")
        assert tab.evaluate("location.hash") == target
        top = tab.evaluate("id => document.getElementById(id).getBoundingClientRect().top", target[1:])
        end = tab.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
        assert -2 <= top <= 60 or (end and top < 900), target
    tab.close()


# The contrast ratio of WCAG 2 between the text of the first such element and the page.
CONTRAST = """selector => {
  const light = colour => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.match(/[\\d.]+/g).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = getComputedStyle(document.querySelector(selector)).color;
  const [high, low] = [text, getComputedStyle(document.body).backgroundColor].map(light).sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}"""
