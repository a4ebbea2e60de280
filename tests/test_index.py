"""The light page of what is published: complete, found in two actions, and of use without scripts."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import pytest

from bnrepro.core import paths, records
from bnrepro.draw import claims
from bnrepro.report import index

PAGE = paths.RESULTS / "index.html"
PUBLISHED = [name for name in paths.experiments() if (paths.RESULTS / name / "claims.csv").exists()]
ROWS = [
    (name, row)
    for name in PUBLISHED
    for row in records.read(paths.RESULTS / name / "claims.csv", "claims").itertuples()
]


def test_every_claim_and_figure_has_its_place_and_the_page_stays_light():
    text = PAGE.read_text()
    assert PAGE.stat().st_size < 1_000_000
    assert all(f'id="{name}-claim-{row.claim}"' in text for name, row in ROWS) and len(ROWS) > 100
    pictures = re.findall(r'src="([^"#]*)"', text)
    assert pictures == [f"{name}/figure.svg" for name in PUBLISHED]
    assert all((paths.RESULTS / picture).exists() for picture in pictures)
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(set(ids)) == len(ids) and set(re.findall(r'href="#([^"]*)"', text)) <= set(ids)


def test_the_page_of_ones_own_runs_names_its_files_and_commands(tmp_path, published):
    published("mean_field", tmp_path / "mean_field")
    index.write({"mean_field": tmp_path / "mean_field"}, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert 'src="mean_field/figure.svg"' in text and "bnrepro draw mean_field scale=laptop" in text


def test_bounds_are_those_that_made_the_rule():
    estimate = SimpleNamespace(n=5)
    for least, most in ((-math.inf, 2.5), (1e-12, math.inf), (-0.05, 0.05), (0.333333, 3.0)):
        rule = claims.Claim.size(
            claim="", source="", statement="", paper="", ours=estimate, least=least, most=most
        ).rule
        assert claims.bounds(rule) == (least, most)
    assert all(len(claims.bounds(row.rule)) == 2 for _, row in ROWS)
    with pytest.raises(ValueError, match="no rule"):
        claims.bounds("about right")


def row(low: float, ours: float, high: float, rule: str, method: str = "t") -> SimpleNamespace:
    return SimpleNamespace(low=low, ours=ours, high=high, rule=f"interval {rule}, n >= 5", method=method)


def test_the_interval_is_drawn_within_the_band_exactly_when_the_claim_holds():
    for rule, low, high, holds in (
        (">= 0", 0.1, 0.3, True), (">= 0", -0.1, 0.3, False), ("<= 2", -5, 1, True), ("within 1 to 2", 1.1, 2.1, False),
    ):  # fmt: skip
        plot = index.forest(row(low, (low + high) / 2, high, rule))
        left, width = plot["band"]
        assert (left <= plot["low"] and plot["high"] <= left + width) == holds
        assert 0 < plot["low"] < plot["ours"] < plot["high"] < index.WIDE


def test_ratios_have_a_logarithmic_axis_and_no_interval_no_plot():
    plot = index.forest(row(1, 10, 100, ">= 1", "t of the logarithm"))
    assert plot["log"] and plot["ours"] == pytest.approx((plot["low"] + plot["high"]) / 2, abs=0.1)
    assert not index.forest(row(0, 10, 100, ">= 1", "t of the logarithm"))["log"]
    assert index.forest(row(math.nan, 1, math.nan, ">= 1")) is None


# In a browser


@pytest.fixture
def opened(browser):
    """opened(width=1280): the page, whose errors and requests are empty at the end."""
    tabs, said = [], []

    def open_page(anchor: str = "", **settings):
        tab = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | settings)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else said.append(asked.url))
        tab.goto(PAGE.as_uri() + anchor)
        tabs.append(tab)
        return tab

    yield open_page
    for tab in tabs:
        tab.close()
    assert said == []


def shown(tab) -> list[str]:
    return tab.evaluate("rows.filter(one => one.row.checkVisibility()).map(one => one.row.id)")


def test_gamma_fixed_at_2_is_found_by_one_key_and_its_words(opened):
    tab = opened()
    tab.keyboard.press("/")
    tab.keyboard.type("gamma fixed at 2")
    assert shown(tab) == ["affine_ablation-claim-sigmoid_fixed_gamma"] and tab.inner_text("#found").startswith("1 of ")
    assert tab.locator("#affine_ablation-claim-sigmoid_fixed_gamma").bounding_box()["y"] < 900


def test_filters_show_what_they_say_and_nothing_is_said_plainly(opened):
    tab = opened()
    tab.select_option("#verdict", "not reproduced")
    assert len(shown(tab)) == sum(row.verdict == "not reproduced" for _, row in ROWS) > 0
    tab.select_option("#experiment", "placement")
    tab.select_option("#kind", "sign")
    expected = [row for name, row in ROWS if (name, row.verdict, row.kind) == ("placement", "not reproduced", "sign")]
    assert len(shown(tab)) == len(expected)
    tab.fill("#search", "no such words")
    assert shown(tab) == [] and tab.is_visible("#none")
    tab.click("#clear")
    assert tab.inner_text("#found") == f"{len(ROWS)} claims" and not tab.is_visible("#none")


def test_experiments_are_ordered_and_unfolded(opened):
    tab = opened()
    tab.select_option("#order", "bad")
    counts = tab.evaluate("[...document.querySelectorAll('.experiment')].map(one => Number(one.dataset.bad))")
    assert counts == sorted(counts, reverse=True) and counts[0] > 0
    tab.click("#fold")
    assert len(shown(tab)) == len(ROWS) and tab.inner_text("#fold") == "fold all"


def test_a_link_to_a_claim_unfolds_its_experiment(opened):
    name, row = ROWS[-1]
    tab = opened(f"#{name}-claim-{row.claim}")
    assert tab.is_visible(f"#{name}-claim-{row.claim}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_telephone(opened, scheme):
    tab = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    tab.click("#fold")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_scripts_every_claim_can_be_unfolded_and_no_dead_control_is_shown(opened):
    tab = opened(java_script_enabled=False)
    name, row = ROWS[0]
    assert not tab.is_visible("#search")
    tab.click(f"#{name} > summary")
    assert tab.is_visible(f"#{name}-claim-{row.claim}")
