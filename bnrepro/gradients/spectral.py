"""Largest singular values of many matrices at once, fast enough to be taken of every layer at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

STEPS = 10  # of Lanczos; on gradients of a deep sigmoid MLP with BN, 8 leave errors of 1e-5 and 10 of 1e-7
TOLERANCE = 1e-6  # relative, of the estimated error of an eigenvalue
ROUGH = 1e-5  # relative, of the residual: products are in float32; the last one, in float64, squares the error
BOUND = 1e-3  # relative, of the residual, which the error never exceeds however close the next eigenvalue is
ABOVE = 1e-6  # relative: no eigenvalue may lie further above the one that was found
PIECE = 2**14  # columns; float32 loses digits over longer sums, which are taken by pieces in float64
DENSE = 512  # up to this size Gram matrices pay; beyond, products with the matrix and its transpose do
SAFE = (1e-25, 1e25)  # sums of squares whose terms float32 can hold


@torch.no_grad()
def spectral_norms(matrices: Sequence[Tensor]) -> list[float]:
    """Largest singular value of each [out, in]; 0, inf or nan where the largest entry is.

    The root of the largest eigenvalue of the smaller Gram matrix, by Lanczos iterations on all matrices together (Golub
    & Van Loan, Matrix Computations, 4th ed., section 10.1) from a fixed start, so that a value depends on its matrix
    alone; where the residual does not vouch for it, or where an eigenvalue lies above it (the start may be orthogonal
    to the vector that is sought), by LAPACK; of matrices too large for that, by ARPACK. Good to 1e-6, and for those to
    1e-3 where the two largest singular values agree to 1e-3. The Gram matrices go to the host in one transfer.
    """
    wide = [_wide_rows(matrix) for matrix in matrices]
    small = [n for n, matrix in enumerate(wide) if len(matrix) <= DENSE]
    found = dict(zip(small, _of_small([wide[n] for n in small]), strict=True)) if small else {}
    return [found[n] if n in found else _of_large(matrix) for n, matrix in enumerate(wide)]


def _wide_rows(matrix: Tensor) -> Tensor:
    """At least float32, and with no more rows than columns."""
    wide = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    return wide if wide.shape[0] <= wide.shape[1] else wide.T


def _of_small(matrices: list[Tensor]) -> list[float]:
    grams = _grams(matrices)
    scales = np.ones(len(matrices))
    for n in np.flatnonzero(~_safe(grams)):  # the squares of gradients of 1e-20 underflow
        scales[n] = matrices[n].abs().amax().item()
        grams[n] = _grams([matrices[n] / scales[n]], len(grams[n]))[0] if 0 < scales[n] < math.inf else 0
    values = _eigenvalues(grams)
    return [float(scale * math.sqrt(value)) if 0 < scale < math.inf else float(scale)
            for scale, value in zip(scales, values, strict=True)]  # fmt: skip


def _grams(matrices: list[Tensor], size: int = 0) -> np.ndarray:
    """matrix @ matrix.T of each, padded with zeros to the size of the largest: [n, size, size]."""
    size = size or max(map(len, matrices))
    grams = matrices[0].new_zeros(len(matrices), size, size)
    for gram, matrix in zip(grams, matrices, strict=True):
        gram[: len(matrix), : len(matrix)] = _gram(matrix)
    return grams.cpu().numpy()


def _gram(matrix: Tensor) -> Tensor:
    if matrix.shape[1] <= PIECE or matrix.device.type == "mps":
        return matrix @ matrix.T
    return sum((part @ part.T for part in (piece.double() for piece in matrix.split(PIECE, dim=1))), 0.0)


def _safe(grams: np.ndarray) -> np.ndarray:
    squares = np.trace(grams, axis1=1, axis2=2)
    return (squares > SAFE[0]) & (squares < SAFE[1])


def _eigenvalues(grams: np.ndarray) -> np.ndarray:
    """The largest of each [n, size, size]."""
    traces = np.trace(grams, axis1=1, axis2=2)
    units = grams / np.where(traces > 0, traces, 1)[:, None, None]
    values, good = _lanczos(lambda v: (units @ v[:, :, None])[:, :, 0], units[:, 0], STEPS)
    for n in np.flatnonzero(~good | (good & _surpassed(units, values))):
        values[n] = max(0.0, _by_lapack(units[n].astype(float)))  # float32 fails on gradients of dead nets
    return values * traces


def _surpassed(units: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether an eigenvalue lies above the value found: whether (1 + ABOVE) value - A has a Cholesky factor."""
    matrices = -torch.from_numpy(units).double()
    size = matrices.shape[-1]
    padded = np.diagonal(units, axis1=1, axis2=2) > 0
    sizes = np.where(padded.any(1), size - padded[:, ::-1].argmax(1), 1)
    above = np.zeros(len(units), dtype=bool)
    for own in np.unique(sizes):
        (which,) = np.nonzero((sizes == own) & (values > 0))
        shifted = matrices[which, :own, :own]
        shifted.diagonal(dim1=1, dim2=2).add_(torch.from_numpy(values[which, None] * (1 + ABOVE)))
        above[which] = torch.linalg.cholesky_ex(shifted).info.numpy() > 0
    return above


