"""Reproduces the figures of the Batch Normalization literature.

`bnrepro.attach(model)` watches the gradients of any training loop, layer by layer.
`bnrepro.register` adds a norm, a model, an optimizer, ... of your own under a name.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["attach", "register"]

if TYPE_CHECKING:
    from bnrepro.core import register
    from bnrepro.gradients.attach import attach


def __getattr__(name: str) -> object:
    """Import what needs torch only when it is asked for, so that `bnrepro --help` stays fast."""
    if name == "register":
        return importlib.import_module("bnrepro.core.register")
    if name == "attach":
        from bnrepro.gradients.attach import attach

        return attach
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
