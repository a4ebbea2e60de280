"""Normalisation layers as torch modules, written like the equations of their papers.

They need torch and nothing else, so that they can be imported into any project. What may not enter: configurations,
names that a user types, training.
"""

from bnrepro.norms.batch_norm import BatchNormFunction, BatchNormManual
from bnrepro.norms.evaluation import (
    BATCH_NORMS,
    TRACKING,
    batch_statistics,
    evaluating,
    population_statistics,
    tracking,
)
from bnrepro.norms.ghost import GhostBatchNorm
from bnrepro.norms.lp import LpNorm
from bnrepro.norms.noise import Noise
from bnrepro.norms.renorm import BatchRenorm, Bounds
from bnrepro.norms.shapes import batch_dims

__all__ = [
    "BATCH_NORMS", "TRACKING", "BatchNormFunction", "BatchNormManual", "BatchRenorm", "Bounds", "GhostBatchNorm",
    "LpNorm", "Noise", "batch_dims", "batch_statistics", "evaluating", "population_statistics",
    "tracking",
]  # fmt: skip