def _by_lapack(gram: np.ndarray) -> float:
    """By torch, whose number of threads is set; numpy's starts one on every core, however busy the machine is."""
    return torch.linalg.eigvalsh(torch.from_numpy(gram))[-1].item()


def _of_large(matrix: Tensor) -> float:
    """By ARPACK, which restarts: gradients of a small batch have a low rank, and lose orthogonality early."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    scale = matrix.abs().amax().item()
    if not 0 < scale < math.inf:
        return scale
    unit = matrix / scale
    size = len(unit)

    def apply(v: np.ndarray) -> np.ndarray:
        return (unit @ (torch.from_numpy(v).to(unit) @ unit)).cpu().double().numpy()

    gram = LinearOperator((size, size), matvec=lambda v: apply(v.ravel()), dtype=float)
    try:
        _, vectors = eigsh(gram, 1, which="LA", tol=ROUGH, v0=_start(size, float))
    except ArpackNoConvergence:
        return scale * math.sqrt(_by_lapack((unit.double() @ unit.double().T).cpu().numpy()))
    parts = zip(torch.from_numpy(vectors[:, 0].copy()).split(DENSE), unit.split(DENSE), strict=True)
    return scale * np.linalg.norm(sum(part @ rows.cpu().double() for part, rows in parts)).item()


def _start(size: int, dtype: type) -> np.ndarray:
    start = np.random.default_rng(0).standard_normal(size).astype(dtype)
    return start / np.linalg.norm(start)


def _lanczos(apply: Callable, like: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Largest eigenvalue of each symmetric matrix, and whether it is good, from apply(v [n, size]) -> A v.

    The error of a Ritz value is at most its residual, and about the residual squared over the gap to the next.
    """
    count, size = like.shape
    steps = min(steps, size)
    v = np.repeat(_start(size, like.dtype)[None], count, axis=0)
    basis = np.zeros((count, steps, size), like.dtype)  # orthogonality is lost to rounding if not enforced
    tridiagonal, beside, top = np.zeros((count, steps, steps)), np.zeros(count), np.zeros(count)
    for step in range(steps):
        if step:
            tridiagonal[:, step, step - 1] = beside
        basis[:, step] = v
        w = apply(v)
        along = basis @ w[:, :, None]
        w = w - (basis.transpose(0, 2, 1) @ along)[:, :, 0]
        tridiagonal[:, step, step] = along[:, step, 0]
        beside, top = np.sqrt(np.einsum("ij,ij->i", w, w)), np.maximum(top, along[:, step, 0])
        beside[beside <= TOLERANCE * top] = 0  # what is left is rounding
        v = w / np.where(beside > 0, beside, np.inf)[:, None].astype(like.dtype)
    values, vectors = np.linalg.eigh(tridiagonal)
    residual = np.abs(vectors[:, -1, -1] * beside)
    gap = values[:, -1] - (values[:, -2] if steps > 1 else 0) - residual
    error = np.where(gap > residual, np.divide(residual**2, gap, where=gap > 0, out=residual.copy()), residual)
    largest = values[:, -1].clip(0)
    return largest, (error <= TOLERANCE * largest) & (residual <= BOUND * largest)
