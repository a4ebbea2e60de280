"""The two files of a new experiment, written where the user stands: they run, draw and keep the contract as written."""

from __future__ import annotations

import re
from pathlib import Path

from bnrepro.core import paths
from bnrepro.core.checks import ConfigError
from bnrepro.core.files import write_text

TEMPLATES = Path(__file__).parent


def write(name: str) -> list[Path]:
    """Write conf/experiment/NAME.yaml and experiments/NAME.py into the user's folder, else the one where he stands.

    Raises ConfigError for a name that cannot be one, or that is taken there.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError("new", name, "must be of the characters a-z, 0-9 and _, a letter first")
    folder = paths.own() or paths.below(Path.cwd())
    files = {folder.config_file(name): "experiment.yaml.template", folder.script(name): "experiment.py.template"}
    for path in files:
        if path.exists():
            raise ConfigError("new", name, f"{path} is there already")
    for path, template in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (TEMPLATES / template).read_text(encoding="utf-8")
        write_text(text.replace("NAME", name), path)
    return list(files)
