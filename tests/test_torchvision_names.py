"""Datasets of torchvision by name, read from files that are made here in the layout of each."""

from __future__ import annotations

import hashlib
import importlib.metadata
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision import datasets

from bnrepro.core import checks
from bnrepro.core.schema import Data
from bnrepro.data import batches, sources

DRAWS = np.random.default_rng(0)
COUNTS = {"train": 12, "test": 6}


def idx(array: np.ndarray) -> bytes:
    return np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes() + array.tobytes()


def kmnist(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    folder, made = root / "KMNIST" / "raw", {}
    folder.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = DRAWS.integers(0, 256, (COUNTS[split], 28, 28), dtype=np.uint8)
        labels = (np.arange(COUNTS[split]) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
        made[split] = images[:, None], labels
    return made


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    folder, made, pinned = root / "cifar-100-python", {}, {}
    folder.mkdir(parents=True)
    names = {"fine_label_names": [f"class {label}" for label in range(100)]}
    contents = {"meta": pickle.dumps(names)}
    for split, count in COUNTS.items():
        images, labels = DRAWS.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), [7 * k % 100 for k in range(count)]
        contents[split] = pickle.dumps({"data": images.reshape(count, -1), "fine_labels": labels})
        made[split] = images, np.array(labels)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        pinned[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", pinned["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", pinned["test"]]])
    monkeypatch.setattr(datasets.CIFAR100, "meta", datasets.CIFAR100.meta | {"md5": pinned["meta"]})
    return made


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    made, pinned = {}, dict(datasets.SVHN.split_list)
    root.mkdir(parents=True)
    for split, count in COUNTS.items():
        images = DRAWS.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        labels = np.arange(count) % 10
        path = root / f"{split}_32x32.mat"  # there 10 stands for the digit 0
        scipy.io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
        pinned[split] = ["", path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        made[split] = images, labels
    monkeypatch.setattr(datasets.SVHN, "split_list", pinned)
    return made


FAKES = {"KMNIST": kmnist, "CIFAR100": cifar100, "SVHN": svhn}


@pytest.mark.parametrize("name", FAKES)
def test_a_dataset_of_torchvision_is_read_by_its_name(name, tmp_path, monkeypatch):
    made = FAKES[name](tmp_path / "data", monkeypatch)
    config = Data(kind="torchvision", dataset=name, root=str(tmp_path / "data"), batch_size=4)
    found = sources.read(config)
    for split, (images, labels) in made.items():
        assert np.array_equal(getattr(found, f"{split}_images"), images)
        assert np.array_equal(getattr(found, f"{split}_labels"), labels)
    assert len(found.classes) == (100 if name == "CIFAR100" else 10)
    loaded = batches.load(config)
    assert loaded.name == name and loaded.shape == made["train"][0].shape[1:]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dataset": "CIFAR99"}, "data.dataset=CIFAR99: is no class of torchvision.datasets, did you mean CIFAR1"),
        ({"dataset": "ImageFolder"}, "data.dataset=ImageFolder: has no training and test split"),
        ({"dataset": "SVHN", "arguments": {"colour": 1}}, "data.arguments={'colour': 1}: SVHN: got an unexpected"),
        ({"dataset": "KMNIST"}, "data.root="),
    ],
)
def test_what_torchvision_cannot_read_is_one_line(tmp_path, monkeypatch, fields, said):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(checks.ConfigError) as refused:
        sources.read(Data(kind="torchvision", root=str(tmp_path), **fields))
    assert str(refused.value).startswith(said) and len(str(refused.value).splitlines()) == 1


def test_a_missing_torchvision_is_named_with_the_command_that_leaves_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(checks.ConfigError) as refused:
        sources.read(Data(kind="torchvision", dataset="SVHN"))
    assert str(refused.value).endswith(f"pip install torchvision torch=={importlib.metadata.version('torch')}")


@pytest.mark.parametrize("data", [{"kind": "torchvision"}, {"kind": "mnist", "dataset": "SVHN"}])
def test_the_name_belongs_to_this_kind_alone(tiny, data):
    with pytest.raises(checks.ConfigError, match="data.dataset="):
        tiny({"data": data})
