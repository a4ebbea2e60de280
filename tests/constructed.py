"""The constructed nets by name: healthy ones, and ill ones, each with the kinds of words that are right."""

from __future__ import annotations

import torch
import zoo
from nets import (
    CLASSES,
    FINE,
    WIDTH,
    Dense,
    Experts,
    Highway,
    Mixer,
    NanAt,
    Net,
    OutFirst,
    Parts,
    Residual,
    ReZero,
    Sequences,
    branch,
    chain,
    changed,
    encoder,
    fooled,
    images,
    lenet,
    linears,
    lora,
    normed,
    of_zoo,
    orthogonal,
    plain,
    recurrent,
    scaled,
    squares,
    sure,
    times,
    tokens,
)  # fmt: skip
from torch import nn
from torch.nn.utils import parametrizations

UNUSED = ("nothing remarkable", "no gradient")
FULL = ("grad_fro", "activations")


def frozen(model: nn.Sequential, parts: int) -> nn.Sequential:
    for part in model[:parts]:
        part.requires_grad_(False)
    return model


HEALTHY = {
    "ReLU, He": Net(lambda: chain(6), FINE),
    "ReLU, He, 30 layers": Net(lambda: chain(30, 64), FINE),
    "ReLU, He, with activations": Net(lambda: chain(6), FINE, statistics=FULL),
    "one hidden layer": Net(lambda: plain(1), FINE),
    "tanh, Glorot, 10 layers": Net(lambda: chain(10, WIDTH, nn.Tanh, 1.0), FINE),
    "tanh, orthogonal, 30 layers": Net(lambda: orthogonal(30, nn.Tanh), FINE),
    "linear, orthogonal, 50 layers": Net(lambda: orthogonal(50, nn.Identity), FINE, 1e-4),
    "linear, orthogonal, 500 layers": Net(lambda: orthogonal(500, nn.Identity, 12), FINE, 1e-5, 3),
    "SELU, LeCun, 20 layers": Net(lambda: chain(20, WIDTH, nn.SELU, 1.0), FINE, 0.01),
    "SiLU, 4 layers": Net(lambda: plain(4, nn.SiLU), FINE),
    "PReLU, He": Net(lambda: chain(5, WIDTH, nn.PReLU), FINE),
    "sigmoid with BN": Net(lambda: normed(10, nn.Sigmoid), FINE, 0.01, 10),
    "ReLU with BN, 10 layers": Net(lambda: normed(10, nn.ReLU), FINE, 0.01),
    "tanh with LN, 12 layers": Net(lambda: normed(12, nn.Tanh, nn.LayerNorm), FINE, 0.01),
    "residual, branches end in zeros": Net(lambda: Residual(5, lambda: branch(zero=True)), FINE, 0.1, 60),
    "residual with LN, 12 blocks": Net(lambda: Residual(12, lambda: branch(norm=True)), FINE),
    "residual with LN, 250 blocks": Net(lambda: Residual(250, lambda: branch(True), 250**-0.5), FINE, 0.01, 3),
    "ReZero": Net(lambda: Residual(6, ReZero), FINE, 0.2, 60),
    "stochastic depth": Net(lambda: Residual(6, lambda: branch(True), skip=3), FINE, 0.05, 12),
    "narrow resnet": Net(lambda: zoo.resnet(True), FINE, 0.01, 4, loss=of_zoo("resnet18")),
    "small convolutional net": Net(lenet, FINE, loss=images),
    "densely connected": Net(Dense, FINE),
    "highway": Net(lambda: nn.Sequential(*(Highway() for _ in range(8)), nn.Linear(WIDTH, CLASSES)), FINE),
    "post-LN transformer": Net(zoo.Transformer, FINE, loss=of_zoo("transformer")),
    "post-LN transformer, 12 blocks": Net(lambda: Sequences(encoder(12, False)), FINE, 0.01, 6, loss=tokens),
    "pre-LN transformer, 6 blocks": Net(lambda: Sequences(encoder(6, True)), FINE, loss=tokens),
    "transformer, tied embedding": Net(lambda: Sequences(encoder(2, True), True), FINE, 0.01, loss=tokens),
    "mixer": Net(lambda: Sequences(nn.Sequential(*(Mixer() for _ in range(4)))), FINE, loss=tokens),
    "LSTM": Net(lambda: Sequences(nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)), FINE, loss=tokens),
    "GRU": Net(lambda: Sequences(nn.GRU(WIDTH, WIDTH, batch_first=True)), FINE, loss=tokens),
    "recurrent, orthogonal": Net(lambda: recurrent(1.0), FINE, loss=tokens),
    "GAN, discriminator": Net(zoo.Pair, FINE, loss=of_zoo("gan"), watched="discriminator"),
    "GAN, generator": Net(zoo.Pair, FINE, loss=of_zoo("gan", 1), watched="generator"),
    "autoencoder": Net(zoo.Autoencoder, FINE, loss=of_zoo("autoencoder")),
    "mixture of experts": Net(Experts, FINE),
    "weight norm": Net(lambda: nn.Sequential(*(
        parametrizations.weight_norm(part) if isinstance(part, nn.Linear) else part for part in plain(3))), FINE,
        loss=times(1.0)),
    "spectral norm": Net(lambda: nn.Sequential(*(
        parametrizations.spectral_norm(part) if isinstance(part, nn.Linear) else part for part in plain(3))), FINE),
    "LoRA": Net(lora, UNUSED, 0.5, 60),
    "frozen layer": Net(lambda: frozen(plain(1), 1), UNUSED),
    "frozen backbone": Net(lambda: frozen(plain(5), 10), UNUSED),
    "two heads, one used": Net(lambda: Parts(lambda m, x: m.head(m.body(x))), UNUSED),
    "a branch by step": Net(lambda: Parts(
        lambda m, x: m.head(m.body(m.other(x) if m.count % 2 else x))), FINE),
    "a part behind detach": Net(lambda: Parts(lambda m, x: m.head(m.body(x) + m.other(x).detach())), UNUSED),
    "shared by two inputs": Net(lambda: Parts(lambda m, x: m.head(m.body(x) - m.body(-x) + m.other(x))), FINE),
    "fitted to the end": Net(lambda: plain(2), FINE, 0.3, 150, loss=lambda m, seed: times(1.0)(m, 0)),
}  # fmt: skip


