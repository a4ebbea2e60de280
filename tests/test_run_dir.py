"""Run directories with damaged files: named, and never in the way of the other runs of a sweep."""

from __future__ import annotations

import pytest

from bnrepro.core import records, run_dir
from bnrepro.core.records import RecordError
from bnrepro.train import execute

DAMAGED = ["", "{", '{"status": "comp', "[1]", "null", '"completed"', '{"status": 3}', '{"status": "done"}']


@pytest.fixture
def done(tiny, tmp_path):
    """The directory of a completed run, and its configuration."""
    settings = tiny({"train.steps": 5})
    run_dir.freeze(settings, tmp_path / "run")
    assert execute.execute(tmp_path / "run") == "completed"
    return tmp_path / "run", settings


@pytest.mark.parametrize("text", [*DAMAGED, '{"status": "completed", "seconds": "x"}'])
def test_a_damaged_status_counts_as_pending_and_is_named(done, text):
    directory, _ = done
    before = (directory / "metrics.csv").read_bytes()
    (directory / "status.json").write_text(text)
    assert run_dir.status(directory) == "pending"
    assert "status.json" in run_dir.note(directory)["reason"]
    assert execute.execute(directory) == "completed"
    assert (directory / "metrics.csv").read_bytes() == before
    assert "reason" not in records.read_json(directory / "status.json") or not run_dir.note(directory)["reason"]


def test_a_status_of_bytes_that_are_no_text_counts_as_pending(done):
    (done[0] / "status.json").write_bytes(b"\xff\xfe\x00")
    assert run_dir.status(done[0]) == "pending"


@pytest.mark.parametrize("text", DAMAGED[:6])
def test_a_damaged_configuration_is_named_written_again_and_its_run_made_anew(done, text, caplog):
    directory, settings = done
    good, table = (directory / "config.json").read_text(), (directory / "metrics.csv").read_bytes()
    (directory / "config.json").write_text(text)
    run_dir.freeze(settings, directory)
    assert str(directory / "config.json") in caplog.text and "from the beginning" in caplog.text
    assert (directory / "config.json").read_text() == good and run_dir.status(directory) == "pending"
    assert execute.execute(directory) == "completed"
    assert (directory / "metrics.csv").read_bytes() == table


def test_executing_a_run_without_a_readable_configuration_fails_with_the_file_in_one_line(done):
    directory, _ = done
    (directory / "status.json").unlink()
    (directory / "config.json").write_text("")
    assert execute.execute(directory) == "failed"
    assert "config.json: empty" in records.read_json(directory / "status.json")["reason"]


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(done, tmp_path):
    directory, victim = done[0], tmp_path / "victim"
    victim.write_text("precious")
    (directory / "lock").unlink()
    (directory / "lock").symlink_to(victim)
    with pytest.raises(RecordError, match="lock: a link"), run_dir.lock(directory):
        pass
    assert victim.read_text() == "precious"
