"""The dataset of a name that can be typed: conf/data/NAME.yaml read without Hydra, for `bnrepro data`."""

from __future__ import annotations

from typing import Any

import yaml

from bnrepro.core import checks, paths
from bnrepro.core.data_fields import Data


def config(name: str, fields: dict[str, Any]) -> Data:
    """The section data with these fields set. Raises ConfigError for one that it does not have, or a wrong value."""
    text = (paths.CONF / "data" / f"{name}.yaml").read_text(encoding="utf-8")
    held = yaml.safe_load(text.replace("${data.root}", str(fields.get("root", "data"))))
    found: Data = checks.section("data", {key: value for key, value in held.items() if key != "defaults"} | fields)
    return found
