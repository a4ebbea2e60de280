"""Every command that README, docs and `--help` show is run here as it stands, or named with what runs it instead."""

from __future__ import annotations

import re
import shlex
import shutil

import pandas as pd
import pytest
import torch
from torch import nn

import bnrepro
from bnrepro import cli
from bnrepro.core import paths
from bnrepro.plan import parser

DOCUMENTS = [paths.ROOT / "README.md", *sorted(paths.ROOT.glob("docs/*.md"))]
FENCED = re.compile(r"^```(?:\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(bnrepro [^`]+)`")

ELSEWHERE = {  # beginning of a command: what runs it, or why nothing does
    "bnrepro check": "tests/test_publish.py, on one experiment: all take 18 s",
    "bnrepro report --committed": "tests/test_page.py",
    "bnrepro publish": "tests/test_publish.py: it rewrites results/",
    "bnrepro decide": "tests/test_decide.py, with made-up runs: hours of training",
    "bnrepro run NAME until=decided": "the same",
    "bnrepro reproduce": "make quickstart: minutes of training",
    "bnrepro run my_figure": "tests/test_package.py trains what `new` wrote",
    "bnrepro draw my_figure": "the same",
    "bnrepro run experiment=NAME": "a placeholder; engines: tests/engines",
    "bnrepro data mnist data.root=DIR": "tests/test_data.py: it needs a network",
    "bnrepro inspect RUN --statistic grad_zero": "tests/test_register.py: a statistic of your own",
    "bnrepro draw lr_sweep": "tests/test_contract.py draws every experiment",
    "bnrepro draw sigmoid_gradients scale=laptop": "the same at scale quick",
    "bnrepro report scale=laptop": "the same at scale quick",
}
OWN_NORM = "use=[examples/own_norm.py]"  # tests/test_own_norm.py trains and draws with it


def commands() -> list[str]:
    """As they are typed, without comments; a line that ends in a backslash goes on."""
    found = dict.fromkeys(parser.EXAMPLES.values())
    for document in DOCUMENTS:
        text = document.read_text()
        lines = [line for block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
        found |= dict.fromkeys(line.split("  #")[0].strip() for line in lines if line.startswith("bnrepro "))
        found |= dict.fromkeys(" ".join(words.split()) for words in INLINE.findall(FENCED.sub("", text)))
    return [" ".join(command.split()) for command in found]


def elsewhere(command: str) -> bool:
    return OWN_NORM in command or any(command.startswith(begin) for begin in ELSEWHERE)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory):
    """A directory with the tables of one experiment, and the gradients of a net of one's own."""
    place = tmp_path_factory.mktemp("newcomer")
    home = place / "outputs" / "quick" / "sigmoid_gradients"
    shutil.copytree(paths.RESULTS / "sigmoid_gradients", home)
    runs = pd.read_csv(home / "runs.csv", dtype=str, keep_default_na=False).assign(scale="quick")
    runs.to_csv(home / "runs.csv", index=False)
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with bnrepro.attach(model, place / "outputs" / "mine", statistics="full") as watch:
        for _ in range(3):
            model(torch.ones(5, 4)).sum().backward()
            watch.after_backward()
            optimizer.step()
    return place


def typed(command: str) -> list[str]:
    """The words after `bnrepro`; RUN stands for a run that is there, and what trains for minutes is only planned."""
    words = ["outputs/mine" if word == "RUN" else word for word in shlex.split(command)[1:]]
    plans = words[0] == "run" and "dry_run=true" not in words and not any(word.startswith("-") for word in words)
    return [*words, "dry_run=true"] if plans else words


@pytest.mark.parametrize("command", [command for command in commands() if not elsewhere(command)])
def test_it_works_as_typed(command, newcomer, monkeypatch, capfd):
    monkeypatch.chdir(newcomer)
    with pytest.raises(SystemExit) as left:
        cli.main(typed(command))
    out, err = capfd.readouterr()
    assert left.value.code in (0, None), err
    assert out


def test_every_exception_is_still_shown_somewhere():
    shown = commands()
    assert [begin for begin in ELSEWHERE if not any(command.startswith(begin) for command in shown)] == []
    assert sum(not elsewhere(command) for command in shown) > 20
