from __future__ import annotations

import pytest
from sweeps import Sweep


@pytest.fixture(scope="session")
def expected(tmp_path_factory) -> dict[str, bytes]:
    """metrics.csv and layers.csv of the four runs by the local engine, undisturbed."""
    sweep = Sweep(tmp_path_factory.mktemp("local") / "out", "jobs=2")
    code, stdout, stderr = sweep.run()
    assert code == 0, stdout + stderr
    tables = sweep.tables()
    assert len(tables) == 8
    return tables
