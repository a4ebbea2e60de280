"""The documents name files that exist."""

from __future__ import annotations

import re

import pytest

from bnrepro.core import paths

DOCUMENTS = [*paths.ROOT.glob("*.md"), *paths.ROOT.glob("docs/*.md"), *paths.ROOT.glob("experiments/*.md")]
FILE = re.compile(r"`((?:[\w-]+/)+[\w-]+\.(?:py|yaml|md|toml|ipynb|jinja|sh))`")
MADE_BY_THE_READER = {"experiments/NAME.py", "conf/experiment/NAME.yaml"}
WALKED_THROUGH = {"experiments/activations.py", "conf/experiment/activations.yaml"}  # the example of experiments/README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(paths.ROOT)))
def test_every_file_in_backticks_exists(document):
    named = set(FILE.findall(document.read_text())) - MADE_BY_THE_READER - WALKED_THROUGH
    assert not [name for name in named if not (paths.ROOT / name).exists()]


def test_the_documents_are_read():
    found = {name for document in DOCUMENTS for name in FILE.findall(document.read_text())}
    assert len(DOCUMENTS) >= 3 and "bnrepro/train/trainer.py" in found
