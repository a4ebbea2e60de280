"""Optional packages: the one command that installs what is missing, which works as typed wherever bnrepro came from."""

from __future__ import annotations

import importlib.metadata
import re


def command(extra: str) -> str:
    """`pip install` with the requirements of an extra as pyproject.toml names them, e.g. of "tensorboard"."""
    try:
        lines = importlib.metadata.requires("bnrepro") or []
    except importlib.metadata.PackageNotFoundError:  # imported from a folder, never installed
        lines = []
    parts = [line.partition(";") for line in lines]
    found = [need.strip() for need, _, mark in parts if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", mark)]
    return f"pip install {' '.join(repr(need) for need in found or [extra])}"
