"""What a run is: every field with its default, its help and its limits, and the short key that names the run.

This module is the schema of the configuration and the single list of names that a user can type. It imports neither
torch nor Hydra, so that a frozen config.json runs without Hydra and a mistake is reported before torch is loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field


def setting(
    default: object,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    most: float | None = None,
    identity: bool = True,
):
    """A field with its help and limits; `identity=False` marks what cannot change a result and stays out of the key."""
    limits = {"help": help, "choices": choices, "least": least, "above": above, "below": below, "most": most}
    limits["identity"] = identity
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=limits)
    return field(default=default, metadata=limits)


@dataclass
class Data:
    """Which images, how they are prepared and in what batches they come."""

    kind: str = setting(
        "mnist5k", "dataset",
        choices=("mnist5k", "mnist", "fashion_mnist", "cifar10", "image_folder", "synthetic", "linear_map"),
    )  # fmt: skip
    name: str | None = setting(None, "name shown with results, e.g. cifar10-jpeg for an image folder; null: the kind")
    root: str = setting("data", "directory of torchvision's datasets and of decoded image folders", identity=False)
    path: str | None = setting(None, "directory of an image folder: train/CLASS/*, test/CLASS/*", identity=False)
    image: str = setting("native", "native shape, or padded and repeated to 3x32x32", choices=("native", "rgb32"))
    normalize: str = setting(
        "channel", "z-score by the training set: per channel, per pixel, or none; or binary, 1 above half grey",
        choices=("channel", "pixel", "none", "binary"),
    )  # fmt: skip
    crop: int = setting(0, "padding in pixels of the random crop, 0 for none", least=0)
    flip: bool = setting(False, "random horizontal flip")
    train_size: int | None = setting(None, "training images, drawn at random once for all seeds; null for all", least=1)
    valid_size: int = setting(0, "images held out of the training set for choosing settings", least=0)
    test_size: int | None = setting(None, "test images, drawn at random once for all seeds; null for all", least=1)
    batch_size: int = setting(128, "images in a training batch", least=1)
    clump: int = setting(
        1, "images of one label that follow each other in the order of an epoch; 1: in any order", least=1
    )
    last_batch: str = setting(
        "drop", "an epoch's incomplete last batch: drop it, so that every batch statistic is over the same number, "
        "or keep it unless it is a single image", choices=("drop", "keep"),
    )  # fmt: skip
    shape: list[int] = setting([1, 28, 28], "channels, height, width of synthetic images; [K,1,1] for a linear map")
    size: int = setting(1000, "synthetic training images (a fifth as many for test), inputs of a linear map", least=5)
    signal: float = setting(1.0, "strength of the class pattern in synthetic images, 0 for pure noise", least=0)


NORMS = ("none", "batch", "batch_manual", "group", "layer", "l1", "l2", "linf", "renorm")
WITHOUT_BATCH = ("none", "group", "layer")  # these look at one image at a time


@dataclass
class Normed:
    """The norm is an argument of every model."""

    norm: str = setting("none", "normalisation of the hidden layers", choices=NORMS)
    affine: str = setting("both", "which of gamma and beta are learned", choices=("both", "gamma", "beta", "none"))
    gamma: float = setting(1.0, "initial gamma, and its value for ever where it is not learned")
    eps: float = setting(1e-5, "added to the variance, inside the root", least=0)
    momentum: float | None = setting(
        0.1, "weight of the new batch in the moving statistics; null: plain average", above=0, most=1
    )
    bias: bool = setting(False, "keep a layer's bias in front of a norm, where beta makes it redundant")
    noise: str = setting(
        "none", "noise of Santurkar et al. (2018) behind every norm, with a mean for each unit or for a whole layer",
        choices=("none", "unit", "layer"),
    )  # fmt: skip
    drop: float = setting(0.0, "share of units that dropout sets to 0 in every hidden layer", least=0, below=1)
    drop_at: str = setting(
        "layer", "that dropout in front of the next layer, or of the layer's own norm", choices=("layer", "norm")
    )
    init: str = setting(
        "glorot_uniform", "initial weights",
        choices=("glorot_normal", "glorot_uniform", "kaiming_normal", "kaiming_uniform", "fan_in", "gaussian")
        + ("happynear",),
    )  # fmt: skip
    init_std: float = setting(0.01, "standard deviation of init=gaussian", above=0)
    weight_scale: float = setting(1.0, "multiplies the initial weights of all layers but the output layer", above=0)
    groups: int = setting(32, "groups of channels of norm=group", least=1)
    ghost: int | None = setting(
        None, "images that norm=batch or renorm normalises together in training; null: the whole batch", least=2
    )
    alternate: str = setting("same", "norm of every second normalised layer", choices=("same", *NORMS[1:]))
    r_max: float = setting(3.0, "bound on r of norm=renorm, in the end", least=1)
    d_max: float = setting(5.0, "bound on d of norm=renorm, in the end", least=0)
    renorm_start: int = setting(5000, "steps with r = 1 and d = 0, as in batch norm, before the bounds relax", least=0)
    r_end: int = setting(40_000, "step at which r_max is reached, linearly", least=0)
    d_end: int = setting(25_000, "step at which d_max is reached, linearly", least=0)


@dataclass
class MLP(Normed):
    """Fully connected layers of one width and a linear output layer."""

    kind: str = setting("mlp", "model", choices=("mlp",))
    depth: int = setting(10, "hidden layers", least=1)
    width: int = setting(100, "units in each hidden layer", least=1)
    activation: str = setting(
        "sigmoid", "nonlinearity of the hidden layers", choices=("sigmoid", "tanh", "relu", "linear")
    )
    place: str = setting("before", "norm before or after the activation", choices=("before", "after"))
    biases: bool = setting(True, "false: no layer has a bias, the output layer neither")


@dataclass
class VGG11(Normed):
    """Configuration A of Simonyan & Zisserman (2015), 3x32x32 input."""

    kind: str = setting("vgg11", "model", choices=("vgg11",))
    width: float = setting(1.0, "multiplies the number of channels of every convolution", above=0)
    activation: str = setting("relu", "nonlinearity of the convolutions", choices=("relu", "sigmoid", "tanh"))
    head: str = setting(
        "linear", "one linear layer, or torchvision's three with dropout", choices=("linear", "torchvision")
    )
    dropout: float = setting(0.5, "dropout of head=torchvision", least=0, below=1)


@dataclass
class ResNet(Normed):
    """Residual nets of He et al. (2016), section 4.2, for 32x32 images: 6n + 2 layers, shortcuts without weights."""

    kind: str = setting("resnet", "model", choices=("resnet",))
    depth: int = setting(20, "layers with weights: 6n + 2", least=8)
    width: float = setting(1.0, "multiplies the number of channels of every convolution", above=0)
    normed: str = setting(
        "all", "norm behind every convolution, or one alone behind the last block", choices=("all", "last")
    )


@dataclass
class SGD:
    kind: str = setting("sgd", "optimizer", choices=("sgd",))
    lr: float = setting(0.1, "learning rate", above=0)
    momentum: float = setting(0.0, "momentum", least=0, below=1)
    nesterov: bool = setting(False, "Nesterov's momentum")
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)
    decay_on: str = setting(
        "all", "that penalty: on all parameters, on the output layer alone, or there and imitated elsewhere by the "
        "size of steps", choices=("all", "output", "imitated"),
    )  # fmt: skip


@dataclass
class RMSprop:
    kind: str = setting("rmsprop", "optimizer", choices=("rmsprop",))
    lr: float = setting(4e-5, "learning rate", above=0)
    decay: float = setting(0.9, "decay of the average of squared gradients", above=0, below=1)
    momentum: float = setting(0.8, "momentum", least=0, below=1)
    eps: float = setting(1e-8, "added to the root of the average", above=0)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)


@dataclass
class Adam:
    kind: str = setting("adam", "optimizer", choices=("adam",))
    lr: float = setting(1e-3, "learning rate", above=0)
    beta1: float = setting(0.9, "decay of the average of gradients", least=0, below=1)
    beta2: float = setting(0.999, "decay of the average of squared gradients", least=0, below=1)
    eps: float = setting(1e-8, "added to the root of the average", above=0)
    weight_decay: float = setting(0.0, "L2 penalty added to the gradient", least=0)


@dataclass
class Schedule:
    kind: str = setting("constant", "learning rate over time", choices=("constant", "step", "cosine"))
    every: float = setting(20.0, "epochs between the steps of kind=step", above=0)
    factor: float = setting(0.1, "multiplies the rate at each step of kind=step", above=0)
    floor: float = setting(0.0, "the rate never falls below this", least=0)


@dataclass
class Train:
    epochs: float | None = setting(None, "length in epochs (give either epochs or steps)", above=0)
    steps: int | None = setting(None, "length in optimizer steps", least=1)
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
        "stalled: the training accuracy never reached this multiple of chance; null: never stalled",
        above=0,
    )
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints", least=0, identity=False)


GRADIENTS = ("grad_fro", "grad_spectral", "grad_abs_mean", "grad_max")  # words are about the first that is recorded
STATISTICS = (*GRADIENTS, "weight_fro", "activations", "norm")  # those of bnrepro.gradients that one step shows
PASSES = (
    "loss_along", "gradient_along", "ics", "gradient_shape", "channels", "saturation", "unit_inputs", "norm_inputs",
    "unit_moments", "variance_shift",
)  # fmt: skip


@dataclass
class Probes:
    """What is recorded, of which layers, and when. Looking never changes a run, but it changes its tables."""

    statistics: list[str] = setting(
        ["grad_spectral", "grad_fro", "grad_abs_mean"], "what to record", choices=STATISTICS
    )
    per_decade: int = setting(10, "logarithmic cadence: recorded steps in each factor of ten", least=1)
    steps: list[int] | None = setting(None, "recorded steps, instead of the logarithmic cadence")
    passes: list[str] = setting([], "what to measure by passes of its own", choices=PASSES)
    depths: list[int] | None = setting(None, "recorded layers: 1 is nearest the input, -1 the output; null for all")
    step_sizes: list[float] = setting([], "lengths of the steps along the negative gradient", above=0)
    units: int = setting(1, "recorded units of a layer, the first ones, where a pass looks at single units", least=1)


TASKS = ("train", "invariance", "overhead")


@dataclass
class Config:
    """One run."""

    experiment: str = setting("none", "the figure that the run belongs to", identity=False)
    scale: str = setting("quick", "quick, laptop or paper", identity=False)
    seed: int = setting(0, "one seed gives all random streams: init, order, augment", least=0)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", identity=False)
    threads: int = setting(1, "torch threads of the run", least=1, identity=False)
    task: str = setting("train", "what the run does: train a net, or measure one at its initial weights", choices=TASKS)
    data: Data = field(default_factory=Data)
    model: Normed = field(default_factory=MLP)
    optim: object = field(default_factory=SGD)
    schedule: Schedule = field(default_factory=Schedule)
    train: Train = field(default_factory=Train)
    probes: Probes = field(default_factory=Probes)


# Sections that come in kinds: model.kind=vgg11 has other fields than model.kind=mlp.
KINDS = {
    "model": {"mlp": MLP, "vgg11": VGG11, "resnet": ResNet},
    "optim": {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam},
}
PLAIN = {"data": Data, "schedule": Schedule, "train": Train, "probes": Probes}


def as_dict(config: Config) -> dict:
    return dataclasses.asdict(config)


def key(config: Config) -> str:
    """Eight hex digits over all settings that can change a result and differ from their defaults.

    Leaving out defaults keeps the keys of old runs valid when a field with a neutral default is added; the test suite
    pins the defaults, since changing one would silently change what an old key means.
    """
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def identity(config: Config) -> dict:
    """What `key` is made of: kinds always, other fields where they are not the default."""
    found = {}
    for spec in dataclasses.fields(config):
        value = getattr(config, spec.name)
        if dataclasses.is_dataclass(value):
            found[spec.name] = identity(value)
        elif spec.name == "kind" or (spec.metadata["identity"] and value != default(spec)):
            found[spec.name] = value
    return found


def flat(values: dict, prefix: str = "") -> dict:
    """{'optim': {'lr': 1}} -> {'optim.lr': 1}"""
    found = {}
    for name, value in values.items():
        found.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return found


def specs(name: str, kinds: dict[str, list[str]]) -> list[dataclasses.Field]:
    """The fields behind a dotted name, one for each of these kinds of its section that has it."""
    section, _, last = name.rpartition(".")
    classes = [KINDS[section][kind] for kind in kinds[section]] if section in KINDS else [PLAIN.get(section, Config)]
    return [spec for cls in classes for spec in dataclasses.fields(cls) if spec.name == last]


def default(spec: dataclasses.Field) -> object:
    return spec.default if spec.default is not dataclasses.MISSING else spec.default_factory()
