"""What a run is: its sections and their kinds, every field with its default, its help and its limits.

This module is the schema of the configuration and imports neither torch nor Hydra, so that a frozen config.json runs
without Hydra and a mistake is reported before torch is loaded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from bnrepro.core import registry
from bnrepro.core.data_fields import Data
from bnrepro.core.model_fields import MLP, VGG11, Active, Normed, ResNet
from bnrepro.core.optim_fields import SGD, Adam, Optimizer, RMSprop, Schedule, TorchOptimizer
from bnrepro.core.registry import GRADIENTS, STATISTICS
from bnrepro.core.setting import ConfigError, setting

__all__ = [
    "GRADIENTS", "KINDS", "MLP", "PLAIN", "SCALES", "SGD", "STATISTICS", "VGG11", "Active", "Adam", "Config", "Data",
    "Model", "Normed", "Optim", "Optimizer", "Probes", "RMSprop", "ResNet", "Schedule", "TorchOptimizer", "Train",
]  # fmt: skip

# Five minutes with embedded data; a figure worth showing on two CPU cores; the protocol of the paper, on a GPU.
SCALES = ("quick", "laptop", "paper")

Model = MLP | VGG11 | ResNet
Optim = SGD | RMSprop | Adam | TorchOptimizer


@dataclass
class Train:
    epochs: float | None = setting(None, "length in epochs (give either epochs or steps)", above=0, most=1e9)
    steps: int | None = setting(None, "length in optimizer steps", least=1, most=10**12)
    precision: str = setting("fp32", "fp32, bf16 by autocast, or fp64", choices=("fp32", "bf16", "fp64"))
    channels_last: bool = setting(False, "memory layout of convolutions")
    eval_every: float = setting(1.0, "epochs between evaluations; the last step is always evaluated", above=0)
    population_batches: int = setting(
        0, "training batches for the statistics of Algorithm 2 at every evaluation, 0 for none", least=0
    )
    precise: bool = setting(
        False, "with population_batches: also the variance of all these images together, split test_precise"
    )
    test_batches: list[int] = setting(
        [],
        "after the last step: score test images in batches of so many, by the statistics of each batch; splits "
        "test_batch (mixed like the training batches) and test_sorted (by label)",
        least=1,
    )
    corruptions: list[str] = setting(
        [], "after the last step: score corrupted test images, by the moving averages (split test_corrupted) and by "
        "the largest of test_batches (test_corrupted_batch)", choices=("noise", "contrast", "blur"),
    )  # fmt: skip
    diverged_above: float = setting(
        1000.0, "a loss above this multiple of the first counts as diverged (threshold of Bjorck et al. 2018, Fig. 3)",
        above=1,
    )  # fmt: skip
    stalled_below: float | None = setting(
        1.5,
        "stalled: the training accuracy was never better than chance (99.9 %, binomial); with ten classes, or another "
        "value than 1.5: it never reached this multiple of chance; null: never stalled",
        above=0,
    )
    clip: float | None = setting(
        None, "largest norm of the gradient of all parameters, to which a longer one is shortened; null: none", above=0
    )
    loss_factor: float = setting(1.0, "factor of the loss that is trained on and probed", above=0)
    label_smoothing: float = setting(
        0.0, "share of the target that is spread over all classes, in training only", least=0, below=1
    )
    keep_weights: bool = setting(False, "write the weights after the last step to weights.pt", identity=False)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints", least=0, identity=False)

    def check(self) -> None:
        """What the fields of the training tell together. Raises ConfigError."""
        if (self.epochs is None) == (self.steps is None):
            shown = f"{self.epochs}, train.steps={self.steps}"
            raise ConfigError("train.epochs", shown, "give exactly one of the two (the other null)")
        if self.precise and not self.population_batches:
            raise ConfigError("train.precise", "true", "needs train.population_batches above 0")


PASSES = (
    "loss_along", "gradient_along", "ics", "gradient_shape", "channels", "saturation", "unit_inputs", "norm_inputs",
    "unit_moments", "unit_values", "variance_shift",
)  # fmt: skip


@dataclass
class Probes:
    """What is recorded, of which layers, and when. Looking never changes a run, but it changes its tables."""

    statistics: list[str] = setting(
        ["grad_spectral", "grad_fro", "grad_abs_mean"], "what to record", choices=STATISTICS
    )
    per_decade: int = setting(10, "logarithmic cadence: recorded steps in each factor of ten", least=1)
    steps: list[int] | None = setting(None, "recorded steps, instead of the logarithmic cadence", least=1)
    passes: list[str] = setting([], "what to measure by passes of its own", choices=PASSES)
    depths: list[int] | None = setting(None, "recorded layers: 1 is nearest the input, -1 the output; null for all")
    step_sizes: list[float] = setting([], "lengths of the steps along the negative gradient", above=0)
    units: int = setting(1, "recorded units of a layer, the first ones, where a pass looks at single units", least=1)
    unit_statistics: str = setting(
        "moving", "what norms use under the pass unit_inputs: moving averages, or the statistics of the held-out "
        "images as one batch", choices=("moving", "batch"),
    )  # fmt: skip


TASKS = ("train", "invariance", "overhead")


@dataclass
class Config:
    """One run."""

    experiment: str = setting("none", "the figure that the run belongs to", identity=False)
    scale: str = setting("quick", "size of the runs, as the experiment's file sets it", choices=SCALES, identity=False)
    seed: int = setting(0, "one seed gives all random streams: init, order, augment", least=0, most=2**63 - 1)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", identity=False)
    threads: int = setting(1, "torch threads of the run; more than one round sums otherwise", least=1, most=1024)
    task: str = setting("train", "what the run does: train a net, or measure one at its initial weights", choices=TASKS)
    use: list[str] = setting([], "Python files or modules that register norms, models, ... of your own", identity=False)
    code: list[str] = setting([], "SHA-256 of each of them, filled in by the plan")
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=MLP)
    optim: Optim = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Schedule)
    train: Train = field(default_factory=Train)
    probes: Probes = field(default_factory=Probes)


# Sections that come in kinds: model.kind=vgg11 has other fields than model.kind=mlp. Registered kinds are added.
MODELS: dict[str, type[Normed]] = {"mlp": MLP, "vgg11": VGG11, "resnet": ResNet}
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "torch": TorchOptimizer}
KINDS: dict[str, dict[str, type]] = {"model": MODELS, "optim": OPTIMIZERS}
PLAIN = {"data": Data, "schedule": Schedule, "train": Train, "probes": Probes}


def specs(name: str, kinds: dict[str, list[str]]) -> list[dataclasses.Field]:
    """The fields behind a dotted name, one for each of these kinds of its section that has it."""
    section, _, last = name.rpartition(".")
    classes: list[type] = [PLAIN.get(section, Config)]
    if section in KINDS:  # a registered kind is unknown where its code is not at hand
        classes = [KINDS[section][kind] for kind in kinds[section] if kind in KINDS[section]]
    return [spec for cls in classes for spec in dataclasses.fields(cls) if spec.name == last]


registry.SECTIONS.update({"model": KINDS["model"], "optimizer": KINDS["optim"]})
