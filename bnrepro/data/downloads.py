"""MNIST, Fashion-MNIST and CIFAR-10: torchvision's files, layout and download, with checks that torchvision leaves out.

Torchvision loads altered MNIST pixels without a word and tells a missing CIFAR-10 from a corrupt one by nothing. It is
not needed here: each of its releases asks for one release of torch, and would replace the one that is installed.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import pickle
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path

import numpy as np

from bnrepro.core.files import write
from bnrepro.core.schema import Data
from bnrepro.data.arrays import EMBEDDED, Arrays, DataError, pack

TIMEOUT = 30  # seconds that a download waits for its host

SHAPES: dict[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (60000, 28, 28),
    "train-labels-idx1-ubyte": (60000,),
    "t10k-images-idx3-ubyte": (10000, 28, 28),
    "t10k-labels-idx1-ubyte": (10000,),
}
# MD5 of the archive, as torchvision pins it, and of the file in it. Of Fashion-MNIST's files none is published.
IDX_MD5: dict[str, dict[str, tuple[str, str | None]]] = {
    "mnist": {
        "train-images-idx3-ubyte": ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": ("d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": ("9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": ("ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", None),
        "train-labels-idx1-ubyte": ("25c81989df183df01b3e8a0aad5dffbe", None),
        "t10k-images-idx3-ubyte": ("bef4ecab320f06d8554ea6380940ec79", None),
        "t10k-labels-idx1-ubyte": ("bb300cfdad3c16e7a12a480ee83cd310", None),
    },
}
FOLDER = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-py",
}  # below data.root
MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
    "fashion_mnist": ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    "cifar10": ("https://www.cs.toronto.edu/~kriz/",),
}
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                      "Ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip
CIFAR_ARCHIVE = ("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
CIFAR_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}


def root(config: Data) -> Path:
    """data.root as a path."""
    return Path(config.root).expanduser()


def folder(config: Data) -> Path:
    """Where torchvision keeps the unpacked files."""
    return root(config) / FOLDER[config.kind]


# MNIST and Fashion-MNIST: raw IDX files


def read_idx(config: Data) -> Arrays:
    """The four files below data.root, downloaded where they are missing. Raises DataError naming data.root."""
    files = IDX_MD5[config.kind]
    missing = [name for name in files if not (folder(config) / name).exists()]
    for name in missing:
        archive = _archive(config, folder(config) / f"{name}.gz", files[name][0], missing)
        write(gzip.decompress(archive), folder(config) / name)
    images, labels, test_images, test_labels = (_idx(config, folder(config) / name) for name in files)
    return pack((images[:, None], labels), (test_images[:, None], test_labels), CLASSES[config.kind])


def _idx(config: Data, path: Path) -> np.ndarray:
    """One checked IDX file (format: http://yann.lecun.com/exdb/mnist/): a big-endian header, then the bytes."""
    shape, (archive_md5, md5) = SHAPES[path.name], IDX_MD5[config.kind][path.name]
    raw = np.fromfile(path, np.uint8)
    header = np.array([0x800 + len(shape), *shape], ">i4").tobytes()
    size = len(header) + int(np.prod(shape))
    if raw.size < size:
        raise _damaged(config, path, f"truncated: {raw.size} of {size} bytes", md5)
    archive = path.with_name(f"{path.name}.gz")
    if md5 is None and archive.exists():
        md5 = _md5(gzip.decompress(_archive(config, archive, archive_md5, [])))
    content = raw[len(header) :]
    intact = raw.size == size and raw[: len(header)].tobytes() == header and md5 in (None, _md5(raw.data))
    if not intact or (len(shape) == 1 and content.max() >= len(CLASSES[config.kind])):
        raise _damaged(config, path, f"altered: its MD5 is {_md5(raw.data)}", md5)
    return content.reshape(shape)


# CIFAR-10: pickled batches


def read_cifar10(config: Data) -> Arrays:
    """The six batches below data.root, unpacked from the archive or downloaded. Raises DataError naming data.root."""
    missing = [name for name in CIFAR_MD5 if not (folder(config) / name).exists()]
    if missing:
        name, md5 = CIFAR_ARCHIVE
        content = _archive(config, root(config) / name, md5, missing)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for name in missing:
                if member := archive.extractfile(f"{FOLDER['cifar10']}/{name}"):
                    write(member.read(), folder(config) / name)
    *train, test = (_cifar_batch(config, folder(config) / name) for name in CIFAR_MD5)
    images, labels = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return pack((images, labels), test, CLASSES["cifar10"])


def _cifar_batch(config: Data, path: Path) -> tuple[np.ndarray, np.ndarray]:
    content, expected = path.read_bytes(), CIFAR_MD5[path.name]
    if _md5(content) != expected:  # before unpickling, which can run code
        raise _damaged(config, path, f"truncated or altered: {len(content)} bytes, MD5 {_md5(content)}", expected)
    batch = pickle.loads(content, encoding="latin1")
    return batch["data"].reshape(-1, 3, 32, 32), np.array(batch["labels"])


# Archives: checked, or downloaded and then checked


def _archive(config: Data, path: Path, md5: str, missing: list[str]) -> bytes:
    """The checked content of an archive, which is downloaded where there is none."""
    if not path.exists():
        _download(config, path, md5, missing)
    content = path.read_bytes()
    if _md5(content) == md5:
        return content
    try:
        gzip.decompress(content)
        what = "altered"
    except EOFError:
        what = "truncated"
    except (OSError, zlib.error):
        what = "corrupt"
    raise _damaged(config, path, f"{what}: {len(content)} bytes, MD5 {_md5(content)}", md5)


def _download(config: Data, path: Path, md5: str, missing: list[str]) -> None:
    """Downloads into a directory of its own, so that processes started together do not write one file."""
    errors = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as beside:
            for mirror in MIRRORS[config.kind]:
                try:
                    _fetch(mirror + path.name, beside, md5)
                    return os.replace(Path(beside, path.name), path)
                except (OSError, http.client.HTTPException) as error:
                    errors.append(f"{mirror + path.name}: {error}")
    except OSError as error:
        errors.append(str(error))
    raise DataError(
        "data.root", config.root,
        f"{', '.join(missing)} missing in {folder(config)}, and {path.name} cannot be downloaded "
        f"({'; '.join(errors)}): put it into {path.parent} (expected MD5 {md5}) {EMBEDDED}",
    )  # fmt: skip


def _fetch(url: str, folder: str, md5: str) -> None:
    """Raises OSError for what does not arrive, or not as it was published."""
    request, target = urllib.request.Request(url, headers={"User-Agent": "bnrepro"}), Path(folder, Path(url).name)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, target.open("wb") as file:
        shutil.copyfileobj(answer, file)
    if (found := _md5(target.read_bytes())) != md5:
        raise OSError(f"corrupted on its way: {target.stat().st_size} bytes, MD5 {found}")


def _damaged(config: Data, path: Path, what: str, md5: str | None) -> DataError:
    expected = f" (expected MD5 {md5})" if md5 else ""
    return DataError(
        "data.root", config.root, f"{path} is {what}{expected}: delete it to download it again, {EMBEDDED}"
    )


def _md5(content: bytes | memoryview) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
