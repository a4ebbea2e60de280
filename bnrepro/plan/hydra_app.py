"""The door to Hydra: check what the user typed, let Hydra compose and launch, and turn its errors into one line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from bnrepro.core import checks, experiment_file, identity, own_code, paths, registry, schema
from bnrepro.core.registry import DATASETS, SCHEDULES
from bnrepro.plan import engines, switches

GROUPS = ("data", "model", "optim", "schedule", "experiment")


class Command:
    """What Hydra is given to call. On any machine, called with a job's configuration, it executes one frozen run.

    The sweeper, which is what Hydra calls here, leaves the exit code of the whole sweep in `exit_code`: Hydra's own
    entry returns nothing.
    """

    exit_code = 0

    def __call__(self, config: Any) -> None:
        # The trainer, and torch with it, is imported now, so that an early warning meets a run that can save.
        from bnrepro.train import execute, trainer  # noqa: F401

        with _save_before_requeue():
            execute.execute(Path(config.run_dir), allow_code=True)  # the command that made the run has checked it


def run(overrides: list[str]) -> int:
    """Plan and run one sweep; returns the exit code. Raises ConfigError for what cannot be run."""
    arguments = [argument for argument in overrides if argument not in ("-m", "--multirun")]
    arguments = _with_code(arguments)
    for argument in arguments:
        check_override(argument)
    return _hydra(["--multirun", *(_quoted(_forced(argument)) for argument in arguments)])


def ask(question: list[str], overrides: list[str]) -> int:
    """One of Hydra's own questions, as ["--cfg", "job"], of a single run with these settings; starts nothing."""
    arguments = _with_code(overrides)
    for argument in arguments:
        check_override(argument)
    return _hydra([*question, *map(_forced, arguments)])


def _with_code(arguments: list[str]) -> list[str]:
    """Import what `use` names, on the command line or else in the experiment's file, so that its names are known."""
    import yaml

    typed = [argument for argument in arguments if argument.lstrip("+").startswith("use=")]
    experiment = next((word.partition("=")[2] for word in arguments if word.startswith("experiment=")), "")
    if typed:
        found = yaml.safe_load(typed[-1].partition("=")[2])
    elif experiment in paths.experiments():
        found = experiment_file.read(paths.home(experiment).config_file(experiment)).get("use")
    else:
        found = None
    use = found if isinstance(found, list) else [found] if found else []
    if wrong := [name for name in use if not isinstance(name, str)]:
        raise checks.ConfigError("use", wrong[0], "must be a list of files or modules, e.g. use=[my_norm.py]")
    own_code.activate(use)
    others = [argument for argument in arguments if argument not in typed]
    return [*others, f"use={json.dumps(use)}"] if typed else others


def choices(group: str) -> list[str]:
    """The names that can be typed for a group: files of conf/, and what a user's code has registered."""
    registered: dict[str, Iterable[str]] = {"model": registry.MODELS, "optim": registry.OPTIMIZERS}
    registered |= {"data": DATASETS.keys() - DATASETS.own, "schedule": SCHEDULES.keys() - SCHEDULES.own}
    return sorted({*paths.choices(group), *registered.get(group, ())})


def help_lines() -> list[str]:
    """What can be typed beside the fields of a run."""
    groups = [f"{name}={'|'.join(choices(name))}" for name in GROUPS if name != "experiment"]
    fields = "fields of runs, e.g. model.width=50,100 or optim.lr=0.1: bnrepro/core/*_fields.py and schema.py"
    return ["choices and switches:", f"scale={'|'.join(schema.SCALES)}", *groups, *switches.help_lines(), fields]


def check_override(argument: str) -> None:
    """Raise ConfigError for an unknown key or group choice, with the nearest known name."""
    if argument.startswith("-"):
        raise checks.ConfigError("option", argument, "no such option, write fields as key=value")
    name, equals, value = argument.lstrip("+~").partition("=")
    if name == "hydra/launcher":
        engines.check_installed(value)
    if argument.startswith(("hydra.", "hydra/", "+hydra.", "++hydra.")):
        return
    known = [*checks.known_fields(), *switches.NAMES, *GROUPS]
    if not equals:
        raise checks.ConfigError(name, "", "write it as key=value" + checks.nearest(name, known))
    if name in (*GROUPS, "scale", "cifar"):
        _check_choice(name, value)
    elif name not in known and not checks.is_argument(name):
        raise checks.ConfigError(name, value, "no such field" + checks.nearest(name, known))


