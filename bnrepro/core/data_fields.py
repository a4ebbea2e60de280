"""The fields of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnrepro.core.registry import DATASETS
from bnrepro.core.setting import ConfigError, setting


@dataclass
class Data:
    """Which images, how they are prepared and in what batches they come."""

    kind: str = setting("mnist5k", "dataset", choices=DATASETS)
    name: str | None = setting(None, "name shown with results, e.g. cifar10-jpeg for an image folder; null: the kind")
    root: str = setting("data", "directory of torchvision's datasets and of decoded image folders", identity=False)
    path: str | None = setting(None, "directory of an image folder: train/CLASS/*, test/CLASS/*", identity=False)
    image: str = setting("native", "native shape, or padded and repeated to 3x32x32", choices=("native", "rgb32"))
    normalize: str = setting(
        "channel", "z-score by the training set: per channel, per pixel, or none; or binary, 1 above half grey",
        choices=("channel", "pixel", "none", "binary"),
    )  # fmt: skip
    crop: int = setting(0, "padding in pixels of the random crop, 0 for none", least=0, most=512)
    flip: bool = setting(False, "random horizontal flip")
    train_size: int | None = setting(None, "training images, drawn at random once for all seeds; null for all", least=1)
    valid_size: int = setting(0, "images held out of the training set for choosing settings", least=0)
    test_size: int | None = setting(None, "test images, drawn at random once for all seeds; null for all", least=1)
    batch_size: int = setting(128, "images in a training batch", least=1)
    clump: int = setting(
        1, "images of one label that follow each other in the order of an epoch; 1: in any order", least=1
    )
    last_batch: str = setting(
        "drop", "an epoch's incomplete last batch: drop it, so that every batch statistic is over the same number, "
        "or keep it unless it is a single image", choices=("drop", "keep"),
    )  # fmt: skip
    shape: list[int] = setting([1, 28, 28], "channels, height, width of synthetic images; [K,1,1] for a linear map")
    size: int = setting(1000, "synthetic training images (a fifth as many for test), inputs of a linear map", least=5)
    drawn: str = setting(
        "once", "matrix and inputs of a linear map: drawn once, the same for every seed, or anew for each seed",
        choices=("once", "per_seed"),
    )  # fmt: skip
    signal: float = setting(1.0, "strength of the class pattern in synthetic images, 0 for pure noise", least=0)
    dataset: str | None = setting(None, "the name in torchvision.datasets of kind=torchvision, e.g. CIFAR100")
    arguments: dict[str, Any] = setting({}, "arguments of a torchvision dataset, or of one that was registered")

    @property
    def shown(self) -> str:
        """The name that stands beside results."""
        return self.name or self.dataset or self.kind

    def check(self) -> None:
        """What the fields of the data tell together. Raises ConfigError."""
        if self.kind == "image_folder" and self.path is None:
            raise ConfigError("data.path", None, "must name the directory that holds train/ and test/")
        if self.kind == "synthetic" and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ConfigError("data.shape", self.shape, "must be [channels,height,width], each at least 1")
        if self.kind == "linear_map" and self.shape[1:] != [1, 1]:
            raise ConfigError("data.shape", self.shape, "must be [K,1,1] for data.kind=linear_map")
        if self.kind == "linear_map" and self.valid_size:
            raise ConfigError("data.valid_size", self.valid_size, "must be 0 for data.kind=linear_map")
        self._check_names()

    def _check_names(self) -> None:
        if self.kind != "torchvision":
            DATASETS.check("data.arguments", self.kind, self.arguments)
        if (self.dataset is None) is (self.kind == "torchvision"):
            expected = "names a class of torchvision.datasets for data.kind=torchvision and for no other, e.g. CIFAR100"
            raise ConfigError("data.dataset", self.dataset, expected)
