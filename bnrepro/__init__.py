"""Reproduces the figures of the Batch Normalization literature.

`bnrepro.attach(model)` watches the gradients of any training loop, layer by layer, and `bnrepro.callbacks` those of
Lightning and transformers; `bnrepro.load(NAME)` gives the tables of an experiment as pandas frames and
`bnrepro.figure(NAME)` its figure, also drawn into one of yours; `bnrepro.norms` holds the norms as torch modules;
`bnrepro.register` adds a norm, a model, an optimizer, ... of your own under a name.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["attach", "callbacks", "figure", "load", "norms", "register"]

if TYPE_CHECKING:
    from bnrepro import norms
    from bnrepro.core import register
    from bnrepro.draw.export import figure
    from bnrepro.draw.load import load
    from bnrepro.gradients import callbacks
    from bnrepro.gradients.attach import attach

_MODULES = {"callbacks": "bnrepro.gradients.callbacks", "norms": "bnrepro.norms", "register": "bnrepro.core.register"}
_FUNCTIONS = {"attach": "bnrepro.gradients.attach", "figure": "bnrepro.draw.export", "load": "bnrepro.draw.load"}


def __getattr__(name: str) -> Any:
    """Import what needs torch or pandas only when it is asked for, so that `bnrepro --help` stays fast."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