def dead_layer() -> nn.Module:
    return changed(plain(6), lambda model: model[4].bias.fill_(-10.0))


def biased(depth: int, bias: float) -> nn.Module:
    return changed(plain(depth, nn.Tanh), lambda m: [part.bias.fill_(bias) for part in linears(m)[:-1]])


def zero_head() -> nn.Module:
    return changed(chain(20, WIDTH, nn.Tanh, 0.5), lambda model: model[-1].weight.zero_())


def half_lora() -> nn.Module:
    return lora(a=0.0)


def nan_at() -> nn.Module:
    return nn.Sequential(*plain(2)[:-1], NanAt(), nn.Linear(WIDTH, CLASSES))


ILL = {
    "head of zeros behind shrinking layers": Net(zero_head, ("one layer off",), 0.1, 30),
    "output registered first": Net(OutFirst, ("vanishing",), 0.1, 10),
    "sigmoid, 10 layers": Net(lambda: chain(10, 64, nn.Sigmoid, 1.0), ("vanishing",), 0.01, 6),
    "sigmoid, torch's initialisation, 30 layers": Net(lambda: plain(30, nn.Sigmoid), ("vanishing",)),
    "ReLU, torch's initialisation, 20 layers": Net(lambda: plain(20), ("vanishing",)),
    "tanh, torch's initialisation, 30 layers": Net(lambda: plain(30, nn.Tanh), ("vanishing",)),
    "tanh, torch's initialisation, 500 layers": Net(lambda: plain(500, nn.Tanh, 12), ("vanishing", "zero"), steps=3),
    "tanh, large biases": Net(lambda: biased(6, 3.0), ("vanishing", "saturated"), 1e-3, statistics=FULL),
    "tanh, gain 3, 30 layers": Net(
        lambda: chain(30, 64, nn.Tanh, 3.0), ("exploding with depth",), 1e-9, statistics="cheap"),
    "tanh, gain 0.3, 30 layers": Net(lambda: chain(30, WIDTH, nn.Tanh, 0.3), ("too small",)),
    "ReLU, gain 0.3, 30 layers": Net(lambda: chain(30, 64, gain=0.3), ("too small",)),
    "ReLU, gain 3, 20 layers": Net(lambda: chain(20, 64, gain=3.0), ("too large",), 1e-12),
    "linear, gain 1.5, 30 layers": Net(lambda: chain(30, 64, nn.Identity, 1.5), ("too large",), 1e-12),
    "ReLU with BN, 60 layers": Net(lambda: normed(60, nn.ReLU), ("exploding with depth",), 1e-6, 4),
    "residual without norm, 60 blocks": Net(
        lambda: Residual(60, lambda: nn.Sequential(*chain(1)[:2])), ("too large",), 1e-20),
    "one layer scaled by 1e6": Net(lambda: scaled(0, 0, 0, 0, 0, 0, 6, 0), ("one layer off",), 1e-14),
    "scaled in a V": Net(lambda: scaled(4, 3, 2, 1, 0, 1, 2, 3, 4), ("V-shaped",), 1e-12),
    "scaled in an arch": Net(lambda: scaled(-4, -3, -2, -1, 0, -1, -2, -3, -4), ("arched",), 1e-8),
    "every other layer scaled": Net(lambda: scaled(0, 4, 0, 4, 0, 4, 0, 4), ("uneven",), 1e-12),
    "scaled, growing towards the input": Net(
        lambda: scaled(5, 4, 3, 2, 1, 0), ("exploding with depth",), 1e-14),
    "inputs of 1e4": Net(
        lambda: changed(chain(6), lambda m: m[0].weight.mul_(1e-4)), ("one layer off",), 1e-12,
        loss=times(1.0, 1e4)),
    "transformer, weights of 0.002": Net(
        lambda: Sequences(encoder(3, True), std=0.002), ("one layer off",), loss=tokens),
    "recurrent, gain 20": Net(lambda: recurrent(20.0), ("too large",), 1e-12, loss=tokens),
    "GAN, certain discriminator": Net(sure, ("too small",), loss=fooled, watched="generator"),
    "loss over 1e9": Net(lambda: chain(6), ("too small",), loss=times(1e-9)),
    "loss times 1e6": Net(lambda: chain(6), ("too large",), 1e-9, loss=times(1e6)),
    "loss times 1e39": Net(lambda: chain(3), ("not finite",), 0.0, loss=times(1e39)),
    "diverges": Net(lambda: chain(6, 64), ("not finite", "too large"), 1e6, 12),
    "nan from the fifth step on": Net(nan_at, ("not finite",), 0.0),
    "rate too large, squares": Net(lambda: nn.Sequential(nn.Linear(WIDTH, CLASSES)), ("exploding with time",), 3e6, 8,
                                   loss=squares),
    "LSTM in both directions, read at the last place": Net(zoo.Recurrent, ("zero",), loss=of_zoo("lstm")),
    "dead layer": Net(dead_layer, ("zero", "dead"), statistics=FULL),
    "dead convolution": Net(lambda: lenet(-100.0), ("zero", "dead"), loss=images, statistics=FULL),
    "a branch times 0": Net(lambda: Residual(4, branch, 0.0), ("zero",)),
    "LoRA with both factors zero": Net(half_lora, ("zero", "no gradient")),
    "residual, saturated branches": Net(
        lambda: Residual(6, lambda: branch(norm=True, bias=4.0)), ("uneven", "saturated"), statistics=FULL, rate=1e-3),
}  # fmt: skip


def trained(net: Net) -> nn.Module:
    torch.manual_seed(0)
    return net.build()
