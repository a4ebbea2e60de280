"""What a run ran on: hardware, versions and commit, and nothing private (no host, user or path)."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from bnrepro.core import paths


@cache
def commit() -> tuple[str, bool | None]:
    """(hash, dirty) of the checkout this code runs from or was installed from; ("unknown", None) without one."""
    if paths.INSTALLED:
        return _built_from(paths.ROOT / "commit")
    if not (paths.ROOT / ".git").exists():  # the checkout of somebody's project around a copy is not ours
        return "unknown", None
    try:
        head = _git("rev-parse", "HEAD")
        return head[:12], bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", None


def _built_from(file: Path) -> tuple[str, bool | None]:
    """What the build wrote: the hash, followed by "dirty" where files differed from it."""
    head, _, state = file.read_text().partition(" ") if file.exists() else ("unknown", "", "")
    return head[:12], None if head == "unknown" else bool(state)


@cache
def versions() -> dict[str, str]:
    names = ("torch", "torchvision", "numpy", "pandas", "matplotlib", "hydra-core")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, object]:
    facts: dict[str, object] = {"machine": platform.machine(), "cores": os.cpu_count(), "processor": _processor()}
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", paths.ROOT, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()
