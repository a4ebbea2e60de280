"""Where things lie. One module joins paths, so that no other has to know.

Experiments stand in two places: those that come with the package, and those of the user, in the folder where he stands
(or above it) that has conf/experiment/ and experiments/. A name in both is the user's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_SHARED = _PACKAGE / "_share"  # what the build copies from the top of the repository; not there in a checkout
INSTALLED = _SHARED.is_dir()
ROOT = _SHARED if INSTALLED else _PACKAGE.parent
CONF = ROOT / "conf"
EXPERIMENTS = ROOT / "experiments"
RESULTS = ROOT / "results"
DEVIATIONS = ROOT / "DEVIATIONS.md"


def choices(group: str) -> list[str]:
    """The names that can be typed for a configuration group, e.g. choices("model"): the files of conf/GROUP."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def experiments() -> list[str]:
    """Every experiment, packaged or the user's: a name with conf/experiment/NAME.yaml and experiments/NAME.py."""
    return sorted({name for folder in (packaged(), own()) if folder for name in folder.names()})


@dataclass(frozen=True)
class Folder:
    """A place for experiments: where their two files lie, and their published tables and figures."""

    conf: Path
    scripts: Path
    results: Path

    def names(self) -> list[str]:
        return [path.stem for path in (self.conf / "experiment").glob("*.yaml") if self.has(path.stem)]

    def has(self, name: str) -> bool:
        return self.config_file(name).exists() and self.script(name).exists()

    def config_file(self, name: str) -> Path:
        """conf/experiment/NAME.yaml, which says what to run."""
        return self.conf / "experiment" / f"{name}.yaml"

    def script(self, name: str) -> Path:
        """experiments/NAME.py, which says what to show and what to claim."""
        return self.scripts / f"{name}.py"


def packaged() -> Folder:
    """The experiments that come with the package."""
    return Folder(CONF, EXPERIMENTS, RESULTS)


def own() -> Folder | None:
    """The user's: of the nearest folder from here upwards with conf/experiment/ and experiments/, if there is one."""
    try:
        here = Path.cwd()
    except FileNotFoundError:  # removed while somebody stands in it
        return None
    for folder in (here, *here.parents):
        if (folder / "conf" / "experiment").is_dir() and (folder / "experiments").is_dir():
            return None if folder.resolve() == ROOT else below(folder)
    return None


def below(folder: Path) -> Folder:
    return Folder(folder / "conf", folder / "experiments", folder / "results")


def home(name: str) -> Folder:
    """Where the experiment of this name lies: the user's folder before the packaged ones."""
    folder = own()
    return folder if folder is not None and folder.has(name) else packaged()


def whose(name: str) -> str:
    """What `bnrepro list` says of an experiment that is the user's; of a packaged one nothing."""
    if home(name) == packaged():
        return ""
    return "  (yours, instead of the packaged one)" if packaged().has(name) else "  (yours)"