def _check_choice(name: str, value: str) -> None:
    allowed: list[str] | tuple[str, ...] = schema.SCALES
    if name != "scale":
        allowed = paths.experiments() if name == "experiment" else choices("data" if name == "cifar" else name)
    for word in value.split(","):
        if word.strip("\"' ") not in allowed:
            more = " (any other of torch.optim: optim=torch optim.name=AdamW)" if name == "optim" else ""
            raise checks.ConfigError(name, word, checks.one_of(word, allowed) + more)
    if name in ("experiment", "scale") and "," in value:
        raise checks.ConfigError(name, value, "only one at a time; `bnrepro reproduce` takes several experiments")


def _forced(argument: str) -> str:
    """With ++ a field that the chosen kind of model or optimizer lacks reaches our own check, which names it."""
    plain = argument.lstrip("+")
    name = plain.partition("=")[0]
    ours = name in checks.known_fields() or checks.is_argument(name)
    return f"++{plain}" if ours and name not in GROUPS else argument


def _quoted(argument: str) -> str:
    """In quotes, where it is a text that Hydra's grammar takes only so: other letters than a to z, or a second =."""
    name, equals, value = argument.partition("=")
    plain = not any(sign in value for sign in "\"'[](){},$\n")
    if equals and plain and ("=" in value or not value.isascii()) and not name.startswith("hydra"):
        return f"{name}='{value}'"
    return argument


@contextlib.contextmanager
def _save_before_requeue() -> Iterator[None]:
    """Slurm warns of a time limit or a preemption by SIGUSR2, and submitit's handler of it requeues the job and exits.

    A run that is training gets SIGTERM first, at which it saves and stops.
    """
    warning: int | None = getattr(signal, "SIGUSR2", None)  # Unix only, as Slurm is
    idle, warned = signal.getsignal(signal.SIGTERM), []
    requeue = signal.getsignal(warning) if warning else None
    if warning is None or not callable(requeue):  # another engine than Slurm
        yield
        return

    def warn(number: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) == idle:
            requeue(number, frame)
        else:
            warned.append(number)
            signal.raise_signal(signal.SIGTERM)

    signal.signal(warning, warn)
    try:
        yield
    finally:
        signal.signal(warning, requeue)
    if warned:
        requeue(warning, None)


def _hydra(arguments: list[str]) -> int:
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    _store_defaults()
    command = Command()
    typed, sys.argv = sys.argv, ["bnrepro run", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as exceptions instead of being printed
    try:
        hydra.main(version_base="1.3", config_path=str(paths.CONF), config_name="config")(command)()
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise checks.ConfigError("run", " ".join(word.lstrip("+") for word in arguments[1:]), reason) from None
    finally:
        sys.argv = typed
    return command.exit_code


def _store_defaults() -> None:
    """The dataclasses are the only place of defaults; the YAML files say what differs from them."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    base = {
        spec.name: identity.default(spec)
        for spec in dataclasses.fields(schema.Config)
        if spec.name in ("scale", "seed", "device", "threads", "task", "use", "code")
    }
    base |= {"train": dataclasses.asdict(schema.Train()), "probes": dataclasses.asdict(schema.Probes())}
    store.store(name="_base", node=base | switches.defaults(), provider="bnrepro")
    for group, plain in (("data", schema.Data), ("schedule", schema.Schedule)):
        store.store(group=group, name=f"_{group}", node=dataclasses.asdict(plain()), provider="bnrepro")
    for group, kinds in schema.KINDS.items():
        for kind, cls in kinds.items():
            store.store(group=group, name=f"_{kind}", node=dataclasses.asdict(cls()), provider="bnrepro")
            if kind in registry.MODELS or kind in registry.OPTIMIZERS:
                store.store(group=group, name=kind, node=dataclasses.asdict(cls()), provider="bnrepro")
    for group, plain, names in (("data", schema.Data, DATASETS), ("schedule", schema.Schedule, SCHEDULES)):
        for kind in names.keys() - names.own:
            store.store(group=group, name=kind, node=dataclasses.asdict(plain(kind=kind)), provider="bnrepro")
