"""protocol.json: what the runs share, in which settings they differ, and nothing private."""

from __future__ import annotations

import json

import pytest

from bnrepro.core import checks, identity, records, run_dir
from bnrepro.draw import collect, figures, protocol
from bnrepro.train import execute

MANIFEST = {"commit": "abc", "dirty": False, "device": "cpu", "threads": 1, "hardware": {"cores": 2}, "versions": {}}
MLP, VGG = {"kind": "mlp", "width": 5}, {"kind": "vgg11", "width": 0.5}


def plain(**changes) -> dict:
    return identity.as_dict(checks.build({"train": {"steps": 1}} | changes))


def test_settings_are_shared_or_counted():
    found = protocol.of(
        "bnrepro run", [plain(seed=seed, optim={"kind": "sgd", "lr": 0.5}) for seed in (0, 1)], [{}, {}]
    )
    assert found["varied"] == {"seed": [[0, 1], [1, 1]]}
    assert found["fixed"]["optim.lr"] == 0.5 and found["fixed"]["data.kind"] == "mnist5k"
    assert found["fixed"]["train.epochs"] is None and found["fixed"]["probes.statistics"][0] == "grad_spectral"


def test_a_setting_that_only_some_runs_have_is_not_shared():
    runs = [plain(model=model, data={"image": "rgb32"}) for model in (MLP, MLP, VGG)]
    found = protocol.of("bnrepro run", runs, [{}] * 3)
    assert found["varied"]["model.depth"] == [[10, 2]] and found["varied"]["model.head"] == [["linear", 1]]
    assert found["varied"]["model.width"] == [[5, 2], [0.5, 1]] and "model.depth" not in found["fixed"]
    assert found["fixed"]["model.norm"] == "none"


def test_every_setting_that_can_change_a_result_is_there_and_no_other():
    found = protocol.of("bnrepro run", [plain()], [{}])
    known = checks.known_fields()
    mine = {name for name in identity.flat(plain()) if known[name].metadata["identity"]}
    assert set(found["fixed"]) == mine and found["varied"] == {}
    assert not {"data.root", "data.path", "device", "experiment"} & mine


def test_a_run_that_has_not_started_has_settings_and_no_machine():
    found = protocol.of("bnrepro run", [plain(seed=0), plain(seed=1)], [MANIFEST | {"data": "d"}, {}])
    assert found["machines"] == [[{"device": "cpu", "threads": 1, "cores": 2}, 1]]
    assert found["images"][0][0]["data"] == "d" and found["images"][0][1] == 1
    assert found["varied"]["seed"] == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("bnrepro run experiment=a data.root=/home/me/data", "bnrepro run experiment=a data.root=DIR"),
        ("bnrepro run 'data.path=/my data/x' out=/big optim.lr=0.1,1", "data.path=DIR out=DIR optim.lr=0.1,1"),
        ("bnrepro run 'use=[\"/home/me/a.py\", \"b/c.py\"]'", "'use=[\"a.py\", \"c.py\"]'"),
        ("bnrepro run 'probes.steps=[1,2]' seed=0", "bnrepro run 'probes.steps=[1,2]' seed=0"),
    ],
)  # fmt: skip
def test_the_command_is_kept_without_the_places_of_one_machine(typed, kept):
    found = protocol.of(typed, [plain()], [{}])["command"]
    assert found.endswith(kept) and "/" not in found


def test_it_lies_beside_the_tables_of_a_sweep(trained, tiny, tmp_path):
    run = trained(tiny({"seed": 3}))
    home = run.directory.parent.parent / "home"
    (home / "runs").mkdir(parents=True)
    run.directory.rename(home / "runs" / "run")
    command = "bnrepro run experiment=home data.root=/somewhere"
    records.write_json({"command": command, "axes": ["optim.lr"], "runs": ["run"]}, home / "plan.json")
    collect.tables(home)
    found = json.loads((home / "protocol.json").read_text())
    assert found["fixed"]["seed"] == 3 and found["command"] == "bnrepro run experiment=home data.root=DIR"


def test_remarks_on_runs_reach_the_notes_of_an_experiment(tiny, tmp_path):
    home, remark = tmp_path / "mean_field", "run/checkpoint.pt: empty; the run started from the beginning"
    run_dir.freeze(tiny({"train.steps": 2}), home / "runs" / "run")
    execute.execute(home / "runs" / "run")
    records.write_json({"command": "bnrepro run", "axes": ["optim.lr"], "runs": ["run"]}, home / "plan.json")
    collect.tables(home)
    assert "notes" not in records.read_json(home / "protocol.json")
    status = records.read_json(home / "runs" / "run" / "status.json")
    records.write_json(status | {"notes": [remark]}, home / "runs" / "run" / "status.json")
    collect.tables(home)
    assert figures.notes("mean_field", home)[-1] == f"run: {remark}"
