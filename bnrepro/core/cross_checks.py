"""What no single section of a configuration can tell: each function asks one question of two of them."""

from __future__ import annotations

import re

from bnrepro.core import memory, registry
from bnrepro.core.schema import MLP, SGD, VGG11, Config, Model, ResNet
from bnrepro.core.setting import ConfigError, one_of


def check_together(config: Config) -> None:
    """Raises ConfigError for the first thing found wrong."""
    for check in CHECKS:
        check(config)


def over_batch(config: Config) -> bool:
    """Whether a layer of the model looks at several images at a time."""
    return any(registry.norm(name).over_batch for name in config.model.norms())


def check_batch_size(config: Config) -> None:
    if over_batch(config) and config.data.batch_size < 2:
        raise ConfigError(
            "data.batch_size", config.data.batch_size,
            f"must be at least 2 with model.norm={', '.join(sorted(config.model.norms()))}: "
            "a single image has no batch variance",
        )  # fmt: skip


def check_ghost(config: Config) -> None:
    size = config.model.ghost
    if size is not None and (config.data.batch_size % size or config.data.last_batch == "keep"):
        expected = f"must divide data.batch_size={config.data.batch_size}, with data.last_batch=drop"
        raise ConfigError("model.ghost", size, expected)


def check_test_batches(config: Config) -> None:
    """Asked before the first step, since the answer would come after the last one."""
    sizes = config.train.test_batches
    if sizes and config.model.ghost is not None:
        raise ConfigError("train.test_batches", sizes, "only with model.ghost=null, which has groups of its own")
    if 1 in sizes and over_batch(config) and isinstance(config.model, MLP):
        raise ConfigError("train.test_batches", sizes, "must be at least 2 in an MLP: a single image has no variance")
    if (sizes or config.train.corruptions) and config.data.kind == "linear_map":
        raise ConfigError("train.test_batches", sizes, "takes images with classes, not data.kind=linear_map")


def check_images(config: Config) -> None:
    if not isinstance(config.model, VGG11):
        return
    if config.data.kind == "synthetic" and min(config.data.shape[1:]) < 32:
        raise ConfigError("data.shape", config.data.shape, "must be at least 32x32 for model.kind=vgg11")
    if config.data.image != "rgb32" and config.data.kind in ("mnist", "mnist5k", "fashion_mnist"):
        raise ConfigError("data.image", config.data.image, "must be rgb32 for model.kind=vgg11, which sees 3x32x32")


def check_linear_map(config: Config) -> None:
    """Targets are real numbers: there is no accuracy, so nothing to stall, and no class to spread a target over."""
    if config.data.kind != "linear_map":
        return
    if not isinstance(config.model, MLP):
        raise ConfigError("model.kind", config.model.kind, "must be mlp for data.kind=linear_map")
    if config.data.clump > 1:
        raise ConfigError("data.clump", config.data.clump, "must be 1 for data.kind=linear_map, which has no labels")
    if config.train.stalled_below is not None:
        raise ConfigError("train.stalled_below", config.train.stalled_below, "must be null for data.kind=linear_map")
    if config.train.label_smoothing:
        raise ConfigError("train.label_smoothing", config.train.label_smoothing, "needs classes, not a linear map")


def check_imitated(config: Config) -> None:
    """The imitation is exact for plain SGD and a norm that each channel's length does not reach through."""
    if not isinstance(config.optim, SGD) or config.optim.decay_on != "imitated":
        return
    exact = registry.norm(config.model.norm).scale_free and config.model.alternate == "same"
    if not exact or getattr(config.model, "place", "before") != "before":
        expected = "needs model.norm=batch or batch_manual everywhere, in front of the activation"
        raise ConfigError("optim.decay_on", "imitated", expected)


def check_warmup(config: Config) -> None:
    epochs = config.train.epochs
    if epochs is not None and config.schedule.warmup >= epochs:
        raise ConfigError("schedule.warmup", config.schedule.warmup, f"must be less than train.epochs={epochs:g}")


def check_probes(config: Config) -> None:
    """Whether anything is recorded where something is asked for."""
    steps, depths, last = config.probes.steps, config.probes.depths, config.train.steps
    if steps and last is not None and min(steps) > last:
        raise ConfigError("probes.steps", steps, f"holds none of the {last} steps of the run")
    layers = layers_of(config.model)
    if depths is not None and layers is not None and not any(1 <= abs(depth) <= layers for depth in depths):
        raise ConfigError("probes.depths", depths, f"holds none of 1 to {layers}, or -1 to -{layers} from the output")


def layers_of(model: Model) -> int | None:
    """Layers with weights, the output layer among them; None for a registered model."""
    if isinstance(model, MLP):
        return model.depth + 1
    if isinstance(model, VGG11):
        return 9 if model.head == "linear" else 11
    return model.depth if isinstance(model, ResNet) else None


def check_memory(config: Config) -> None:
    """Sizes that no machine has memory for, found by the field that asks for most."""
    needed = memory.needed(config)
    name = max(needed, key=lambda name: needed[name])
    if needed[name] > memory.MOST:
        section, _, field = name.partition(".")
        expected = f"needs {memory.shown(needed[name])} of memory, and at most {memory.shown(memory.MOST)} are planned"
        raise ConfigError(name, getattr(getattr(config, section), field), expected)


def check_device(config: Config) -> None:
    if not (config.device in ("auto", "cpu", "cuda") or re.fullmatch(r"cuda:[0-9]{1,3}", config.device)):
        raise ConfigError("device", config.device, one_of(config.device, ("auto", "cpu", "cuda", "cuda:0")))


CHECKS = (
    check_memory, check_batch_size, check_ghost, check_test_batches, check_images, check_linear_map, check_imitated,
    check_warmup, check_probes, check_device,
)  # fmt: skip
