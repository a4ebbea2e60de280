"""Decoded datasets as plain arrays, and the error for those that cannot be read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from bnrepro.core.checks import ConfigError

EMBEDDED = "or use data=mnist5k, which is embedded"


class DataError(ConfigError):
    """Data that cannot be read: one line with the field, the path, what is wrong with it and what to do instead."""

    def __init__(self, name: str, value: object, expected: str):
        super().__init__(name, value, " ".join(expected.splitlines()))


@dataclass(frozen=True)
class Arrays:
    """Decoded images, uint8 [N,C,H,W], and int64 labels [N]; sha256 (hex) is over the bytes of all four arrays."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    sha256: str


def pack(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], classes: tuple[str, ...]) -> Arrays:
    """Arrays from (images, labels) of the two splits."""
    parts = [np.ascontiguousarray(part) for images, labels in (train, test) for part in (images, labels.astype("<i8"))]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.data)
    train_images, train_labels, test_images, test_labels = parts
    return Arrays(train_images, train_labels, test_images, test_labels, tuple(classes), digest.hexdigest())


def checked(split: tuple[np.ndarray, np.ndarray], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels as they are packed. Raises ValueError unless they are uint8 [N,C,H,W] and 0 to classes - 1."""
    images, labels = (np.asarray(part) for part in split)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"images must be uint8 [N,C,H,W], got {images.dtype} {list(images.shape)}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers [{len(images)}], got {labels.dtype} {list(labels.shape)}")
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be 0 to {classes - 1}, one of each image, and at least one")
    return images, labels
