"""The networks against torchvision's, their initial weights against the formulas, and what two arms must share."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torchvision.models import vgg as torchvision_vgg

from bnrepro import norms
from bnrepro.core import inits, registry
from bnrepro.core.schema import MLP, VGG11, ResNet
from bnrepro.core.seeds import stream
from bnrepro.models import activation
from bnrepro.models import build as models
from bnrepro.models import norm as norm_names

RGB, DIGIT = (3, 32, 32), (1, 28, 28)
SMALL = {
    MLP: {"depth": 2, "width": 8, "groups": 2},
    VGG11: {"width": 0.05, "groups": 1},
    ResNet: {"depth": 8, "width": 0.25, "groups": 1},
}
CHOICES = {cls: {spec.name: spec.metadata["choices"] for spec in dataclasses.fields(cls)} for cls in SMALL}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def images(shape: tuple[int, int, int], n: int = 4) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_vgg11_has_torchvisions_features(norm):
    theirs = torchvision_vgg.make_layers(torchvision_vgg.cfgs["A"], batch_norm=norm == "batch").double()
    model = models.build(VGG11(norm=norm, bias=True), RGB, 10, seed=0).double()
    ours = [module for module in model.features.modules() if not list(module.children())]
    ours = [module for module in ours if not isinstance(module, nn.Identity)]
    for mine, other in zip(ours, theirs, strict=True):
        mine.load_state_dict(other.state_dict())
    x = images(RGB).double()
    for _ in ("train", "eval"):  # the first pass moves the running statistics that the second uses
        torch.testing.assert_close(model.features(x), theirs(x), rtol=1e-6, atol=1e-6)
        model.eval(), theirs.eval()


def test_vgg11_has_torchvisions_classifier():
    with torch.device("meta"):
        theirs = torchvision_vgg.vgg11(num_classes=10)
    ours = models.VGG11(VGG11(head="torchvision", dropout=0.3), RGB, 10)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    assert count(ours) == 128_807_306
    assert [module.p for module in ours.modules() if isinstance(module, nn.Dropout)] == [0.3, 0.3]
    small = models.VGG11(VGG11(head="torchvision", width=0.01), RGB, 10).apply(_fill).eval()
    x, pooled = images(RGB), nn.Sequential(small.features, theirs.avgpool)
    hidden = pooled(x).flatten(1)
    for block in small.hidden:
        hidden = block.linear(hidden).relu()
    torch.testing.assert_close(small(x), small.output(hidden))


def _fill(module: nn.Module) -> None:
    """Layers outside of `build` hold whatever was in memory."""
    for parameter in module.parameters(recurse=False):
        nn.init.normal_(parameter, 0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))


@pytest.mark.parametrize(
    ("config", "shape", "expected"),
    [
        (VGG11(), RGB, 9_225_610),
        (VGG11(norm="batch"), RGB, 9_228_362),
        (VGG11(norm="batch", bias=True), RGB, 9_231_114),
        (MLP(), DIGIT, 784 * 100 + 100 + 9 * (100 * 100 + 100) + 100 * 10 + 10),
        (MLP(norm="batch"), DIGIT, 784 * 100 + 200 + 9 * (100 * 100 + 200) + 100 * 10 + 10),
        (MLP(norm="batch", bias=True), DIGIT, 784 * 100 + 300 + 9 * (100 * 100 + 300) + 100 * 10 + 10),
        (MLP(norm="batch", place="after"), DIGIT, 784 * 100 + 300 + 9 * (100 * 100 + 300) + 100 * 10 + 10),
        (ResNet(norm="batch"), RGB, 269_722),
        (ResNet(norm="batch", depth=110), RGB, 1_727_962),
        (ResNet(norm="batch", normed="last"), RGB, 269_722 + 688 - 2 * 688 + 128),
        (MLP(depth=24, width=10, biases=False), (10, 1, 1), 25 * 10 * 10),
        (MLP(depth=24, width=10, biases=False, norm="batch", place="after"), (10, 1, 1), 25 * 10 * 10 + 24 * 20),
    ],
)
def test_parameter_counts(config, shape, expected):
    assert count(models.build(config, shape, 10, seed=0)) == expected


@pytest.mark.parametrize(("width", "channels"), [(0.5, [32, 64, 128, 128, 256, 256, 256, 256]), (0.001, [1] * 8)])
def test_vgg11_width_multiplies_channels(width, channels):
    found = models.layers(models.build(VGG11(width=width), RGB, 10, seed=0))
    assert [layer.linear.weight.shape[0] for layer in found] == [*channels, 10]


@pytest.mark.parametrize("place", CHOICES[MLP]["place"])
@pytest.mark.parametrize("activation", CHOICES[MLP]["activation"])
def test_mlp_written_out(activation, place):
    model = models.build(MLP(**SMALL[MLP], norm="batch", activation=activation, place=place), DIGIT, 10, seed=0)
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "linear": lambda z: z}
    x = images(DIGIT, 8)
    z = x.reshape(8, 784)
    for block in model.hidden:
        parts = [lambda v, b=block: nn.functional.batch_norm(v, None, None, b.norm.weight, b.norm.bias, training=True)]
        parts.insert(1 if place == "before" else 0, functions[activation])
        z = nn.functional.linear(z, block.linear.weight, block.linear.bias)
        for part in parts:
            z = part(z)
    expected = nn.functional.linear(z, model.output.weight, model.output.bias)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normed", CHOICES[ResNet]["normed"])
def test_resnet_written_out(normed):
    """Blocks of two convolutions; shortcuts drop every other position and fill up channels with zeros."""
    config = ResNet(norm="batch", normed=normed, depth=14, width=0.25)
    model, x = models.build(config, RGB, 10, seed=0), images(RGB)
    F = nn.functional

    def normal(z, norm):
        if isinstance(norm, nn.Identity):
            return z
        return F.batch_norm(z, None, None, norm.weight, norm.bias, training=True)

    def convolution(z, part, stride):
        return normal(F.conv2d(z, part.conv.weight, part.conv.bias, stride=stride, padding=1), part.norm)

    z = convolution(x, model.stem, 1).relu()
    for place, block in enumerate(model.blocks):
        stride, channels = (2, 2 * z.shape[1]) if place in (2, 4) else (1, z.shape[1])
        shortcut = z.new_zeros(len(z), channels, *(side // stride for side in z.shape[2:]))
        shortcut[:, : z.shape[1]] = z[:, :, ::stride, ::stride]
        z = (convolution(convolution(z, block.first, stride).relu(), block.second, 1) + shortcut).relu()
    expected = model.output(normal(z, model.last_norm).mean((2, 3)))
    assert len(model.blocks) == 6 and z.shape[1:] == (16, 8, 8)
    assert isinstance(model.last_norm, nn.BatchNorm2d) == (normed == "last")
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", [MLP, VGG11, ResNet])
def test_every_choice_builds(cls):
    """One run of each name that a user can type, forward and backward."""
    tables = {"norm": norm_names.OWN, "init": [*inits.INITS, inits.TORCH], "affine": norm_names.LEARNED}
    assert set(activation.OWN) == registry.ACTIVATIONS.own
    more = {"activation": (*activation.OWN, "GELU"), "alternate": ("same", *norm_names.OWN.keys() - {"none"})}
    for name, choices in (CHOICES[cls] | more).items():
        if name in tables:
            assert set(tables[name]) == set(choices)
        for choice in choices:
            config = cls(**SMALL[cls] | {"norm": "batch_manual", name: choice})
            logits = models.build(config, RGB, 7, seed=0)(images(RGB))
            logits.sum().backward()
            assert logits.shape == (4, 7) and logits.isfinite().all()


@pytest.mark.parametrize("init", CHOICES[MLP]["init"])
@pytest.mark.parametrize("cls", [MLP, VGG11, ResNet])
def test_norms_share_initial_weights(cls, init):
    plain, *normed = (
        dict(models.build(cls(**SMALL[cls], norm=norm, init=init), RGB, 10, seed=3).named_parameters())
        for norm in CHOICES[cls]["norm"]
    )
    for arm in normed:
        shared = [name for name in arm if ".norm." not in name]
        assert set(shared) == {name for name in plain if name.endswith("weight") or name == "output.bias"}
        assert all(torch.equal(arm[name], plain[name]) for name in shared)
    other = dict(models.build(cls(**SMALL[cls], init=init), RGB, 10, seed=4).named_parameters())
    assert not any(torch.equal(plain[name], other[name]) for name in plain if name.endswith("weight"))


def test_layers_draw_from_their_own_streams():
    shallow, deep = (models.build(MLP(depth=depth, width=8), DIGIT, 10, seed=0) for depth in (2, 3))
    assert torch.equal(shallow.hidden[1].linear.weight, deep.hidden[1].linear.weight)
    assert torch.equal(shallow.output.weight, deep.output.weight)
    assert not torch.equal(deep.hidden[1].linear.weight, deep.hidden[2].linear.weight)


def test_same_seed_same_model():
    first, second = (models.build(MLP(norm="batch"), DIGIT, 10, seed=0).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("head", CHOICES[VGG11]["head"])
def test_global_random_state_is_untouched(head):
    before = torch.get_rng_state()
    models.build(VGG11(norm="batch", width=0.01, head=head), RGB, 10, seed=0)
    models.build(MLP(norm="batch_manual"), DIGIT, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


EXPECTED_STD = {
    "glorot_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "glorot_uniform": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "kaiming_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "kaiming_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "fan_in": lambda fan_in, fan_out: fan_in**-0.5,
    "gaussian": lambda fan_in, fan_out: 0.03,
    "happynear": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out) / 1.04),
}


@pytest.mark.parametrize("init", EXPECTED_STD)
def test_initial_standard_deviations(init):
    expected, settings = EXPECTED_STD[init], {"init": init, "init_std": 0.03}
    mlp = models.build(MLP(depth=2, width=400, **settings), DIGIT, 10, seed=0)
    vgg = models.build(VGG11(width=0.5, **settings), RGB, 10, seed=0)
    fans = [(mlp.hidden[0].linear, 784, 400), (mlp.hidden[1].linear, 400, 400), (vgg.features[2].conv, 288, 576)]
    for layer, fan_in, fan_out in fans:
        std = expected(fan_in, fan_out)
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert abs(layer.weight.mean().item()) < 0.02 * std
        largest = layer.weight.abs().max().item() / std
        assert largest <= 1.7321 if init.endswith("_uniform") else largest > 3
    bias_std = expected(400, 400) if init == "happynear" else 0
    assert mlp.hidden[1].linear.bias.std().item() == pytest.approx(bias_std, rel=0.1)


@pytest.mark.parametrize("name", ["glorot_normal", "glorot_uniform", "kaiming_normal", "kaiming_uniform"])
def test_named_inits_are_torchs(name):
    layer = models.layers(models.build(VGG11(width=0.1, init=name), RGB, 10, seed=5))[1]
    generator = stream(5, "init", layer.name)
    draw = getattr(nn.init, name.replace("glorot", "xavier") + "_")
    gain = {"nonlinearity": "relu"} if name.startswith("kaiming") else {}
    expected = draw(torch.empty_like(layer.linear.weight), generator=generator, **gain)
    torch.testing.assert_close(layer.linear.weight, expected, check_device=False)


@pytest.mark.parametrize("cls", [MLP, VGG11])
def test_torchs_own_init_is_what_torch_draws_and_its_global_state_stays(cls):
    torch.manual_seed(7)
    model = models.build(cls(**SMALL[cls], norm="batch", bias=True, init="torch"), RGB, 10, seed=5)
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    for layer in models.layers(model):
        torch.manual_seed(stream(5, "init", layer.name).initial_seed())
        theirs = copy.deepcopy(layer.linear)
        theirs.reset_parameters()
        assert torch.equal(layer.linear.weight, theirs.weight) and torch.equal(layer.linear.bias, theirs.bias)
        assert layer.linear.bias.abs().max() > 0


@pytest.mark.parametrize("cls", [MLP, VGG11])
def test_two_norms_alternate_and_share_initial_weights(cls):
    mixed, plain = (
        models.build(cls(**SMALL[cls] | {"norm": "batch"} | more), RGB, 10, seed=3)
        for more in ({"alternate": "renorm", "gamma": 2.0}, {"gamma": 2.0})
    )
    found = [layer.norm for layer in models.layers(mixed) if layer.norm is not None]
    assert len(found) == (2 if cls is MLP else 8)
    assert all(isinstance(norm, norms.BatchRenorm) for norm in found[1::2])
    assert all(isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) for norm in found[::2])
    for (name, one), (other_name, other) in zip(mixed.named_parameters(), plain.named_parameters(), strict=True):
        assert name == other_name and torch.equal(one, other)


@pytest.mark.parametrize("norm", CHOICES[MLP]["norm"])
def test_layers_know_their_norm(norm):
    for config, shape in ((MLP(**SMALL[MLP], norm=norm), DIGIT), (VGG11(**SMALL[VGG11], norm=norm), RGB)):
        model = models.build(config, shape, 10, seed=0)
        *hidden, output = models.layers(model)
        assert all(layer.norm is model.get_submodule(layer.name.rpartition(".")[0] + ".norm") for layer in hidden)
        assert output.norm is None


@pytest.mark.parametrize("cls", [MLP, VGG11, ResNet])
def test_weight_scale_multiplies_all_weights_but_the_output_layers(cls):
    shape = DIGIT if cls is MLP else RGB
    plain, scaled = (
        models.layers(models.build(cls(**SMALL[cls], weight_scale=g), shape, 10, seed=0)) for g in (1.0, 4.0)
    )
    for one, other in zip(plain, scaled, strict=True):
        factor = 1 if one.name == "output" else 4
        assert torch.equal(factor * one.linear.weight, other.linear.weight)


@pytest.mark.parametrize("norm", CHOICES[MLP]["norm"])
def test_layers_in_order(norm):
    mlp = models.build(MLP(**SMALL[MLP], norm=norm), DIGIT, 10, seed=0)
    vgg = models.build(VGG11(**SMALL[VGG11], norm=norm), RGB, 10, seed=0)
    convs = [f"features.{place}.conv" for place in (0, 2, 4, 5, 7, 8, 10, 11)]
    for model, names in ((mlp, ["hidden.0.linear", "hidden.1.linear", "output"]), (vgg, [*convs, "output"])):
        found = models.layers(model)
        assert [layer.name for layer in found] == names
        assert [layer.depth for layer in found] == list(range(1, len(names) + 1))
        assert all(layer.linear is model.get_submodule(layer.name) for layer in found)
        for layer in found[:-1]:
            assert layer.activation is model.get_submodule(layer.name.rpartition(".")[0] + ".activation")
            assert layer.norm is model.get_submodule(layer.name.rpartition(".")[0] + ".norm")
        assert found[-1].activation is None


def test_layers_of_torchvisions_head():
    found = models.layers(models.VGG11(VGG11(head="torchvision", width=0.01), RGB, 10))
    assert [layer.name for layer in found[8:]] == ["hidden.0.linear", "hidden.1.linear", "output"]
    assert found[9].activation is not None and found[10].activation is None


def test_hooks_and_copies_work():
    """Nothing works in place: a hook sees what the norm put out, and a deep copy computes the same."""
    model = models.build(VGG11(width=0.05, norm="batch"), RGB, 10, seed=0)
    seen = []
    model.features[0].norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.features[0].norm.register_full_backward_hook(lambda module, into, out: None)
    model(images(RGB)).sum().backward()
    assert seen[0].min() < 0
    twin = copy.deepcopy(model).eval()
    torch.testing.assert_close(twin(images(RGB)), model.eval()(images(RGB)))


@pytest.mark.parametrize(
    ("config", "shape", "text"),
    [
        (MLP(init="xavier"), DIGIT, "glorot_normal, glorot_uniform"),
        (MLP(kind="alexnet"), DIGIT, "mlp, vgg11"),
        (MLP(activation="gelu"), DIGIT, "sigmoid, tanh, relu, linear"),
        (MLP(place="around"), DIGIT, "before, after"),
        (MLP(norm="False"), DIGIT, "none, batch, batch_manual"),
        (VGG11(head="none"), RGB, "linear, torchvision"),
        (VGG11(), DIGIT, "28x28: five max pools need at least 32x32"),
    ],
)
def test_build_names_what_is_wrong(config, shape, text):
    with pytest.raises(ValueError, match=text):
        models.build(config, shape, 10, seed=0)
