"""Which arms of an experiment's union of grids a user has chosen, by a group such as model=mlp."""

from __future__ import annotations

import typing
from collections.abc import Mapping

from bnrepro.core.schema import KINDS

Grid = dict[str, object]


def chosen(grids: list[Grid], groups: Mapping[str, list[str]]) -> list[Grid]:
    """The grids that have one of the user's choices of each group; where none has, all, less what that kind lacks.

    `groups` is {"model": ["model=mlp", ...]}. A field of a kind that nobody asked for disturbs no run then.
    """
    for group, texts in groups.items():
        names = [text.partition("=")[2].strip("\"' ") for text in texts]
        if not any(group in grid for grid in grids):
            continue
        matching = [grid for grid in grids if group not in grid or set(_listed(grid[group])) & set(names)]
        grids = matching or [_without_others(grid, group, names) for grid in grids]
    return grids


def _without_others(grid: Grid, group: str, names: list[str]) -> Grid:
    """The grid less the fields of the group that some chosen kind lacks, or has as another type than its own kind."""
    kinds = KINDS.get(group, {})
    classes = [kinds[name] for name in (*names, *map(str, _listed(grid.get(group, [])))) if name in kinds]
    types = [typing.get_type_hints(cls) for cls in classes]

    def fits(axis: str) -> bool:
        section, _, field = axis.partition(".")
        return section != group or all(field in one and one[field] == types[0].get(field) for one in types)

    return {axis: values for axis, values in grid.items() if fits(axis)}


def _listed(values: object) -> list[object]:
    return values if isinstance(values, list) else [values]
