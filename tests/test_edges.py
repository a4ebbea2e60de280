"""Choices at the edge of a grid: found wherever `select.best` chooses, kept in figure.csv and told in words."""

from __future__ import annotations

import pandas as pd
import pytest

from bnrepro.core.records import Tables
from bnrepro.draw import edges, select


def tables(scores: dict[tuple[str, float], float]) -> Tables:
    runs = [{"run": f"{norm}{rate}", "seed": 0, "status": "completed", "model.norm": norm, "optim.lr": rate}
            for norm, rate in scores]  # fmt: skip
    rows = [(one["run"], 1, "valid", "accuracy", value) for one, value in zip(runs, scores.values(), strict=True)]
    metrics = pd.DataFrame(rows, columns=["run", "step", "split", "metric", "value"])
    return Tables(pd.DataFrame(runs), metrics, metrics)


MADE = tables({("none", 0.1): 0.9, ("none", 0.2): 0.8, ("batch", 0.1): 0.1, ("batch", 0.2): 0.9, ("batch", 0.4): 0.2,
               ("group", 0.1): 0.5})  # fmt: skip


def test_a_best_at_an_end_is_found_and_one_inside_or_alone_is_not():
    with edges.watched() as found:
        select.best(MADE, "optim.lr", ["model.norm"])
        select.best(MADE, "optim.lr", ["model.norm"])
    (edge,) = found.values()
    assert (edge.arm, edge.value, edge.tried, edge.score) == ("none", 0.1, (0.1, 0.2), 0.9)
    with edges.watched() as found:
        select.best(tables({("none", 0.1): 0.9, ("none", 0.2): 1.0}), "optim.lr", [])
    assert [edge.arm for edge in found.values()] == ["all"]


def test_nothing_is_kept_outside_of_a_figure():
    with edges.watched() as found:
        pass
    select.best(MADE, "optim.lr", ["model.norm"])
    assert not found


def test_the_rows_of_figure_csv_say_it_in_words_up_to_three():
    one = edges.Edge("none", "optim.lr", 0.1, (0.1, 0.2), 0.9)
    data = edges.rows([one])
    assert edges.line(data) == "best at the edge of its grid: none: optim.lr = 0.1 of 0.1 to 0.2"
    assert "4 choices" in edges.line(edges.rows([one] * 4))
    assert edges.line(data.assign(panel="loss")) == ""


@pytest.mark.parametrize("name", ["vgg_curves", "affine_ablation"])
def test_published_figures_name_their_edges(name):
    from bnrepro.core import paths, records

    assert edges.line(records.read(paths.RESULTS / name / "figure.csv", "figure"))
