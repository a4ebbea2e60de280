"""Files that are never seen half, whenever their writer dies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bnrepro.core import files

DIES = """
import os, pathlib, sys
from bnrepro.core import files
home = pathlib.Path(sys.argv[1])
"""


def dies(code: str, home) -> None:
    """Run code in a process of its own, which ends in it without any clean-up."""
    done = subprocess.run([sys.executable, "-c", DIES + code, str(home)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr


def contents(home) -> dict[str, str]:
    return {path.name: path.read_text() for path in home.iterdir() if path.is_file()}


def test_a_written_file_is_there_whole_and_alone(tmp_path):
    files.write_text("ä\n", tmp_path / "new" / "a.txt")
    files.write_text("b\n", tmp_path / "new" / "a.txt")
    assert contents(tmp_path / "new") == {"a.txt": "b\n"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.txt"
    files.write_text("old", path)
    with pytest.raises(error), files.written(path) as file:
        file.write(b"ne")
        raise error
    assert contents(tmp_path) == {"a.txt": "old"}


def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_one_clears_up(tmp_path):
    files.write_text("old", tmp_path / "a.txt")
    dies("with files.written(home / 'a.txt') as file:\n file.write(b'ne'); file.flush(); os._exit(9)", tmp_path)
    assert (tmp_path / "a.txt").read_text() == "old" and len(contents(tmp_path)) == 2
    (tmp_path / ".hidden").write_text("mine")
    files.sweep(tmp_path)
    assert contents(tmp_path) == {"a.txt": "old", ".hidden": "mine"}


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Else a loss of power leaves an empty file under the right name."""
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("flush"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("rename"), replace(*paths)))
    files.write(b"x", tmp_path / "a")
    assert done[:2] == ["flush", "rename"]


def test_names_beside_cannot_be_guessed_and_a_link_is_not_followed(tmp_path, monkeypatch):
    names = []
    for _ in range(2):
        with files.written(tmp_path / "a") as file:
            names.append(file.name)
    assert names[0] != names[1]
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0123abcd")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".a.0123abcd").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write(b"x", tmp_path / "a")
    assert victim.read_text() == "precious"


OLD, NEW = {"a": "old a", "b": "old b", "kept": "k"}, {"a": "new a", "b": "new b", "kept": "k"}


@pytest.fixture
def home(tmp_path):
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_set_replaces_the_older_one_of_the_same_names(home):
    with files.together(home) as folder:
        for name in "ab":
            (folder / name).write_text(NEW[name])
        assert contents(home) == OLD
    assert contents(home) == NEW and not [path for path in home.iterdir() if path.is_dir()]


def test_an_error_leaves_the_older_set(home):
    with pytest.raises(ValueError), files.together(home) as folder:
        (folder / "a").write_text(NEW["a"])
        raise ValueError
    assert contents(home) == OLD and not [path for path in home.iterdir() if path.is_dir()]


WRITE = """
with files.together(home) as folder:
    for name in 'ab':
        (folder / name).write_text('new ' + name)
        %s
"""


def test_a_kill_leaves_the_older_set(home):
    dies(WRITE % "os._exit(9)", home)
    files.settle(home)
    assert contents(home) == OLD


def test_a_kill_between_two_files_of_a_whole_set_is_made_good(home):
    die = "move = os.replace\nos.replace = lambda *paths: (move(*paths), os._exit(9))\n"
    dies(die + WRITE % "pass", home)
    assert contents(home) not in (OLD, NEW)
    files.settle(home)
    assert contents(home) == NEW and not (home / files.READY).exists()
