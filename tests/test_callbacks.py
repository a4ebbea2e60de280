"""The callbacks in the real trainers: the rows of the same training in a plain loop, accumulated, not yet clipped."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnrepro import callbacks
from bnrepro.core import records
from bnrepro.gradients.attach import attach

RATE, CLIP, STEPS = 0.1, 1e-3, 3
DATA = torch.randn(12, 6, generator=torch.Generator().manual_seed(1))
LABELS = DATA[:, :3].argmax(1)
STATISTICS = ("grad_fro", "grad_max", "update_ratio")


def built() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def plain(bf16: bool) -> tuple[nn.Module, list]:
    """Two accumulated batches of 2 in a step, clipped."""
    model = built()
    watch, optimizer = attach(model, every=1, statistics=STATISTICS), torch.optim.SGD(model.parameters(), RATE)
    for step in range(STEPS):
        for part in (0, 2):
            x, y = (values[4 * step + part :][:2] for values in (DATA, LABELS))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = F.cross_entropy(model(x), y)
            (loss / 2).backward()
        watch.after_backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return model, rows(watch)


def rows(watch) -> list:
    return list(watch.table()[["step", "depth", "statistic", "value"]].itertuples(index=False, name=None))


def assert_same(found: list, wanted: list) -> None:
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in wanted], rel=1e-5)


def lightning_run(watched, steps: int, precision: str = "32-true", checkpoint=None, resumed=None, size: int = 12):
    lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed: extra lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = built()

        def training_step(self, batch, index):
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), RATE)

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(DATA[:size], LABELS[:size]), batch_size=2)
    trainer = lightning.Trainer(
        max_steps=steps, accumulate_grad_batches=2, gradient_clip_val=CLIP, precision=precision, accelerator="cpu",
        devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[watched],
    )  # fmt: skip
    module = Module()
    trainer.fit(module, loader, ckpt_path=resumed)
    if checkpoint:
        trainer.save_checkpoint(checkpoint)
    return module.net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_gives_the_rows_of_a_plain_loop(precision):
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed: extra lightning")
    watched = callbacks.for_lightning(every=1, statistics=STATISTICS)
    model = lightning_run(watched, STEPS, precision)
    reference, wanted = plain(precision != "32-true")
    assert_same(rows(watched.watch), wanted)
    assert all(map(torch.equal, model.parameters(), reference.parameters()))
    assert not model[1]._forward_hooks and watched.watch.after_backward() == []


@pytest.mark.filterwarnings("ignore")
def test_lightning_continues_the_table_of_a_checkpoint(tmp_path):
    """At which batch Lightning goes on is its own affair: the last step need not have the same values."""
    pytest.importorskip("lightning.pytorch", reason="lightning is not installed: extra lightning")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for home, steps in ((whole, STEPS), (parts, 2)):
        lightning_run(callbacks.for_lightning(home, every=1), steps, checkpoint=tmp_path / f"{steps}.ckpt", size=4)
    lightning_run(callbacks.for_lightning(parts, every=1), STEPS, resumed=tmp_path / "2.ckpt", size=4)
    whole, parts = (records.read_layers(tmp_path / name / "layers.csv") for name in ("whole", "parts"))
    places = ["step", "depth", "layer", "statistic"]
    assert whole[places].equals(parts[places])
    assert list(whole["value"][whole["step"] < STEPS]) == list(parts["value"][parts["step"] < STEPS])


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = built()

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.net(x), labels)}


def transformers_run(tmp_path, bf16: bool = False, **given):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: extra transformers")
    pytest.importorskip("accelerate", reason="accelerate is not installed: extra transformers")

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *what):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=STEPS, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        max_grad_norm=CLIP, learning_rate=RATE, lr_scheduler_type="constant", bf16=bf16, use_cpu=True,
        report_to=[], save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    model, examples = Classifier(), [{"x": x, "labels": y} for x, y in zip(DATA, LABELS, strict=True)]
    optimizer = torch.optim.SGD(model.parameters(), RATE)
    trainer = InOrder(model, arguments, train_dataset=examples, optimizers=(optimizer, None))
    watched = callbacks.for_transformers(trainer, every=1, statistics=STATISTICS, **given)
    trainer.train()
    return model.net, watched, trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bf16", [False, True])
def test_transformers_gives_the_rows_of_a_plain_loop(tmp_path, bf16):
    model, watched, trainer = transformers_run(tmp_path, bf16)
    reference, wanted = plain(bf16)
    assert_same(rows(watched.watch), wanted)
    assert all(map(torch.equal, model.parameters(), reference.parameters()))
    assert trainer.accelerator.clip_grad_norm_.__func__ is type(trainer.accelerator).clip_grad_norm_


@pytest.mark.parametrize(
    ("module", "make"),
    [("lightning", lambda: callbacks.for_lightning()), ("transformers", lambda: callbacks.for_transformers(None))],
)
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch, module, make):
    for name in [*sys.modules]:
        if name.partition(".")[0] in (module, "pytorch_lightning"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(records.RecordError, match=f"{module}: not installed; pip install '{module}"):
        make()
