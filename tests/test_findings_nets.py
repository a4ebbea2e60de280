"""The words on nets built healthy or ill, watched while they train: the kinds that are right, and no others.

The confusion table over all of them is printed behind the last.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import torch
from constructed import HEALTHY, ILL, trained
from nets import Net, vectors

from bnrepro.gradients import findings
from bnrepro.gradients.attach import attach

NETS = HEALTHY | ILL
REMARKS = {"no gradient", "not measured"}
SAID: dict[str, list[str]] = {}


@pytest.fixture(scope="module", autouse=True)
def confusion(request):
    yield
    if SAID:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print("\n\n" + written())


def written() -> str:
    """Of each kind that is right somewhere: nets where it was said, and where it was not; then what was said beyond."""
    right = Counter(kind for name in SAID for kind in NETS[name].right)
    said = Counter(kind for name, kinds in SAID.items() for kind in kinds if kind in NETS[name].right)
    beyond = Counter(kind for name, kinds in SAID.items() for kind in kinds if kind not in NETS[name].right)
    lines = [f"{'kind':22}{'right':>7}{'said':>7}{'missed':>8}{'wrongly':>9}"]
    for kind in sorted(right | beyond):
        missed = right[kind] - said[kind]
        lines.append(f"{kind:22}{right[kind]:>7}{said[kind]:>7}{missed:>8}{beyond[kind]:>9}")
    alarms = sum(bool(set(SAID.get(name, ())) - set(net.right)) for name, net in HEALTHY.items())
    lines.append(f"{len(SAID)} nets, {len(SAID.keys() & HEALTHY.keys())} of them healthy; false alarms: {alarms}")
    return "\n".join(lines)


def words(net: Net) -> list[findings.Finding]:
    model = trained(net)
    part = model.get_submodule(net.watched)
    watch = attach(part, every=1, statistics=net.statistics)
    for step in range(1, net.steps + 1):
        model.zero_grad()
        (net.loss or vectors)(model, step).backward()
        watch.after_backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= net.rate * parameter.grad.to_dense()
    return findings.findings(watch.table())


@pytest.mark.parametrize("name", NETS)
def test_the_words_are_right(name):
    found = words(NETS[name])
    SAID[name] = [finding.kind for finding in found]
    assert SAID[name] == list(NETS[name].right), [finding.text for finding in found]
    assert all(finding.text.startswith(f"{finding.kind}: ") for finding in found)


def test_the_tool_needs_neither_hydra_nor_torchvision_nor_mlxtend():
    code = """
import sys
for name in ("hydra", "omegaconf", "torchvision", "mlxtend", "tqdm", "jinja2"):
    sys.modules[name] = None
import torch
from bnrepro import attach
model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
watch = attach(model, statistics="full", every=1)
for _ in range(4):
    model(torch.ones(2, 3)).sum().backward()
    watch.after_backward()
print(*watch.words(), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("nothing remarkable"), done.stderr
