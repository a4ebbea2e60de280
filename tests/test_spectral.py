"""Largest singular values against LAPACK, on matrices that iterations find hard."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bnrepro.gradients import spectral
from bnrepro.gradients.spectral import spectral_norms


def matrix(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_spectrum(values: list[float]) -> torch.Tensor:
    """A square matrix with these singular values."""
    left, right = (torch.linalg.qr(matrix(len(values), len(values), seed=seed).double())[0] for seed in (1, 2))
    return left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right


HARD = {
    "wide": matrix(20, 300),
    "tall": matrix(300, 20),
    "column": matrix(40, 1),
    "one entry": torch.tensor([[-3.0]]),
    "rank one": torch.outer(matrix(50), matrix(30, seed=1)),
    "orthogonal": with_spectrum([1.0] * 30),
    "no gap": with_spectrum([1.0, 0.9999, *np.linspace(0.9, 0.1, 60)]),
    "flat": with_spectrum(list(np.linspace(1, 0.99, 80))),
    "tiny": matrix(20, 30) * 1e-25,
    "huge": matrix(20, 30) * 1e30,
    "bfloat16": matrix(9, 9).bfloat16(),
    "large": matrix(spectral.DENSE + 10, spectral.DENSE + 90),
    "large, of rank 20": matrix(spectral.DENSE + 256, 20) @ matrix(20, spectral.DENSE + 900, seed=1),
}


@pytest.mark.parametrize("name", HARD)
def test_agrees_with_lapack(name):
    expected = np.linalg.svd(HARD[name].double().numpy(), compute_uv=False)[0]
    assert spectral_norms([HARD[name]])[0] == pytest.approx(expected, rel=1e-6, abs=0)


def away_from_the_start(size: int, others: list[float], dtype: torch.dtype) -> torch.Tensor:
    """A symmetric matrix whose top vector, of value 1, is orthogonal to the start of the iterations."""
    start = torch.from_numpy(spectral._start(size, float))
    basis = torch.linalg.qr(torch.cat([start[:, None], matrix(size, size - 1).double()], 1))[0]
    return (basis @ torch.diag(torch.tensor([others[0], 1.0, *others[1:]])[:size].double()) @ basis.T).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [2, 3, 40, 200])
def test_a_start_that_is_orthogonal_to_the_top_vector_misses_nothing(size, dtype):
    others = np.linspace(0.5, 0.1, size).tolist()
    assert spectral_norms([away_from_the_start(size, others, dtype)])[0] == pytest.approx(1, rel=1e-6)
    assert spectral_norms([away_from_the_start(size, [0.9] * size, dtype)])[0] == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 301_056), (1, 4_000_000), (4, 1_000_000), (20_000, 30)])
def test_long_sums_keep_their_digits(shape):
    values = matrix(*shape) + 0.01
    wide = values.double() if shape[0] < shape[1] else values.double().T
    expected = math.sqrt(torch.linalg.eigvalsh(wide @ wide.T)[-1])
    assert spectral_norms([values])[0] == pytest.approx(expected, rel=1e-6)


def test_all_together_are_what_each_is_alone():
    matrices = [value.float() for name, value in HARD.items() if name != "no gap"]
    alone = [spectral_norms([value])[0] for value in matrices]
    assert spectral_norms(matrices) == pytest.approx(alone, rel=2e-6, abs=0)


@pytest.mark.parametrize("shape", [(3, 4), (spectral.DENSE + 1, spectral.DENSE + 2)])
def test_zero_and_not_finite(shape):
    zero, infinite, missing = torch.zeros(shape), torch.ones(shape), torch.ones(shape)
    infinite[0, 0], missing[0, 0] = -math.inf, math.nan
    found = spectral_norms([zero, infinite, missing, torch.ones(shape)])
    assert found[:2] == [0, math.inf] and math.isnan(found[2])
    assert found[3] == pytest.approx(math.sqrt(shape[0] * shape[1]), rel=1e-6)


def test_what_the_iterations_miss_is_computed_in_full(monkeypatch):
    monkeypatch.setattr(spectral, "STEPS", 2)
    expected = np.linalg.svd(HARD["flat"].numpy(), compute_uv=False)[0]
    assert spectral_norms([HARD["flat"]])[0] == pytest.approx(expected, rel=1e-6, abs=0)


def test_nothing():
    assert spectral_norms([]) == []
