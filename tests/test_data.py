"""Images as tensors: subsets, statistics, augmentation against a slow reference, and batches of any step."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.nn import functional

from bnrepro.core.checks import ConfigError
from bnrepro.core.schema import Data
from bnrepro.core.seeds import stream
from bnrepro.data import batches as data
from bnrepro.data import sources


def small(**settings) -> Data:
    return Data(**{"kind": "synthetic", "name": "small", "shape": [3, 8, 6], "size": 50, "batch_size": 8, **settings})


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_load_keeps_everything_by_default():
    loaded, found = data.load(small()), sources.read(small())
    assert (loaded.train.images.numpy() == found.train_images).all() and (
        loaded.test.labels.numpy() == found.test_labels
    ).all()
    assert len(loaded.valid) == 0 and loaded.valid.images.shape == (0, 3, 8, 6)
    assert (loaded.classes, loaded.name, loaded.sha256, loaded.shape) == (10, "small", found.sha256, (3, 8, 6))
    assert loaded.train.images.dtype == torch.uint8 and loaded.train.labels.dtype == torch.int64


def test_subsets_are_random_disjoint_and_nested():
    whole = sources.read(small(size=500))
    loaded = data.load(small(size=500, valid_size=100, train_size=150, test_size=30))
    sizes = [len(split) for split in (loaded.train, loaded.valid, loaded.test)]
    assert sizes == [150, 100, 30]
    train, valid = set(rows(loaded.train.images)), set(rows(loaded.valid.images))
    assert not train & valid and train | valid <= set(rows(torch.from_numpy(whole.train_images)))
    assert not train <= set(rows(torch.from_numpy(whole.train_images[:250]))), "not the first ones"
    assert not set(rows(loaded.test.images)) <= set(rows(torch.from_numpy(whole.test_images[:50])))
    larger = data.load(small(size=500, valid_size=100, train_size=300))
    assert train < set(rows(larger.train.images)) and rows(larger.valid.images) == rows(loaded.valid.images)
    label_of = dict(zip(rows(torch.from_numpy(whole.train_images)), whole.train_labels, strict=True))
    assert [label_of[row] for row in rows(loaded.train.images)] == loaded.train.labels.tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"valid_size": 50}, "data.valid_size=50: must be less than the 50 training images"),
        (
            {"valid_size": 20, "train_size": 31},
            "data.train_size=31: must be at most 30, the number of training images (50",
        ),
        ({"test_size": 11}, "data.test_size=11: must be at most 10, the number of test images"),
        ({"image": "rgb32", "shape": [3, 33, 8]}, "data.image=rgb32: needs 1 or 3 channels and at most 32x32 pixels"),
        ({"image": "rgb32", "shape": [2, 8, 8]}, "but the images are 2x8x8"),
    ],
)
def test_what_cannot_be_loaded(settings, expected):
    with pytest.raises(ConfigError) as caught:
        data.load(small(**settings))
    assert expected in str(caught.value)


def test_rgb32_pads_on_all_sides_and_repeats_the_channel():
    config = small(shape=[1, 28, 27], image="rgb32")
    images, native = data.load(config).train.images, sources.read(config).train_images
    assert images.shape == (50, 3, 32, 32)
    expected = np.zeros((50, 3, 32, 32), np.uint8)
    expected[:, :, 2:30, 2:29] = native
    assert (images.numpy() == expected).all()
    x, _ = data.Batches(data.load(config), config, 0)(1)
    assert x.is_contiguous() and (x[:, 0] == x[:, 2]).all()


@pytest.mark.parametrize(("normalize", "axes"), [("channel", (0, 2, 3)), ("pixel", 0)])
def test_statistics_are_those_of_the_training_split(normalize, axes):
    loaded = data.load(small(size=700, normalize=normalize, valid_size=30, train_size=600))
    levels = loaded.train.images.double().numpy() / 255
    mean, std = levels.mean(axes), levels.std(axes)
    assert torch.allclose(loaded.mean.double().squeeze(), torch.from_numpy(mean), atol=1e-7, rtol=1e-6)
    assert torch.allclose(loaded.std.double().squeeze(), torch.from_numpy(std), atol=1e-7, rtol=1e-6)
    z = data.normalize(loaded.train.images, loaded).double().numpy()
    assert z.dtype == np.float64 and abs(z.mean(axes)).max() < 1e-5 and abs(z.std(axes) - 1).max() < 1e-5


def test_statistics_are_exact_for_many_bright_images():
    images = torch.full((70_000, 1, 2, 1), 255, dtype=torch.uint8)
    images[0, 0, 0] = 254
    mean, std = data.statistics(images, "pixel")
    assert mean[0, 1, 0] == 1 and std[0, 1, 0] == 1, "constant: deviation given as 1"
    share = 1 / 70_000
    assert std[0, 0, 0].item() == pytest.approx((share * (1 - share)) ** 0.5 / 255, rel=1e-6)


def test_constant_pixels_become_zero():
    config = small(image="rgb32", normalize="pixel")
    loaded = data.load(config)
    z = data.normalize(loaded.train.images, loaded)
    assert z.isfinite().all() and (z[:, :, :10] == 0).all()


def test_no_normalisation_only_divides():
    loaded = data.load(small(normalize="none"))
    z = data.normalize(loaded.train.images, loaded)
    assert z.dtype == torch.float32 and torch.allclose(z, loaded.train.images / 255, atol=1e-7)


# Augmentation


def slow_augment(images: torch.Tensor, crop: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """One image after the other, by padding, slicing and flipping."""
    count, _, height, width = images.shape
    corners = torch.randint(2 * crop + 1, (count, 2), generator=generator) if crop else torch.zeros(count, 2, dtype=int)
    flips = torch.randint(2, (count, 1), generator=generator) if flip else torch.zeros(count, 1, dtype=int)
    done = []
    for image, (top, left), (flipped,) in zip(images, corners.tolist(), flips.tolist(), strict=True):
        image = functional.pad(image, (crop,) * 4)[:, top : top + height, left : left + width]
        done.append(image.flip(2) if flipped else image)
    return torch.stack(done)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [0, 1, 4])
def test_augmentation_equals_the_slow_reference(crop, flip):
    images = torch.randint(1, 256, (64, 3, 9, 7), dtype=torch.uint8, generator=stream(0, "test"))
    before = images.clone()
    found = data.augment(images, crop, flip, stream(1, "augment"))
    assert torch.equal(found, slow_augment(images, crop, flip, stream(1, "augment")))
    assert torch.equal(images, before) and found.dtype == torch.uint8
    assert torch.equal(found, before) == (not crop and not flip)


def test_every_corner_and_both_sides_come_up():
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).expand(2000, -1, -1, -1)
    found = data.augment(image, 1, True, stream(0, "augment"))
    kinds, counts = found.unique(dim=0, return_counts=True)
    assert len(kinds) == 18 and counts.min() > 2000 / 18 / 2, "nine corners, flipped or not"


def test_batches_equal_torchvisions_usual_order():
    """RandomCrop(padding), RandomHorizontalFlip, ToTensor, Normalize: black borders, not grey ones."""
    from torchvision.transforms import functional as theirs

    config = small(crop=2, flip=True, shape=[3, 8, 8])
    loaded = data.load(config)
    x, _ = data.Batches(loaded, config, 3)(2)
    order = torch.randperm(50, generator=stream(3, "order", 0))[8:16]
    draws = stream(3, "augment", 2)
    corners, flips = torch.randint(5, (8, 2), generator=draws), torch.randint(2, (8, 1), generator=draws)
    for found, row, corner, flipped in zip(x, order, corners.tolist(), flips, strict=True):
        image = theirs.crop(theirs.pad(theirs.to_pil_image(loaded.train.images[row]), 2), *corner, 8, 8)
        image = theirs.to_tensor(theirs.hflip(image) if flipped else image)
        image = theirs.normalize(image, loaded.mean.flatten().tolist(), loaded.std.flatten().tolist())
        assert torch.allclose(found, image, atol=1e-5)


# Batches


def batches(seed: int = 0, **settings) -> data.Batches:
    return data.Batches(data.load(small(**settings)), small(**settings), seed)


def test_an_epoch_sees_every_image_once_and_the_next_in_another_order():
    made = batches(batch_size=10, normalize="none")
    epochs = []
    for epoch in range(3):
        steps = [made(10 // 2 * epoch + k) for k in range(1, 6)]
        levels = torch.cat([x for x, _ in steps]).mul(255).round().byte()
        epochs.append(rows(levels))
        labels = dict(zip(rows(made._dataset.train.images), made._dataset.train.labels.tolist(), strict=True))
        assert [labels[row] for row in epochs[-1]] == torch.cat([y for _, y in steps]).tolist()
    everything = sorted(rows(made._dataset.train.images))
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_clumps_are_of_one_label_and_the_epoch_still_sees_every_image_once():
    made = batches(size=57, batch_size=57, clump=4)
    images, labels = made(1)
    assert len(images.flatten(1).unique(dim=0)) == 57
    counts = labels.bincount(minlength=10)
    whole = int((counts // 4).sum()) * 4
    clumps = labels[:whole].view(-1, 4)
    assert (clumps == clumps[:, :1]).all() and 20 < whole < 57
    assert clumps[:, 0].bincount(minlength=10).tolist() == (counts // 4).tolist()
    assert not torch.equal(clumps[:, 0], clumps[:, 0].sort().values), "the clumps are shuffled"
    again, other = (batches(size=57, batch_size=57, clump=4)(step) for step in (1, 2))
    assert torch.equal(again[0], images) and not torch.equal(other[0], images)


def test_any_step_can_be_made_without_the_ones_before():
    settings = {"crop": 2, "flip": True, "last_batch": "keep"}
    straight, jumping = batches(**settings), batches(**settings)
    expected = {step: straight(step) for step in range(1, 20)}
    for step in (19, 3, 8, 7, 14, 1):
        for one, other in zip(expected[step], jumping(step), strict=True):
            assert torch.equal(one, other)


def test_the_same_seed_is_the_same_batches_and_another_is_not():
    same, again, other = batches(5, crop=1), batches(5, crop=1), batches(6, crop=1)
    assert torch.equal(same(9)[0], again(9)[0]) and torch.equal(same(9)[1], again(9)[1])
    assert not torch.equal(same(9)[0], other(9)[0])


def test_augmentation_is_fresh_at_each_step_and_does_not_change_the_order():
    plain, moved = batches(batch_size=50), batches(batch_size=50, crop=2)
    assert torch.equal(plain(2)[1], moved(2)[1]) and not torch.equal(plain(2)[0], moved(2)[0])
    images = moved._dataset.train.images
    first, second = (data.augment(images, 2, False, stream(0, "augment", step)) for step in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("count", "size", "last", "steps", "sizes"),
    [
        (50, 8, "drop", 6, (8, 8)),
        (50, 8, "keep", 7, (8, 2)),
        (49, 8, "drop", 6, (8, 8)),
        (49, 8, "keep", 6, (8, 8)),  # a single image is never a batch
        (48, 8, "keep", 6, (8, 8)),
        (50, 50, "keep", 1, (50, 50)),
        (50, 1, "keep", 50, (1, 1)),
    ],
)
def test_the_last_batch(count, size, last, steps, sizes):
    made = batches(size=50, train_size=count, batch_size=size, last_batch=last)
    assert made.steps_per_epoch == steps
    found = (len(made(1)[1]), len(made(steps)[1]))
    assert found == sizes and len(made(steps + 1)[1]) == size


def test_steps_of_cifar10():
    labels = torch.zeros(50_000, dtype=torch.int64)
    split = data.Split(torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8), labels)
    loaded = data.Dataset(split, split, split, 10, "zeros", "", (1, 1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    assert data.Batches(loaded, Data(batch_size=128), 0).steps_per_epoch == 390
    assert data.Batches(loaded, Data(batch_size=128, last_batch="keep"), 0).steps_per_epoch == 391


def test_batch_larger_than_the_training_set():
    config = small(train_size=20, batch_size=21)
    with pytest.raises(ConfigError) as caught:
        data.Batches(data.load(config), config, 0)
    assert str(caught.value) == "data.batch_size=21: must be at most 20, the number of training images"
    with pytest.raises(ValueError, match="step=0"):
        batches()(0)


def test_evaluation_is_in_order_whole_and_plain():
    loaded = data.load(small(crop=4, flip=True))
    parts = list(data.evaluation_batches(loaded.train, loaded, size=20))
    assert [len(y) for _, y in parts] == [20, 20, 10]
    assert torch.equal(torch.cat([x for x, _ in parts]), data.normalize(loaded.train.images, loaded))
    assert torch.equal(torch.cat([y for _, y in parts]), loaded.train.labels)
    assert list(data.evaluation_batches(loaded.valid, loaded)) == []


def test_global_random_state_is_neither_used_nor_changed():
    def first_batches(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        made = []
        for config in (small(crop=2, flip=True, valid_size=5, train_size=40), Data(crop=2, train_size=30)):
            config.batch_size = 4
            loaded = data.load(config)
            made += [
                data.Batches(loaded, config, 0)(3)[0],
                *(x for x, _ in data.evaluation_batches(loaded.test, loaded)),
            ]
        assert torch.equal(before[0], torch.get_rng_state()) and random.getstate() == before[2]
        assert (before[1] == np.random.get_state()[1]).all()
        return made

    assert all(torch.equal(one, other) for one, other in zip(first_batches(0), first_batches(1), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_batches_on_an_accelerator():
    config = small(crop=2, flip=True, normalize="pixel")
    here, there = (data.Batches(data.load(config, device), config, 0)(9) for device in ("cpu", "cuda"))
    assert (
        there[0].is_cuda and torch.equal(here[1], there[1].cpu()) and torch.allclose(here[0], there[0].cpu(), atol=1e-6)
    )


def test_a_linear_map_gives_its_targets_exactly_and_is_the_same_for_every_seed():
    settings = Data(kind="linear_map", shape=[4, 1, 1], size=50, batch_size=50)
    whole = data.load(settings, dtype=torch.float64)
    x, y = whole.train.images.flatten(1), whole.train.labels
    matrix = torch.linalg.lstsq(x, y).solution.T
    torch.testing.assert_close(x @ matrix.T, y, rtol=0, atol=1e-12)
    assert x.dtype == torch.float64 and (whole.shape, whole.classes, len(whole.test)) == ((4, 1, 1), 4, 0)
    first, second = (data.Batches(whole, settings, seed)(1) for seed in (0, 1))
    assert not torch.equal(first[0], second[0])  # another order
    for images, targets in (first, second):
        torch.testing.assert_close(images.flatten(1) @ matrix.T, targets, rtol=0, atol=1e-12)
    single = data.load(settings)
    torch.testing.assert_close(single.train.images, whole.train.images.float(), rtol=0, atol=0)


def test_a_linear_map_of_its_own_for_each_seed_is_that_of_all_seeds_for_seed_0():
    shared, own = (Data(kind="linear_map", shape=[4, 1, 1], size=50, drawn=drawn) for drawn in ("once", "per_seed"))
    maps = {seed: data.load(own, dtype=torch.float64, seed=seed).train for seed in (0, 1)}
    assert not torch.equal(maps[0].images, maps[1].images) and not torch.equal(maps[0].labels, maps[1].labels)
    for seed in (0, 1):
        whole = data.load(shared, dtype=torch.float64, seed=seed).train
        assert torch.equal(whole.images, maps[0].images) and torch.equal(whole.labels, maps[0].labels)
    x, y = maps[1].images.flatten(1), maps[1].labels
    torch.testing.assert_close(x @ torch.linalg.lstsq(x, y).solution, y, rtol=0, atol=1e-12)


def test_binary_images_are_0_and_1_at_half_grey():
    plain, binary = data.load(small(normalize="none")), data.load(small(normalize="binary"))
    for split in ("train", "test"):
        grey, found = getattr(plain, split).images, getattr(binary, split).images
        assert torch.equal(data.normalize(found, binary), (grey > 127).float())
