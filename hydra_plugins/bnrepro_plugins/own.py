"""The user's experiments, found by Hydra before the packaged ones, and nothing else of his folder.

His conf/ may belong to another project, with a config.yaml and groups of its own: only conf/experiment/NAME.yaml is
seen, of names that have experiments/NAME.py too.
"""

from __future__ import annotations

from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from bnrepro.core import paths


class OwnExperiments(FileConfigSource):
    @staticmethod
    def scheme() -> str:
        return "bnrepro"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") == "experiment"

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        folder = paths.own()
        return group == "experiment" and folder is not None and folder.has(Path(name).name)


class OwnFirst(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if folder := paths.own():
            search_path.prepend("bnrepro", f"bnrepro://{folder.conf}")
