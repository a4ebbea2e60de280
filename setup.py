"""The one step of the build that pyproject.toml cannot say: what lies at the top of the repository goes into the wheel.

conf/, experiments/, results/ and the documents that verbs read are copied to bnrepro/_share, where
bnrepro.core.paths finds them, with the commit they are of. An editable install reads them in place.
"""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TOP = Path(__file__).parent
SHARED = ("conf", "experiments", "results", "README.md", "DEVIATIONS.md")


class BuildWithShared(build_py):
    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "bnrepro" / "_share"
        for path in _files():
            self.mkpath(str(target / path.parent.relative_to(TOP)))
            self.copy_file(str(path), str(target / path.relative_to(TOP)))
        if commit := _commit():
            (target / "commit").write_text(commit)


def _files():
    found = [path for name in SHARED for path in (TOP / name, *(TOP / name).rglob("*"))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def _commit():
    """The hash, and "dirty" where files differ from it; nothing outside of a checkout."""
    if not (TOP / ".git").exists():
        return ""
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=TOP, check=True, capture_output=True, text=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{head} dirty" if changed else head


setup(cmdclass={"build_py": BuildWithShared})
