"""Reproduces the figures of the Batch Normalization literature.

`bnrepro.attach(model)` watches the gradients of any training loop, layer by layer.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["attach"]

if TYPE_CHECKING:
    from bnrepro.gradients.attach import attach


def __getattr__(name: str) -> object:
    """Import what needs torch only when it is asked for, so that `bnrepro --help` stays fast."""
    if name == "attach":
        from bnrepro.gradients.attach import attach

        return attach
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
