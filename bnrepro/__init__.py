"""Reproduces the figures of the Batch Normalization literature."""

__version__ = "0.1.0"
