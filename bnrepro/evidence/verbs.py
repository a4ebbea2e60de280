"""`bnrepro power` and `bnrepro decide`: the words that they are given, checked and handed on."""

from __future__ import annotations

import json
from pathlib import Path

from bnrepro.core import paths, records
from bnrepro.core.checks import ConfigError, one_of
from bnrepro.core.schema import SCALES

OURS = ("until", "budget", "experiment")  # everything else of a decision goes on to every sweep
NOT_OURS = ("seed", "dry_run", "launch", "engine_minutes")


def power(words: list[str], as_json: bool) -> int:
    """which open claims further seeds would decide, with what chance and cost: of results/, or of scale= and out="""
    from bnrepro.evidence import power as forecasts

    names, options = _split(words)
    for key in options.keys() - {"scale", "out"}:
        raise ConfigError(key, options[key], one_of(key, ("scale", "out")))
    homes = {name: _home(name, options) for name in names or paths.experiments()}
    if not names:
        homes = {name: home for name, home in homes.items() if (home / "claims.csv").exists()}
    if not homes:
        raise records.RecordError("no claims there; draw them: bnrepro draw")
    found = [forecasts.outlook(name, home) for name, home in homes.items()]
    print(json.dumps(forecasts.as_values(found), indent=1) if as_json else forecasts.text(found))
    return 0


def decide(words: list[str]) -> int:
    """run look after look until the claims are decided, hopeless, or budget=TIME is over"""
    from bnrepro.evidence import decide as loop
    from bnrepro.plan import hydra_app

    names, options = _split(words)
    if not names:
        raise ConfigError("experiment", None, f"name at least one of {', '.join(paths.experiments())}")
    if options.get("until", "decided") != "decided":
        raise ConfigError("until", options["until"], "must be decided")
    for name in NOT_OURS:
        if name in options:
            reason = "not with until=decided: its plan of looks says which seeds, and budget=TIME for how long"
            raise ConfigError(name, options[name], reason)
    told = options.get("budget", "")
    budget = loop.seconds_of(told) if told else None
    overrides = tuple(word for word in words if "=" in word and word.partition("=")[0] not in OURS)
    scale, out = options.get("scale", "quick"), Path(options.get("out", "outputs"))
    asked = loop.Request(tuple(dict.fromkeys(names)), overrides, scale, out, budget, told)
    code = loop.run(asked, hydra_app.run)
    print(f"steps: {out / scale / 'steps.csv'}; figures and verdicts: {out / scale}")
    return code


def _split(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Names of experiments, also as experiment=NAME, and key=value options."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word] + [options[key] for key in ("experiment",) if key in options]
    for name in names:
        if name not in paths.experiments():
            raise ConfigError("experiment", name, one_of(name, paths.experiments()))
    if options.get("scale", "quick") not in SCALES:
        raise ConfigError("scale", options["scale"], one_of(options["scale"], SCALES))
    return names, options


def _home(name: str, options: dict[str, str]) -> Path:
    if not options:
        return paths.home(name).results / name
    return Path(options.get("out", "outputs")) / options.get("scale", "quick") / name
