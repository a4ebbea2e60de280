"""Images as uint8 tensors on the device, and batches of them, any of which can be made without those before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnrepro.core.checks import ConfigError
from bnrepro.core.schema import Data
from bnrepro.core.seeds import stream
from bnrepro.data.sources import read

RGB32 = 32  # height and width of data.image=rgb32, in pixels
CHUNK = 256  # 256 * 255**2 < 2**24: sums of so many squared grey levels are exact in float32


@dataclass(frozen=True)
class Split:
    """Images, uint8 [N,C,H,W], and their labels, int64 [N], on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Three splits and what the training split says about the scale of its pixels.

    mean and std are in units of the grey scale from 0 to 1 and broadcast over a batch: [C,1,1] or, with
    data.normalize=pixel, [C,H,W]. shape is (C,H,W) after data.image. sha256 is that of the whole dataset as read.
    """

    train: Split
    valid: Split
    test: Split
    classes: int
    name: str
    sha256: str
    shape: tuple[int, int, int]
    mean: Tensor
    std: Tensor
    dtype: torch.dtype = torch.float32  # of what the model sees
    offset: Tensor = field(init=False)  # normalize() works on grey levels from 0 to 255: one rounding and one pass
    scale: Tensor = field(init=False)  # less per batch

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset", self.mean * 255)
        object.__setattr__(self, "scale", 1 / (self.std * 255))


def load(
    config: Data, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, seed: int = 0
) -> Dataset:
    """The dataset that `config` names, with its subsets drawn and its statistics taken, on `device`.

    The subsets are drawn by a fixed stream: the same for every seed, and a smaller training set is part of a larger
    one. Never the first images, since image folders are sorted by class. Raises ConfigError naming data.train_size,
    valid_size, test_size or image, and DataError for files that are missing or damaged. `seed` is that of the run: only
    a linear map with data.drawn=per_seed depends on it.
    """
    if config.kind == "linear_map":
        return linear_map(config, device, dtype, seed)
    arrays = read(config)
    held_out, rest = _held_out(config, len(arrays.train_labels))
    chosen = _subset("data.test_size", config.test_size, _shuffled("test", len(arrays.test_labels)), "test images")
    train, valid = (_split(config, arrays.train_images, arrays.train_labels, rows, device) for rows in (rest, held_out))
    test = _split(config, arrays.test_images, arrays.test_labels, chosen, device)
    mean, std = (part.to(device) for part in statistics(train.images, config.normalize))
    channels, height, width = train.images.shape[1:]
    name, classes, shape = config.shown, len(arrays.classes), (channels, height, width)
    return Dataset(train, valid, test, classes, name, arrays.sha256, shape, mean, std, dtype)


def linear_map(config: Data, device: str | torch.device, dtype: torch.dtype, seed: int = 0) -> Dataset:
    """Standard normal inputs x [N,K,1,1] with targets A x [N,K], A standard normal (Santurkar et al. 2018, Appendix A).

    K is data.shape[0], N is data.size; valid and test splits are empty. With data.drawn=once inputs and A are the same
    for every seed of a run, those of seed 0; with per_seed each has its own.
    """
    size = config.shape[0]
    draws = stream(seed if config.drawn == "per_seed" else 0, "linear_map", config.size, size)
    matrix = torch.randn(size, size, generator=draws, dtype=torch.float64)
    inputs = torch.randn(config.size, size, generator=draws, dtype=torch.float64)
    inputs, targets = inputs.to(device, dtype), (inputs @ matrix.T).to(device, dtype)
    whole, empty = (Split(inputs[:count, :, None, None], targets[:count]) for count in (config.size, 0))
    digest = hashlib.sha256(inputs.cpu().numpy().tobytes() + targets.cpu().numpy().tobytes()).hexdigest()
    mean, std = (make(size, 1, 1, device=device) for make in (torch.zeros, torch.ones))
    return Dataset(whole, empty, empty, size, config.shown, digest, (size, 1, 1), mean, std, dtype)


def _held_out(config: Data, count: int) -> tuple[Tensor, Tensor]:
    """Positions of the validation and of the training images."""
    order = _shuffled("train", count)
    if config.valid_size >= count:
        raise ConfigError("data.valid_size", config.valid_size, f"must be less than the {count} training images")
    rest = f"training images ({count} less data.valid_size={config.valid_size})"
    train = _subset("data.train_size", config.train_size, order[config.valid_size :], rest)
    return order[: config.valid_size], train


def _shuffled(name: str, count: int) -> Tensor:
    return torch.randperm(count, generator=stream(0, "subset", name))


def _subset(field: str, size: int | None, order: Tensor, what: str) -> Tensor:
    if size is not None and size > len(order):
        raise ConfigError(field, size, f"must be at most {len(order)}, the number of {what}")
    return order[:size]


def _split(config: Data, images: np.ndarray, labels: np.ndarray, chosen: Tensor, device: str | torch.device) -> Split:
    rows = chosen.sort().values.numpy()  # in the files' order, which keeps reading them local
    found = torch.from_numpy(images[rows]).to(device)
    if config.normalize == "binary":
        found = (found > 127).to(torch.uint8) * 255
    return Split(_rgb32(found) if config.image == "rgb32" else found, torch.from_numpy(labels[rows]).to(device))


def _rgb32(images: Tensor) -> Tensor:
    """Padded with zeros on all sides to 32x32; one channel becomes three views of itself, which takes no memory."""
    channels, height, width = images.shape[1:]
    if channels not in (1, 3) or height > RGB32 or width > RGB32:
        have = f"the images are {channels}x{height}x{width}"
        raise ConfigError("data.image", "rgb32", f"needs 1 or 3 channels and at most 32x32 pixels, but {have}")
    down, right = RGB32 - height, RGB32 - width
    padded = functional.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
    return padded.expand(-1, 3, -1, -1)


def statistics(images: Tensor, normalize: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (over N, in units of 0..1) of uint8 [N,C,H,W], per channel [C,1,1] or pixel [C,H,W].

    Computed exactly, from integer sums. Where all training images are equal the deviation is given as 1, so that they
    become 0 and a test image that differs there stays small. normalize="none" and "binary" give mean 0 and deviation 1.
    """
    if normalize in ("none", "binary"):
        return torch.zeros(images.shape[1], 1, 1), torch.ones(images.shape[1], 1, 1)
    total = torch.zeros(images.shape[1:], dtype=torch.int64, device=images.device)
    squares = total.clone()
    for chunk in images.split(CHUNK):
        levels = chunk.float()
        total += levels.sum(0).long()
        squares += levels.square_().sum(0).long()
    count = len(images)
    if normalize == "channel":
        count *= total[0].numel()
        total, squares = (part.sum((1, 2), keepdim=True) for part in (total, squares))
    pairs = list(
        zip(total.flatten().tolist(), squares.flatten().tolist(), strict=True)
    )  # Python's integers never overflow
    mean = [one / (255 * count) for one, _ in pairs]
    std = [((count * two - one * one) ** 0.5 / (255 * count)) or 1.0 for one, two in pairs]
    return torch.tensor(mean).view(total.shape), torch.tensor(std).view(total.shape)


