"""Checkpoints that are damaged, of another run, or ahead of their tables: named, and never other numbers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from bnrepro.core import records, run_dir
from bnrepro.train import checkpoint, execute

STEPS = 30
LAST, OLDER = run_dir.CHECKPOINTS


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes, place: float = 0.6) -> bytes:
    place = int(place * len(content))
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "zero bytes": lambda content: b"",
    "cut": cut,
    "cut in the first line": lambda content: content[:30],
    "foreign": lambda content: b"\x89PNG\r\n",
    "another archive": lambda content: b"PK\x03\x04" + bytes(100),
    "one flipped byte": flipped,
    "one flipped byte near the start": lambda content: flipped(content, 0.02),
    "one flipped byte near the end": lambda content: flipped(content, 0.999),
}


def tables(directory) -> list[bytes]:
    return [(directory / name).read_bytes() for name in ("metrics.csv", "layers.csv")]


@pytest.fixture
def stopped(tiny, tmp_path):
    """A run with checkpoints of steps 19 and 20, and the directory of the same run undisturbed."""
    settings = tiny({"train.steps": STEPS, "train.checkpoint_seconds": 0.0})
    for home in ("run", "undisturbed/run"):
        run_dir.freeze(settings, tmp_path / home)
    assert execute.execute(tmp_path / "undisturbed" / "run") == "completed"
    steps = []

    def stop(step: int, _: int) -> None:
        steps.append(step)
        if step == 20:
            raise KeyboardInterrupt

    assert execute.execute(tmp_path / "run", stop) == "interrupted"
    first = checkpoint.read(tmp_path / "run" / LAST)["progress"]["step"]
    second = checkpoint.read(tmp_path / "run" / OLDER)["progress"]["step"]
    assert (first, second) == (19, 18)
    return tmp_path / "run"


def go_on(directory) -> tuple[list[int], dict]:
    """The steps of the next attempt, which must end with the tables of the undisturbed run; and its status.json."""
    steps: list[int] = []
    assert execute.execute(directory, lambda step, _: steps.append(step)) == "completed"
    assert tables(directory) == tables(directory.parent / "undisturbed" / "run")
    assert not [path for path in directory.iterdir() if "checkpoint" in path.name]
    return steps, records.read_json(directory / "status.json")


def test_a_good_checkpoint_goes_on_from_its_step_and_nothing_is_noted(stopped):
    steps, note = go_on(stopped)
    assert steps[0] == 20 and "notes" not in note


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_named_and_the_older_one_goes_on(stopped, damage):
    (stopped / LAST).write_bytes(damage((stopped / LAST).read_bytes()))
    steps, note = go_on(stopped)
    assert steps[0] == 19
    [remark] = note["notes"]
    assert f"run/{LAST}" in remark and "step 18" in remark
    assert remark in (stopped / "log.txt").read_text()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_with_both_damaged_the_run_starts_from_the_beginning(stopped, damage):
    for name in (LAST, OLDER):
        (stopped / name).write_bytes(damage((stopped / name).read_bytes()))
    steps, note = go_on(stopped)
    assert steps[0] == 1 and len(note["notes"]) == 2
    for name, remark in zip((LAST, OLDER), note["notes"], strict=True):
        assert name in remark and "beginning" in remark


def test_a_kill_between_the_two_renames_loses_one_generation_only(stopped):
    (stopped / LAST).replace(stopped / OLDER)
    steps, note = go_on(stopped)
    assert steps[0] == 20 and "notes" not in note


def test_a_checkpoint_of_another_run_is_not_believed(stopped, tiny, tmp_path):
    other = tmp_path / "other" / "run"
    run_dir.freeze(tiny({"train.steps": STEPS, "seed": 1}), other)
    shutil.copy(stopped / LAST, other)
    for table in ("metrics.csv", "layers.csv"):
        shutil.copy(stopped / table, other)
    steps = []
    assert execute.execute(other, lambda step, _: steps.append(step)) == "completed"
    assert steps[0] == 1 and "another run" in records.read_json(other / "status.json")["notes"][0]


def test_a_table_that_is_shorter_than_at_its_checkpoint_is_named(stopped):
    with open(stopped / "layers.csv", "r+b") as file:
        file.truncate(100)
    steps, note = go_on(stopped)
    assert steps[0] == 1 and "layers.csv has 100 of" in note["notes"][0]


def test_a_checkpoint_of_before_format_1_is_continued_and_its_damage_found(stopped):
    state = checkpoint.read(stopped / LAST)
    torch.save({name: state[name] for name in checkpoint.PARTS}, stopped / LAST)
    old = (stopped / LAST).read_bytes()
    assert checkpoint.read(stopped / LAST)["progress"]["step"] == 19
    place = old.index(state["model"]["output.weight"].numpy().tobytes())
    (stopped / LAST).write_bytes(old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :])
    with pytest.raises(checkpoint.Damaged, match="checksum"):
        checkpoint.read(stopped / LAST)
    (stopped / LAST).write_bytes(old)
    assert go_on(stopped)[0][0] == 20


def test_a_newer_format_is_left_alone_and_the_run_says_so(stopped):
    newer = checkpoint.HEAD.format(checkpoint.VERSION + 1, "0" * 64).encode() + b"..."
    (stopped / LAST).write_bytes(newer)
    assert execute.execute(stopped) == "failed"
    assert LAST in records.read_json(stopped / "status.json")["reason"]
    assert (stopped / LAST).read_bytes() == newer


def test_a_note_survives_the_next_interruption(stopped):
    (stopped / LAST).write_bytes(b"")

    def stop(step: int, _: int) -> None:
        if step == 25:
            raise KeyboardInterrupt

    assert execute.execute(stopped, stop) == "interrupted"
    assert f"run/{LAST}" in go_on(stopped)[1]["notes"][0]


def test_the_first_line_is_readable(stopped):
    head = (stopped / LAST).read_bytes().split(b"\n")[0].decode()
    assert head.startswith("bnrepro checkpoint, format 1, SHA-256 ")
    assert json.dumps(checkpoint.read(stopped / LAST)["key"]) == f'"{checkpoint.read(stopped / LAST)["key"]}"'
