"""Any dataset of torchvision.datasets by its name; torchvision finds, checks and downloads its files."""

from __future__ import annotations

import importlib.metadata
import inspect
from typing import Any

import numpy as np

from bnrepro.core.schema import Data
from bnrepro.core.setting import nearest
from bnrepro.data import downloads
from bnrepro.data.arrays import EMBEDDED, Arrays, DataError, checked, pack


def read(config: Data) -> Arrays:
    """The training and the test split of config.dataset, with config.arguments for both.

    Raises DataError naming data.dataset for a name, arguments or images that cannot be used, and data.root for files.
    """
    made = _class(config)
    train, test = (_split(config, made, training) for training in (True, False))
    try:
        names = tuple(map(str, getattr(train, "classes", ()) or range(int(_labels(train).max()) + 1)))
        first, second = (checked((_images(part), _labels(part)), len(names)) for part in (train, test))
        return pack(first, second, names)
    except (TypeError, ValueError) as error:
        raise DataError("data.dataset", config.dataset, f"cannot be used: {error}") from error


def _class(config: Data) -> Any:
    try:
        from torchvision import datasets
    except ImportError:
        command = f"pip install torchvision torch=={importlib.metadata.version('torch')}"  # the release that fits it
        raise DataError("data.kind", "torchvision", f"not installed; {command}") from None
    made = getattr(datasets, str(config.dataset), None)
    if config.dataset not in datasets.__all__ or not inspect.isclass(made):
        hint = nearest(str(config.dataset), datasets.__all__)
        raise DataError("data.dataset", config.dataset, f"is no class of torchvision.datasets{hint}")
    if not {"train", "split"} & inspect.signature(made).parameters.keys():
        raise DataError("data.dataset", config.dataset, "has no training and test split to choose")
    return made


def _split(config: Data, made: Any, training: bool) -> Any:
    parameters = inspect.signature(made).parameters
    which: dict[str, Any] = {"train": training} if "train" in parameters else {"split": "train" if training else "test"}
    if "download" in parameters:
        which["download"] = True
    try:
        inspect.signature(made).bind(str(downloads.root(config)), **which, **config.arguments)
    except TypeError as error:
        raise DataError("data.arguments", config.arguments, f"{config.dataset}: {error}") from None
    try:
        return made(str(downloads.root(config)), **which, **config.arguments)
    except ValueError as error:  # an argument's value
        raise DataError("data.arguments", config.arguments, f"{config.dataset}: {error}") from error
    except (OSError, RuntimeError, ImportError) as error:
        words = f"{config.dataset} is not there and cannot be downloaded ({error}): put its files there {EMBEDDED}"
        raise DataError("data.root", config.root, words) from error


def _images(split: Any) -> np.ndarray:
    """uint8 [N,C,H,W]: the array that the dataset holds, where it shows the same images, or else image by image."""
    first = _pixels(split[0][0])
    held = getattr(split, "data", None)
    if held is not None:
        array = np.asarray(held)
        for images in _layouts(array):
            if images.shape[1:] == first.shape and np.array_equal(images[0], first):
                return images
    return np.stack([_pixels(split[index][0]) for index in range(len(split))])


def _layouts(array: np.ndarray) -> list[np.ndarray]:
    if array.ndim == 3:
        return [array[:, None]]
    return [array, array.transpose(0, 3, 1, 2)] if array.ndim == 4 else []


def _pixels(image: Any) -> np.ndarray:
    """A PIL image as uint8 [C,H,W]."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _labels(split: Any) -> np.ndarray:
    for name in ("targets", "labels"):
        if (held := getattr(split, name, None)) is not None and len(held) == len(split):
            labels = np.asarray(held)
            if labels.ndim == 1 and labels[0] == split[0][1]:
                return labels
    return np.array([split[index][1] for index in range(len(split))])
