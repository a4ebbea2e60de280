"""conf/experiment/NAME.yaml as plain values, its shape checked as a whole, so that a mistake is told before a step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnrepro.core.records import RecordError
from bnrepro.core.schema import KINDS, PLAIN
from bnrepro.core.setting import nearest

TEXTS = ("title", "source", "shows", "chosen", "easy", "hard", "headline")
SECTIONS = (*PLAIN, *KINDS)
KNOWN = (*TEXTS, *SECTIONS, "defaults", "scales", "looks", "task", "use", "seed", "device", "threads")
SCALE = ("cost", "note", "set", "vary")


def read(path: Path) -> dict[str, Any]:
    """The content. Raises RecordError, of one line that names file and key, for what is no experiment."""
    import yaml

    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _loader())
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RecordError(f"{path}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror})") from None
    _check(path, values)
    return dict(values)


def _check(path: Path, values: object) -> None:
    found = _fields(path, "the file", values, KNOWN)
    for name in TEXTS[:2]:
        if not isinstance(found.get(name), str):
            raise RecordError(f"{path}: {name}: must be a text")
    for name in SECTIONS:
        if name in found:
            _fields(path, name, found[name])
    for name, scale in _fields(path, "scales", found.get("scales")).items():
        held = _fields(path, f"scales.{name}", {} if scale is None else scale, SCALE)
        _fields(path, f"scales.{name}.set", held.get("set", {}))
        _check_vary(path, f"scales.{name}.vary", held.get("vary"))


def _check_vary(path: Path, where: str, vary: object) -> None:
    for grid in vary if isinstance(vary, list) else [{} if vary is None else vary]:
        for axis, values in _fields(path, where, grid).items():
            if axis.rpartition(".")[0] not in ("", *SECTIONS) or ("." not in axis and axis not in KNOWN):
                raise RecordError(f"{path}: {where}: {axis} is no field of a run{nearest(axis, KNOWN)}")
            if values == []:
                raise RecordError(f"{path}: {where}: {axis} holds no value")


def _fields(path: Path, where: str, values: object, known: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise RecordError(f"{path}: {where}: must be fields with values")
    for name in values:
        if known and name not in known:
            raise RecordError(f"{path}: {where}: no such key {name}{nearest(name, known)}")
    return values


def _loader() -> type:
    """That of plain values, which takes the last of two equal keys; here they are an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(names) > len(set(names)) and not self._merged(node):
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.MarkedYAMLError(problem=f"{twice} stands there twice", problem_mark=node.start_mark)
            return dict(super().construct_mapping(node, deep))

        @staticmethod
        def _merged(node: Any) -> bool:
            """Keys of `<<` are there beside those that replace them."""
            return getattr(node, "merged", False)

        def flatten_mapping(self, node: Any) -> None:
            node.merged = any(getattr(key, "value", None) == "<<" for key, _ in node.value)
            super().flatten_mapping(node)

    return Loader
