"""What `bnrepro power` and `bnrepro decide` are given, as words, turned into what they do."""

from __future__ import annotations

import json
from pathlib import Path

from bnrepro.core import paths, records
from bnrepro.core.checks import ConfigError, one_of
from bnrepro.core.schema import SCALES
from bnrepro.evidence import decide, power

OWN = ("until", "budget")


def show_power(names: list[str], options: dict[str, str], as_json: bool) -> int:
    """Of the published results, or of OUT/SCALE where either is given; all experiments that have claims, if none is."""
    homes = {name: _home(name, options) for name in names or paths.experiments()}
    if not names:
        homes = {name: home for name, home in homes.items() if (home / "claims.csv").exists()}
    if not homes:
        raise records.RecordError("no claims there; draw them: bnrepro draw")
    found = [power.outlook(name, home) for name, home in homes.items()]
    print(json.dumps(power.as_values(found), indent=1) if as_json else power.text(found))
    return 0


def _home(name: str, options: dict[str, str]) -> Path:
    if name not in paths.experiments():
        raise ConfigError("experiment", name, one_of(name, paths.experiments()))
    if not options:
        return paths.home(name).results / name
    return Path(options.get("out", "outputs")) / options.get("scale", "quick") / name


def run_decide(words: list[str]) -> int:
    """NAMES and overrides, with until=decided and budget=TIME, which are ours; the rest goes on to every sweep."""
    from bnrepro.plan import hydra_app

    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word] + [options[key] for key in ("experiment",) if key in options]
    if not names:
        raise ConfigError("experiment", None, f"name the experiments: {', '.join(paths.experiments())}")
    for name in names:
        if name not in paths.experiments():
            raise ConfigError("experiment", name, one_of(name, paths.experiments()))
    _check(options)
    taken = (*OWN, "experiment", "seed")
    overrides = [word for word in words if "=" in word and word.partition("=")[0] not in taken]
    told = options.get("budget", "")
    budget = decide.seconds_of(told) if told else None
    scale, out = options.get("scale", "quick"), Path(options.get("out", "outputs"))
    asked = decide.Request(tuple(dict.fromkeys(names)), tuple(overrides), scale, out, budget, told)
    code = decide.run(asked, hydra_app.run)
    print(f"steps: {asked.out / asked.scale / 'steps.csv'}; verdicts: bnrepro draw or report")
    return code


def _check(options: dict[str, str]) -> None:
    if options.get("until", "decided") != "decided":
        raise ConfigError("until", options["until"], "must be decided")
    if options.get("scale", "quick") not in SCALES:
        raise ConfigError("scale", options["scale"], one_of(options["scale"], SCALES))
    for name in ("seed", "dry_run", "launch", "engine_minutes"):
        if name in options:
            raise ConfigError(name, options[name], "is not for until=decided: the plan of looks says which seeds, "
                              "and budget=TIME for how long")  # fmt: skip
