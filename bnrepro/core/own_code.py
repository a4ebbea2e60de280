"""A user's files and modules that `use` names: found, hashed, imported, and copied beside the run that has them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bnrepro.core import registry
from bnrepro.core.setting import ConfigError

FOLDER = "code"  # beside config.json


@dataclass(frozen=True)
class Source:
    """One entry of `use`: a file that ends in .py, or a module by its dotted name, with all files of its package."""

    name: str
    root: Path  # what the names of the files are relative to
    files: dict[str, bytes]

    @property
    def digest(self) -> str:
        """SHA-256 over names and contents, 16 hex digits."""
        total = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            total.update(f"{name}\0{len(content)}\0".encode() + content)
        return total.hexdigest()[:16]


LOADED: dict[str, list[registry.Registration]] = {}  # what each source registered when it was imported, by its digest
ACTIVE: list[Source] = []


def activate(use: Iterable[str], frozen: Path | None = None, expected: list[str] | None = None) -> list[str]:
    """Import what `use` names, in this order, and let its names be known instead of those of the last call.

    Returns the digests. Files are looked for from the working directory, or in `frozen`, the copy beside a run. Raises
    ConfigError for what is not there, cannot be imported or registers a name that is taken, and, before anything is
    imported, where the digests are not those `expected`.
    """
    sources = [_find(name, frozen) for name in use]
    if expected is not None and [source.digest for source in sources] != expected:
        raise ConfigError("use", ", ".join(use), f"{frozen or 'the file'} is not what the run was made with")
    names = [name for source in sources for name in source.files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError("use", ", ".join(sorted(twice)), "stands there twice; a run keeps its code in one folder")
    for source in ACTIVE:
        for registration in LOADED[source.digest]:
            registry.leave(registration)
    ACTIVE.clear()
    for source in sources:
        _load(source)
        ACTIVE.append(source)
    return [source.digest for source in sources]


def copy(digests: list[str], directory: Path) -> None:
    """Write the files of the active sources with these digests to directory/code."""
    for source in (source for source in ACTIVE if source.digest in digests):
        for name, content in source.files.items():
            path = directory / FOLDER / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _find(name: str, frozen: Path | None) -> Source:
    if name.endswith(".py"):
        path = frozen / Path(name).name if frozen else Path(name).expanduser()
        return Source(name, path.parent, {path.name: _content(name, path)})
    top = name.partition(".")[0]
    root = frozen or _root(name, top)
    if (root / f"{top}.py").exists():
        return Source(name, root, {f"{top}.py": _content(name, root / f"{top}.py")})
    paths = sorted((root / top).rglob("*.py"))
    if not paths:
        raise ConfigError("use", name, "must be a file that ends in .py, or a module that can be imported")
    return Source(name, root, {path.relative_to(root).as_posix(): _content(name, path) for path in paths})


def _root(name: str, top: str) -> Path:
    """The folder that holds the module or package, the working directory first."""
    if Path(f"{top}.py").exists() or Path(top, "__init__.py").exists():
        return Path.cwd()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError("use", name, "must be a file that ends in .py, or a module that can be imported")
    return Path(spec.origin).parents[1 if spec.submodule_search_locations else 0]


def _content(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError("use", name, f"{path} cannot be read ({error.strerror})") from None


def _load(source: Source) -> None:
    """Import it, or, where it has been imported in this process, enter again what it registered."""
    known = LOADED.get(source.digest)
    if known is not None:
        for registration in known:
            registry.enter(registration)
        return
    before = list(registry.REGISTERED)
    try:
        _import(source)
    except Exception as error:  # it is a user's: whatever it raises is his to read
        for registration in [one for one in registry.REGISTERED if one not in before]:
            registry.leave(registration)
        words = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
        raise ConfigError("use", source.name, f"cannot be imported ({' '.join(words.split())})") from error
    LOADED[source.digest] = [one for one in registry.REGISTERED if one not in before]


def _import(source: Source) -> None:
    if not source.name.endswith(".py"):
        for name in [name for name in sys.modules if name.partition(".")[0] == source.name.partition(".")[0]]:
            del sys.modules[name]  # another version of it
        sys.path.insert(0, str(source.root))
        try:
            importlib.import_module(source.name)
        finally:
            sys.path.remove(str(source.root))
        return
    path = source.root / next(iter(source.files))
    name = f"bnrepro_own_{path.stem}_{source.digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, "a path that ends in .py has a loader"
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # where dataclasses look for their types
    try:
        exec(compile(source.files[path.name], str(path), "exec"), module.__dict__)  # what was hashed, not the file now
    except BaseException:
        del sys.modules[name]
        raise
