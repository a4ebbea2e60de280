"""From plain values to a checked Config: every mistake is one line that names the field, the value and the choices."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing

from bnrepro.core.schema import KINDS, PLAIN, WITHOUT_BATCH, Config, Normed


class ConfigError(ValueError):
    """A setting that cannot be run: one line that names the field, the value and what would be allowed."""

    def __init__(self, name: str, value: object, expected: str):
        super().__init__(name, value, expected)

    def __str__(self) -> str:
        name, value, expected = self.args
        return f"{name}={'null' if value is None else value}: {expected}"


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """', did you mean X?' for the known name closest to `word` (by its last part, then as a whole), or ''."""
    known = sorted(set(known))
    by_leaf = {name.rsplit(".", 1)[-1]: name for name in reversed(known)}
    leaf = difflib.get_close_matches(word.rsplit(".", 1)[-1], by_leaf, n=1, cutoff=0.7)
    whole = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    same_group = [name for name in whole if name.split(".")[0] == word.split(".")[0]]
    found = same_group or [by_leaf[name] for name in leaf] or whole
    return f", did you mean {found[0]}?" if found else ""


def build(values: dict) -> Config:
    """The typed, checked configuration from nested plain values. Raises ConfigError for the first thing found wrong."""
    sections = {}
    for name, content in values.items():
        if name in KINDS:
            kind = content.get("kind")
            if kind not in KINDS[name]:
                raise ConfigError(f"{name}.kind", kind, one_of(str(kind), KINDS[name]))
            sections[name] = _build_section(KINDS[name][kind], content, f"{name}.")
        elif name in PLAIN:
            sections[name] = _build_section(PLAIN[name], content, f"{name}.")
        else:
            sections[name] = content
    config = _build_section(Config, sections, "")
    _check_together(config)
    return config


def section(name: str, values: dict) -> object:
    """One section alone, e.g. section("data", {"kind": "mnist"})."""
    return _build_section(PLAIN[name], values, f"{name}.")


def known_fields() -> dict[str, dataclasses.Field]:
    """Every field that some run has, by dotted name."""
    found = {spec.name: spec for spec in dataclasses.fields(Config) if not _is_section(spec.name)}
    for name, cls in PLAIN.items():
        found |= {f"{name}.{spec.name}": spec for spec in dataclasses.fields(cls)}
    for name, kinds in KINDS.items():
        for cls in kinds.values():
            found |= {f"{name}.{spec.name}": spec for spec in dataclasses.fields(cls)}
    return found


def _build_section(cls: type, content: dict, prefix: str):
    hints = typing.get_type_hints(cls)
    specs = {spec.name: spec for spec in dataclasses.fields(cls)}
    for name in content:
        if name not in specs:
            owner = f"no such field of {prefix.rstrip('.') or 'a run'}"
            if "kind" in content:
                owner += f" {content['kind']}"
            raise ConfigError(prefix + name, content[name], owner + nearest(prefix + name, (prefix + s for s in specs)))
    checked = {}
    for name, value in content.items():
        if _is_section(prefix + name):
            checked[name] = value
        else:
            checked[name] = _checked(prefix + name, value, hints[name], specs[name].metadata)
    return cls(**checked)


def _checked(name: str, value: object, hint: object, limits: typing.Mapping) -> object:
    for item in value if isinstance(value, list) else [value]:
        if limits["choices"] and item not in limits["choices"]:
            raise ConfigError(name, item, one_of(str(item), limits["choices"]))
    value = _typed(name, value, hint)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            _check_limits(name, item, limits)
    return value


def _typed(name: str, value: object, hint: object) -> object:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    wanted = next(option for option in options if option is not type(None))
    if typing.get_origin(wanted) is list:
        if not isinstance(value, list):
            raise ConfigError(name, value, "must be a list, e.g. [1,2,3]")
        return [_typed(name, item, typing.get_args(wanted)[0]) for item in value]
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise ConfigError(name, value, f"must be {words[wanted]}" + (" or null" if type(None) in options else ""))
    return value


def _check_limits(name: str, value: float, limits: typing.Mapping) -> None:
    least, above, below, most = (limits[name] for name in ("least", "above", "below", "most"))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(name, value, "must be finite")
    if least is not None and value < least:
        raise ConfigError(name, value, f"must be at least {least:g}")
    if above is not None and value <= above:
        raise ConfigError(name, value, f"must be greater than {above:g}")
    if below is not None and value >= below:
        raise ConfigError(name, value, f"must be less than {below:g}")
    if most is not None and value > most:
        raise ConfigError(name, value, f"must be at most {most:g}")


def _check_together(config: Config) -> None:
    """What no single field can tell."""
    if (config.train.epochs is None) == (config.train.steps is None):
        shown = f"{config.train.epochs}, train.steps={config.train.steps}"
        raise ConfigError("train.epochs", shown, "give exactly one of the two (the other null)")
    if config.model.norm not in WITHOUT_BATCH and config.data.batch_size < 2:
        raise ConfigError(
            "data.batch_size", config.data.batch_size,
            f"must be at least 2 with model.norm={config.model.norm}: a single image has no batch variance",
        )  # fmt: skip
    _check_groups(config.model)
    if {config.model.norm, config.model.alternate} & {"batch", "renorm"} and config.model.eps == 0:
        raise ConfigError(
            "model.eps", 0, "must be above 0 with model.norm=batch or renorm, torch refuses it; batch_manual takes 0"
        )
    if config.model.kind == "resnet" and config.model.normed == "last" and config.model.alternate != "same":
        raise ConfigError(
            "model.alternate", config.model.alternate, "must be same for model.normed=last, a single norm"
        )
    if config.model.kind == "resnet" and (config.model.depth - 2) % 6:
        raise ConfigError("model.depth", config.model.depth, "must be 6n + 2 for model.kind=resnet, e.g. 20 or 110")
    _check_ghost(config)
    _check_prediction(config)
    if config.model.kind == "vgg11" and config.data.kind == "synthetic" and min(config.data.shape[1:]) < 32:
        raise ConfigError("data.shape", config.data.shape, "must be at least 32x32 for model.kind=vgg11")
    if (
        config.model.kind == "vgg11"
        and config.data.image != "rgb32"
        and config.data.kind.endswith(("mnist", "mnist5k"))
    ):
        raise ConfigError("data.image", config.data.image, "must be rgb32 for model.kind=vgg11, which sees 3x32x32")
    if config.data.kind == "image_folder" and config.data.path is None:
        raise ConfigError("data.path", None, "must name the directory that holds train/ and test/")
    if config.data.kind == "synthetic" and (len(config.data.shape) != 3 or min(config.data.shape) < 1):
        raise ConfigError("data.shape", config.data.shape, "must be [channels,height,width], each at least 1")
    if config.data.kind == "linear_map":
        _check_linear_map(config)
    if config.optim.kind == "sgd" and config.optim.nesterov and config.optim.momentum == 0:
        raise ConfigError("optim.nesterov", True, "needs optim.momentum above 0")
    if config.optim.kind == "sgd" and config.optim.decay_on == "imitated":
        _check_imitated(config)
    if not (config.device in ("auto", "cpu", "cuda") or config.device.removeprefix("cuda:").isdigit()):
        raise ConfigError("device", config.device, one_of(config.device, ("auto", "cpu", "cuda", "cuda:0")))


def _check_imitated(config: Config) -> None:
    """The imitation is exact for plain SGD and a norm that each channel's length does not reach through."""
    batch = config.model.norm in ("batch", "batch_manual") and config.model.alternate == "same"
    if not batch or getattr(config.model, "place", "before") != "before":
        expected = "needs model.norm=batch or batch_manual everywhere, in front of the activation"
        raise ConfigError("optim.decay_on", "imitated", expected)
    if config.optim.momentum:
        raise ConfigError("optim.momentum", config.optim.momentum, "must be 0 for optim.decay_on=imitated")


