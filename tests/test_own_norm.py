"""The example of a norm of one's own: run beside BN, drawn with a look of its own, and inspected."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bnrepro import cli
from bnrepro.core import own_code, records, registry, run_dir

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_norm.py"
SMALL = [
    f"use=[{EXAMPLE}]", "device=cpu", "seed=0", "data=synthetic", "data.shape=[1,6,6]", "data.size=60",
    "data.batch_size=20", "model.width=6", "train.epochs=null", "train.steps=4",
]  # fmt: skip
ARMS = {
    "sigmoid_gradients": ["model.norm=batch,dyt", "model.depth=2", "probes.steps=[1,4]"],
    "lr_sweep": [
        "model=mlp", "model.norm=batch,dyt", "model.depth=2", "optim.lr=0.1,1.0", "optim.momentum=0.0",
        "data.valid_size=10", "data.image=native",
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    own_code.activate([])


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    return left.value.code


def test_dynamic_tanh_is_the_formula():
    own_code.activate([str(EXAMPLE)])
    for dims, shape in ((1, (5, 3)), (2, (5, 3, 4, 4))):
        layer = registry.NORMS["dyt"].called_with({"features": 3, "dims": dims}, {"alpha": 0.7})
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
            layer.bias.copy_(torch.tensor([0.5, 0.0, -0.5]))
        channel = (slice(None), 1)
        torch.testing.assert_close(layer(x)[channel], 2 * torch.tanh(0.7 * x[channel]))
    assert layer.alpha.requires_grad


@pytest.mark.parametrize("experiment", ARMS)
def test_it_is_run_drawn_and_inspected_beside_batch_norm(experiment, tmp_path, capsys):
    out = f"out={tmp_path / 'out'}"
    assert command("run", f"experiment={experiment}", *SMALL, *ARMS[experiment], out) == 0, capsys.readouterr().err
    home = tmp_path / "out" / "quick" / experiment
    runs = sorted(path for path in home.glob("runs/*") if "norm=dyt" in path.name)
    assert runs and all(run_dir.status(run) in records.RESULTS for run in runs)
    assert (runs[0] / "code" / "own_norm.py").read_bytes() == EXAMPLE.read_bytes()
    assert command("draw", experiment, out) == 0
    assert "Dynamic Tanh" in (home / "figure.svg").read_text() or "#882255" in (home / "figure.svg").read_text()
    assert "dyt" in (home / "figure.csv").read_text()
    capsys.readouterr()
    assert command("inspect", str(runs[0])) == 0
    assert "layer" in capsys.readouterr().out.lower()
