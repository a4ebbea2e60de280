"""The tables: appended, cut back, written whole, read and refused."""

from __future__ import annotations

import math
import os

import numpy as np
import pandas as pd
import pytest

from bnrepro.core import records
from bnrepro.core.records import COLUMNS, RecordError, Table

HEADER = "run,step,epoch,split,metric,value\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def filled(path, values, size=0):
    table = Table(path, "metrics", "a", size)
    for step, value in enumerate(values, 1):
        table.write([(step, 0.5, "train", "loss", value)])
    return table


def test_every_write_is_on_the_disk_before_the_table_is_closed(path):
    table = filled(path, [])
    assert path.read_text() == HEADER
    table.write([(1, 0.5, "train", "loss", 2.0), (1, 0.5, "test", "loss", 3)])
    assert path.read_text() == HEADER + "a,1,0.5,train,loss,2.0\na,1,0.5,test,loss,3\n"
    assert table.size() == path.stat().st_size
    table.write([])
    assert table.size() == path.stat().st_size


def test_what_was_written_after_the_checkpoint_is_cut_off(path):
    table = filled(path, [1.0, 2.0])
    size = table.size()
    table.write([(3, 0.5, "train", "loss", 3.0)])
    table.close()
    continued = Table(path, "metrics", "a", size)
    continued.write([(3, 0.5, "train", "loss", 4.0)])
    assert list(records.read(path, "metrics")["value"]) == [1.0, 2.0, 4.0]


def test_a_table_without_a_checkpoint_starts_again(path):
    filled(path, [1.0, 2.0]).close()
    filled(path, [5.0]).close()
    assert path.read_text() == HEADER + "a,1,0.5,train,loss,5.0\n"


def test_a_missing_value_is_an_empty_cell_and_a_non_finite_one_is_written_as_such(path):
    filled(path, [None, math.nan, math.inf, -math.inf, 0.1, np.float64(0.1), np.float32(0.5), 7]).close()
    cells = [line.rsplit(",", 1)[1] for line in path.read_text().splitlines()[1:]]
    assert cells == ["", "nan", "inf", "-inf", "0.1", "0.1", "0.5", "7"]
    read = records.read(path, "metrics")["value"]
    np.testing.assert_array_equal(read, [np.nan, np.nan, np.inf, -np.inf, 0.1, 0.1, 0.5, 7.0])


def test_floats_are_read_back_to_the_last_bit(path):
    values = [1 / 3, 1e-300, 123456789.123456789, 5e-324]
    filled(path, values).close()
    assert list(records.read(path, "metrics")["value"]) == values


def test_a_column_that_is_empty_throughout_is_a_number_too(path):
    filled(path, [None, None]).close()
    assert records.read(path, "metrics")["value"].dtype == float


def test_an_arm_called_none_is_not_a_missing_value(tmp_path):
    row = dict.fromkeys(COLUMNS["runs"], "x") | {"model.norm": "none"}
    records.write_frame(pd.DataFrame([row, row | {"model.norm": "nan"}]), tmp_path / "runs.csv", "runs")
    assert list(records.read(tmp_path / "runs.csv", "runs")["model.norm"]) == ["none", "nan"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header must be run,step,epoch,split,metric,value"),
        ("run,step\n", "line 1: the header must be"),
        ("step,run,epoch,split,metric,value\n", "line 1: the header must be"),
        (HEADER[:-1] + ",mood\n", "line 1: the header must be"),
        (HEADER + "a,1,0.5,train,loss,2.0\na,2,0.5,tr", "line 3: 4 of 6 columns, the file was cut"),
        (HEADER + "a,1,0.5,train,loss,2.0\na,2,0.5,train,loss,1", "line 3: the line has no end, the file was cut"),
        (HEADER + "a,1,0.5,train,loss,2.0\na,2,0\na,3,0.5,train,loss,2.0\n", "line 3: 3 of 6 columns"),
        (HEADER[:-1], "line 1: the line has no end"),
    ],
)
def test_a_damaged_table_is_refused_with_its_name_and_line(path, text, said):
    path.write_text(text)
    with pytest.raises(RecordError) as caught:
        records.read(path, "metrics")
    assert str(caught.value).startswith(f"{path}, ")
    assert said in str(caught.value)


def test_a_table_that_is_not_there_is_said_to_be_so(path):
    with pytest.raises(RecordError, match="metrics.csv: not there"):
        records.read(path, "metrics")


def test_the_fixed_columns_come_first_and_only_runs_have_others(tmp_path):
    frame = pd.DataFrame([{"extra": 1} | dict.fromkeys(reversed(COLUMNS["runs"]), "x")])
    records.write_frame(frame, tmp_path / "runs.csv", "runs")
    assert list(records.read(tmp_path / "runs.csv", "runs")) == [*COLUMNS["runs"], "extra"]
    frame = pd.DataFrame([dict.fromkeys(COLUMNS["figure"], 1) | {"mood": 1}])
    with pytest.raises(RecordError, match="unknown columns mood"):
        records.write_frame(frame, tmp_path / "figure.csv", "figure")
    assert not (tmp_path / "figure.csv").exists()


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    records.write_json({"step": 1}, path)

    def die(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", die)
        records.write_json({"step": 2}, path)
    assert records.read_json(path) == {"step": 1}


def test_json_that_is_missing_is_none_and_half_of_it_is_an_error(tmp_path):
    path = tmp_path / "plan.json"
    assert records.read_json(path) is None
    path.write_text('{"runs": ["a",')
    with pytest.raises(RecordError, match="plan.json: "):
        records.read_json(path)
    assert records.read_json(path / "below a file") is None


def test_metrics_and_layers_carry_the_varied_keys_of_their_run(tmp_path):
    rows = [
        dict.fromkeys(COLUMNS["runs"], "x") | {"run": run, "seed": seed, "status": "completed", "model.norm": norm}
        for seed, (run, norm) in enumerate([("a", "none"), ("b", "batch")])
    ]
    records.write_frame(pd.DataFrame(rows), tmp_path / "runs.csv", "runs")
    filled(tmp_path / "metrics.csv", [1.0]).close()
    layers = Table(tmp_path / "layers.csv", "layers", "b")
    layers.write([(1, 1, "hidden.0", "grad_fro", 2.0)])
    tables = records.load(tmp_path)
    assert tables.scale == "x" and records.varied(tables.runs) == ["model.norm"]
    assert tables.metrics[["seed", "model.norm", "value"]].values.tolist() == [[0, "none", 1.0]]
    assert tables.layers[["seed", "status", "model.norm"]].values.tolist() == [[1, "completed", "batch"]]


def test_a_table_of_no_runs_is_refused(tmp_path):
    (tmp_path / "runs.csv").write_text(",".join(COLUMNS["runs"]) + "\n")
    with pytest.raises(RecordError, match="runs.csv: no run in it"):
        records.load(tmp_path)


def test_the_schema_is_pinned():
    """Who reads these tables elsewhere relies on it: a change needs another VERSION."""
    runs = (
        "run experiment scale seed status last_step seconds device precision data data_sha256 train_images epochs "
        "parameters commit dirty"
    )
    assert records.VERSION == 2
    assert {table: " ".join(columns) for table, columns in COLUMNS.items()} == {
        "metrics": "run step epoch split metric value",
        "layers": "run step depth layer statistic value",
        "runs": runs,
        "figure": "panel series x y low high n",
        "claims": "claim kind source statement paper ours low high n method level look rule verdict",
    }
