"""Image folders, path/{train,test}/CLASS/FILE: listed, checked, decoded once and cached."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnrepro.core import files
from bnrepro.core.schema import Data
from bnrepro.data.arrays import Arrays, DataError, pack

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")  # those of torchvision
LARGEST = 4096  # pixels on a side: a damaged header can ask for more than any memory
UNREADABLE = (OSError, SyntaxError, ValueError)  # what Pillow raises for files that are no image or half of one


class Entry(NamedTuple):
    """One image file: its class, its path below the folder, its size in bytes and when it was changed (ns)."""

    label: int
    name: str
    size: int
    changed: int


def read_image_folder(config: Data) -> Arrays:
    """The folder decoded; grey images have one channel where all are grey, else every image has three.

    The decoded arrays (with their SHA-256, which also depends on Pillow's JPEG decoder) are cached in data.root/cache
    under a fingerprint of all names, sizes and times of change, so that a changed folder is decoded again.
    """
    if config.path is None:
        raise _error(config, "must name the directory that holds train/ and test/")
    base = _expanded(config)
    classes = _classes(config, base)
    splits = {split: _entries(config, base, split, classes) for split in ("train", "test")}
    cache = Path(config.root).expanduser() / "cache" / f"{base.resolve().name}-{_fingerprint(splits)}.npz"
    found = _load(cache)
    if found is None:
        found = _decode(config, base, splits, classes)
        _save(cache, found)
    return found


def _expanded(config: Data) -> Path:
    try:
        return Path(config.path or "").expanduser()
    except RuntimeError as error:  # ~nobody
        raise _error(config, str(error)) from error


def _classes(config: Data, base: Path) -> tuple[str, ...]:
    found = {}
    for split in ("train", "test"):
        if not (base / split).is_dir():
            raise _error(config, f"{base / split} is missing: expected {base}/train/CLASS/* and {base}/test/CLASS/*")
        found[split] = {entry.name for entry in os.scandir(base / split) if entry.is_dir() and entry.name[0] != "."}
    for name in sorted(found["train"] ^ found["test"]):
        there, lacking = ("train", "test") if name in found["train"] else ("test", "train")
        raise _error(config, f"class {name} is in {base / there} but not in {base / lacking}")
    if not found["train"]:
        raise _error(config, f"{base / 'train'} has no classes: expected {base}/train/CLASS/*")
    return tuple(sorted(found["train"]))


def _entries(config: Data, base: Path, split: str, classes: tuple[str, ...]) -> list[Entry]:
    entries = []
    for label, name in enumerate(classes):
        images = _images(config, base / split / name)
        if not images:
            raise _error(config, f"class {name} has no images in {base / split / name} (known: {', '.join(SUFFIXES)})")
        for path in images:
            seen = path.stat()
            entries.append(Entry(label, path.relative_to(base).as_posix(), seen.st_size, seen.st_mtime_ns))
    return entries


def _images(config: Data, folder: Path) -> list[Path]:
    """All images of a class, those in folders below it too, as torchvision reads them; hidden files are none.

    Linked folders are followed, each once. What is named like an image but is no file, such as a pipe, is an error.
    """
    images, seen = [], set()
    for where, below, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(where))
        kept = [name for name in sorted(below) if name[0] != "." and os.path.realpath(Path(where, name)) not in seen]
        below[:] = kept
        for path in (Path(where, name) for name in names if name[0] != "." and name.lower().endswith(SUFFIXES)):
            if not path.is_file():
                raise _error(config, f"{path} is no file, or a link to none")
            images.append(path)
    return sorted(images, key=lambda path: path.relative_to(folder).as_posix())


def _fingerprint(splits: dict[str, list[Entry]]) -> str:
    return hashlib.sha256(repr(sorted(splits.items())).encode()).hexdigest()[:12]


def _decode(config: Data, base: Path, splits: dict[str, list[Entry]], classes: tuple[str, ...]) -> Arrays:
    log.info("decoding %d images of %s, once", sum(map(len, splits.values())), base)
    first, grey, images, labels = splits["train"][0], True, {}, {}
    width, height = _open(config, base / first.name)[0].size
    for split, entries in splits.items():
        images[split] = np.empty((len(entries), 3, height, width), np.uint8)
        labels[split] = np.array([entry.label for entry in entries])
        for row, entry in zip(images[split], entries, strict=True):
            image, is_grey = _open(config, base / entry.name)
            if image.size != (width, height):
                sizes = f"{image.size[0]}x{image.size[1]} and not {width}x{height} as {first.name}"
                raise _error(config, f"{base / entry.name} is {sizes}: all images must have one size")
            row[:] = np.asarray(image).transpose(2, 0, 1)
            grey = grey and is_grey
    channels = slice(1) if grey else slice(3)
    train, test = ((images[split][:, channels], labels[split]) for split in ("train", "test"))
    return pack(train, test, classes)


def _open(config: Data, path: Path) -> tuple[Image.Image, bool]:
    """The image in RGB, and whether the file is grey."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            if max(image.size) > LARGEST:
                width, height = image.size
                raise ValueError(f"{width}x{height} pixels, and at most {LARGEST} on a side are read")
            if image.mode.startswith(("I", "F")):  # conversion to 8 bits would clip them
                raise ValueError(f"its pixels (mode {image.mode}) have more than 8 bits")
            return image.convert("RGB"), image.mode in ("1", "L", "LA")
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise _error(config, f"{path} cannot be read as an image: {error}") from error


def _load(cache: Path) -> Arrays | None:
    """The cached arrays, or None. An uncompressed .npz has checksums, which are verified while it is read."""
    try:
        with np.load(cache, allow_pickle=False) as file:
            parts = {name: file[name] for name in Arrays.__dataclass_fields__}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        log.warning("%s is damaged and is made again: %s", cache, error)
        return None
    train, test = ((parts[f"{split}_images"], parts[f"{split}_labels"]) for split in ("train", "test"))
    arrays = pack(train, test, tuple(parts["classes"].tolist()))
    if arrays.sha256 == str(parts["sha256"]):
        return arrays
    log.warning("%s is altered, its SHA-256 does not fit, and is made again", cache)
    return None


def _save(cache: Path, found: Arrays) -> None:
    try:
        with files.written(cache) as file:
            np.savez(file, **asdict(found))
    except OSError as error:
        log.warning("decoded images are not cached and will be decoded again: %s", error)


def _error(config: Data, what: str) -> DataError:
    return DataError("data.path", config.path, what)