def normalize(images: Tensor, dataset: Dataset) -> Tensor:
    """uint8 [B,C,H,W] -> dataset.dtype: (images / 255 - mean) / std."""
    if images.is_floating_point():  # inputs of a linear map are no grey levels
        return images
    return images.float().sub_(dataset.offset).mul_(dataset.scale).to(dataset.dtype)


def augment(images: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crops of the images [B,C,H,W] padded by `crop` black pixels, then horizontal flips of half of them.

    The same as torchvision's RandomCrop(H, padding=crop), RandomHorizontalFlip before ToTensor and Normalize, but with
    draws of their own for each image: first from the generator the corners, [B,2] in 0..2*crop, then [B] flips. The
    draws are small and made where the generator lives (on the CPU they are the same for every device); the images
    never leave theirs.
    """
    count, _, height, width = images.shape
    y = torch.arange(height, device=images.device).expand(count, -1)
    x = torch.arange(width, device=images.device).expand(count, -1)
    if crop:
        corner = _drawn(2 * crop + 1, (count, 2), generator).to(images.device)
    if flip:
        flipped = _drawn(2, (count, 1), generator).to(images.device)
        x = torch.where(flipped.bool(), width - 1 - x, x)
    if crop:
        y, x = y + corner[:, :1], x + corner[:, 1:]
        images = functional.pad(images, (crop,) * 4)
    return _gather(images, y, x)


def _drawn(below: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randint(below, shape, generator=generator, device=generator.device)


def _gather(images: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """images[b, :, y[b, i], x[b, j]] at [b, :, i, j], in one pass: six times as fast as indexing."""
    count, channels, _, width = images.shape
    places = (y[:, :, None] * width + x[:, None, :]).view(count, 1, -1)
    found = images.flatten(2).gather(2, places.expand(-1, channels, -1))
    return found.view(count, channels, y.shape[1], x.shape[1])


class Batches:
    """Training batches by the number of the optimizer step, counted from 1.

    The order of epoch e comes from stream(seed, "order", e) and the augmentation of step t from
    stream(seed, "augment", t): a continued run needs no saved state, and all arms of one seed see the same batches.
    Raises ConfigError naming data.batch_size where it exceeds the training set.
    """

    def __init__(self, dataset: Dataset, config: Data, seed: int):
        count, size = len(dataset.train), config.batch_size
        if size > count:
            raise ConfigError("data.batch_size", size, f"must be at most {count}, the number of training images")
        # a single image has no batch variance
        extra = config.last_batch == "keep" and count % size > 1
        self.steps_per_epoch = count // size + extra
        self._dataset, self._config, self._seed = dataset, config, seed
        self._epoch: int | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images, float32 [B,C,H,W], and labels, int64 [B]."""
        train, config, rows = self._dataset.train, self._config, self._rows(step)
        images = train.images.index_select(0, rows)
        if config.crop or config.flip:
            images = augment(images, config.crop, config.flip, stream(self._seed, "augment", step))
        return normalize(images, self._dataset), train.labels.index_select(0, rows)

    def of_epoch(self, step: int, count: int) -> Iterator[Tensor]:
        """Images of the first `count` batches of the epoch of this step, and of the next ones where it has fewer."""
        first = step - step % self.steps_per_epoch
        return (self(first + k)[0] for k in range(1, count + 1))

    def _rows(self, step: int) -> Tensor:
        if step < 1:
            raise ValueError(f"step={step}: steps are counted from 1")
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            labels, generator = self._dataset.train.labels, stream(self._seed, "order", epoch)
            order = torch.randperm(len(labels), generator=generator)
            if self._config.clump > 1:
                order = clumped(order, labels.cpu(), self._config.clump, generator)
            self._epoch, self._order = epoch, order.to(labels.device)
        start = batch * self._config.batch_size
        return self._order[start : start + self._config.batch_size]


def clumped(order: Tensor, labels: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """The positions of `order` [N] again, in clumps: `size` images of one label follow each other, then of any label.

    Images that fill no clump of their label come last.
    """
    by_label = [order[labels[order] == label] for label in labels.unique()]
    whole = torch.cat([rows[: len(rows) // size * size].view(-1, size) for rows in by_label])
    rest = torch.cat([rows[len(rows) // size * size :] for rows in by_label])
    return torch.cat([whole[torch.randperm(len(whole), generator=generator)].flatten(), rest])


def evaluation_batches(split: Split, dataset: Dataset, size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole split in order, `size` images at a time, without augmentation: float32 [B,C,H,W], int64 [B]."""
    for images, labels in zip(split.images.split(size), split.labels.split(size), strict=True):
        if len(labels):  # an empty tensor splits into one empty part
            yield normalize(images, dataset), labels
