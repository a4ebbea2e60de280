"""What an experiment's YAML may hold: each mistake is one line with the file and the key."""

from __future__ import annotations

import pytest

from bnrepro.core import experiment_file, paths
from bnrepro.core.records import RecordError

HEAD = "title: x\nsource: y\n"
WRONG = {
    HEAD + "scales: {}\nmodle: {}": "no such key modle, did you mean model?",
    HEAD + "scales: {}\nscale: quick": "no such key scale, did you mean scales?",
    HEAD + "scales: {}\ntrain: null": "train: must be fields with values",
    HEAD + "title: z\nscales: {}": "line 1: title stands there twice",
    HEAD: "scales: must be fields with values",
    "scales: {}": "title: must be a text",
    "a: [": "line 1: expected the node content, but found '<stream end>'",
    "\0": "character #x0000",
    "": "must be fields with values",
    "- 1": "must be fields with values",
    HEAD + "scales: {quick: {vary: seed}}": "scales.quick.vary: must be fields with values",
    HEAD + "scales: {quick: {vary: {seed: []}}}": "scales.quick.vary: seed holds no value",
    HEAD + "scales: {quick: {vary: {out: [a, b]}}}": "scales.quick.vary: out is no field of a run",
    HEAD + "scales: {quick: {scale: laptop}}": "scales.quick: no such key scale",
    HEAD + "scales: {quick: {set: 1}}": "scales.quick.set: must be fields with values",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_one_line_with_the_file(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecordError) as error:
        experiment_file.read(path)
    said = str(error.value)
    assert said.startswith(str(path)) and WRONG[text] in said and "\n" not in said


def test_those_of_the_package_are_accepted():
    for name in paths.packaged().names():
        assert experiment_file.read(paths.packaged().config_file(name))["title"]