def _check_ghost(config: Config) -> None:
    size, norm = config.model.ghost, config.model.norm
    if config.model.alternate != "same" and norm == "none":
        raise ConfigError("model.alternate", config.model.alternate, "needs model.norm to alternate with, not none")
    if size is None:
        return
    if norm not in ("batch", "renorm"):
        raise ConfigError("model.ghost", size, f"only with model.norm=batch or renorm, here {norm}")
    if config.data.batch_size % size or config.data.last_batch == "keep":
        expected = f"must divide data.batch_size={config.data.batch_size}, with data.last_batch=drop"
        raise ConfigError("model.ghost", size, expected)


def _check_prediction(config: Config) -> None:
    """Asked before the first step, since the answer would come after the last one."""
    wanted, sizes = config.train, config.train.test_batches
    if wanted.precise and not wanted.population_batches:
        raise ConfigError("train.precise", "true", "needs train.population_batches above 0")
    if sizes and config.model.ghost is not None:
        raise ConfigError("train.test_batches", sizes, "only with model.ghost=null, which has groups of its own")
    alone = config.model.norm not in WITHOUT_BATCH and config.model.kind == "mlp"
    if 1 in sizes and alone:
        raise ConfigError("train.test_batches", sizes, "must be at least 2 in an MLP: a single image has no variance")
    if (sizes or wanted.corruptions) and config.data.kind == "linear_map":
        raise ConfigError("train.test_batches", sizes, "takes images with classes, not data.kind=linear_map")


def _check_groups(model: Normed) -> None:
    widths = {"vgg11": (64, 128, 256, 512), "resnet": (16, 32, 64)}.get(model.kind)
    channels = [max(1, round(n * model.width)) for n in widths] if widths else [model.width]
    if "group" in (model.norm, model.alternate) and any(count % model.groups for count in channels):
        expected = f"must divide the channels of every layer ({', '.join(map(str, channels))})"
        raise ConfigError("model.groups", model.groups, expected)


def _check_linear_map(config: Config) -> None:
    """Targets are real numbers: there is no accuracy, so nothing to stall and nothing to hold out."""
    if config.data.shape[1:] != [1, 1]:
        raise ConfigError("data.shape", config.data.shape, "must be [K,1,1] for data.kind=linear_map")
    if config.model.kind != "mlp":
        raise ConfigError("model.kind", config.model.kind, "must be mlp for data.kind=linear_map")
    if config.train.stalled_below is not None:
        raise ConfigError("train.stalled_below", config.train.stalled_below, "must be null for data.kind=linear_map")
    if config.data.valid_size:
        raise ConfigError("data.valid_size", config.data.valid_size, "must be 0 for data.kind=linear_map")


def one_of(value: str, choices: typing.Iterable[str]) -> str:
    """'must be one of a, b' with the nearest of them."""
    return f"must be one of {', '.join(choices)}" + nearest(value, choices)


def _is_section(name: str) -> bool:
    return name in KINDS or name in PLAIN
