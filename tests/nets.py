"""Nets built healthy or ill, with the kinds of words that are right of each, written down before the rules saw them.

A net is watched for a few steps of plain gradient descent. HEALTHY and ILL hold them by name; what is said beyond
`right` is a false alarm of a healthy net and a wrong sentence of an ill one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import zoo
from torch import Tensor, nn

FINE = ("nothing remarkable",)
WIDTH, CLASSES = 32, 10


@dataclass(frozen=True)
class Net:
    build: Callable[[], nn.Module]
    right: tuple[str, ...]
    rate: float = 0.05
    steps: int = 8
    statistics: Any = "cheap"
    loss: Callable[[nn.Module, int], Tensor] | None = None
    watched: str = ""  # the part of the model that is watched


def vectors(model: nn.Module, seed: int) -> Tensor:
    """Which of the first inputs is the largest."""
    width = next(parameter for parameter in model.parameters() if parameter.dim() == 2).shape[-1]
    images = torch.randn(64, width, generator=torch.Generator().manual_seed(seed))
    outputs = model(images)
    return F.cross_entropy(outputs, images[:, : outputs.shape[1]].argmax(1))


def times(factor: float, inputs: float = 1.0) -> Callable[[nn.Module, int], Tensor]:
    def loss(model: nn.Module, seed: int) -> Tensor:
        images = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(seed))
        return factor * F.cross_entropy(model(inputs * images), images[:, :CLASSES].argmax(1))

    return loss


def of_zoo(name: str, turn: int = 0) -> Callable[[nn.Module, int], Tensor]:
    return lambda model, seed: zoo.loss(name, model, zoo.batch(name, seed, 8), turn)


def tokens(model: nn.Module, seed: int) -> Tensor:
    words = torch.randint(20, (8, 6), generator=torch.Generator().manual_seed(seed))
    return F.cross_entropy(model(words), words[:, 0] % CLASSES)


def images(model: nn.Module, seed: int) -> Tensor:
    pictures = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return F.cross_entropy(model(pictures), pictures.flatten(1)[:, :CLASSES].argmax(1))


def chain(
    depth: int, width: int = WIDTH, activation: Callable[[], nn.Module] = nn.ReLU, gain: float = 2**0.5
) -> nn.Sequential:
    """Hidden layers with weights of deviation gain / sqrt(width), and an output layer of 10."""
    layers = [nn.Linear(width, width, bias=False) for _ in range(depth)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=gain / width**0.5)
    return nn.Sequential(*(part for layer in layers for part in (layer, activation())), nn.Linear(width, CLASSES))


def orthogonal(depth: int, activation: Callable[[], nn.Module], width: int = WIDTH) -> nn.Sequential:
    model = chain(depth, width, activation)
    for layer in linears(model):
        nn.init.orthogonal_(layer.weight)
    return model


def plain(depth: int, activation: Callable[[], nn.Module] = nn.ReLU, width: int = WIDTH) -> nn.Sequential:
    """As torch initialises it."""
    hidden = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(*hidden, nn.Linear(width, CLASSES))


def normed(depth: int, activation: Callable[[], nn.Module], norm: type[nn.Module] = nn.BatchNorm1d) -> nn.Sequential:
    hidden = [part for _ in range(depth) for part in (nn.Linear(WIDTH, WIDTH), norm(WIDTH), activation())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, CLASSES))


def linears(model: nn.Module) -> list[nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def changed(model: nn.Module, change: Callable[[Any], object]) -> nn.Module:
    with torch.no_grad():
        change(model)
    return model


class Scaled(nn.Linear):
    """The weight is a parameter of another size: its gradient is `scale` times that of the same layer, unscaled."""

    scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scale * self.weight)


def scaled(*decades: float) -> nn.Sequential:
    """Orthogonal linear layers whose gradients are these powers of ten apart."""
    layers = [Scaled(WIDTH, WIDTH, bias=False) for _ in decades]
    for layer, decade in zip(layers, decades, strict=True):
        layer.scale = 10.0**decade
        nn.init.orthogonal_(layer.weight, gain=10.0**-decade)
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


class OutFirst(nn.Module):
    """The output layer is registered before the hidden ones."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(WIDTH, CLASSES)
        self.hidden = chain(10, WIDTH, nn.Sigmoid, 1.0)[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(x))


class Residual(nn.Module):
    """x + scale * branch(x); `skip`: a branch is left out at one step in so many."""

    def __init__(self, depth: int, branch: Callable[[], nn.Module], scale: float | nn.Module = 1.0, skip: int = 0):
        super().__init__()
        self.branches = nn.ModuleList(branch() for _ in range(depth))
        self.out = nn.Linear(WIDTH, CLASSES)
        self.scale, self.skip, self.count = scale, skip, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        for place, branch in enumerate(self.branches):
            if not self.skip or (place + self.count) % self.skip:
                x = x + self.scale * branch(x)
        return self.out(x)


def branch(norm: bool = False, zero: bool = False, bias: float | None = None) -> nn.Sequential:
    last = nn.Linear(WIDTH, WIDTH)
    made = nn.Sequential(nn.LayerNorm(WIDTH) if norm else nn.Identity(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), last)
    if zero:
        nn.init.zeros_(last.weight)
    if bias is not None:
        nn.init.constant_(made[1].bias, bias)
    return made


class ReZero(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(WIDTH, WIDTH), nn.ReLU())
        self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * super().forward(x)


class Lora(nn.Module):
    """A frozen weight plus b a; b begins at zero."""

    def __init__(self, a: float = 1.0):
        super().__init__()
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.a, self.b = nn.Linear(WIDTH, 4, bias=False), nn.Linear(4, WIDTH, bias=False)
        nn.init.normal_(self.a.weight, std=a / WIDTH**0.5)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def lora(a: float = 1.0) -> nn.Sequential:
    return nn.Sequential(*(part for _ in range(3) for part in (Lora(a), nn.GELU())), nn.Linear(WIDTH, CLASSES))


class Sequences(nn.Module):
    """Embedding, a body over [N, 6, 32], and a head on the mean or the last position."""

    def __init__(self, body: nn.Module, tied: bool = False, std: float | None = None):
        super().__init__()
        self.embed, self.body = nn.Embedding(20, WIDTH), body
        self.head = nn.Linear(WIDTH, 20 if tied else CLASSES)
        if tied:
            self.head.weight = self.embed.weight
        for parameter in self.parameters() if std else ():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=std)

    def forward(self, words: Tensor) -> Tensor:
        found = self.body(self.embed(words))
        found = found[0][:, -1] if isinstance(found, tuple) else found.mean(1)
        return self.head(found)[:, :CLASSES]


def encoder(depth: int, first: bool, dropout: float = 0.0) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout, nn.GELU(), batch_first=True, norm_first=first)
    return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.places = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))
        self.channels = nn.Sequential(nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.places(self.norms[0](x).mT).mT
        return x + self.channels(self.norms[1](x))


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x).sigmoid()
        return gate * self.new(x).relu() + (1 - gate) * x


class Parts(nn.Module):
    """Body and two heads; `way` says what is done with them at each step."""

    def __init__(self, way: Callable[[Parts, Tensor], Tensor]):
        super().__init__()
        self.body, self.other, self.head = plain(1)[:-1], nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
        self.way, self.count = way, 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return self.way(self, x)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.route, self.head = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, CLASSES)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU()) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        share, chosen = self.route(x).softmax(1).max(1)
        made = torch.stack([expert(x) for expert in self.experts])[chosen, torch.arange(len(x))]
        return self.head(x + share[:, None] * made)


class Dense(nn.Module):
    """Every layer sees all before it."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH + 8 * n, 8) for n in range(6))
        self.head = nn.Linear(WIDTH + 48, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return self.head(x)


class NanAt(nn.Module):
    """The identity, whose gradient is nan from the fifth pass on."""

    count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        y = x.clone()
        if self.count >= 5:
            y.register_hook(lambda gradient: gradient * float("nan"))
        return y


def lenet(bias: float | None = None) -> nn.Sequential:
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    if bias is not None:
        nn.init.constant_(second.bias, bias)
    return nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(),
        nn.Linear(32, CLASSES),
    )  # fmt: skip


def sure() -> nn.Module:
    """A pair whose discriminator is certain, by the loss log(1 - D) of the generator."""
    return changed(zoo.Pair(), lambda pair: pair.discriminator.net[-1].bias.fill_(-30.0))


def fooled(pair: nn.Module, seed: int) -> Tensor:
    noise = torch.randn(8, 6, 1, 1, generator=torch.Generator().manual_seed(seed))
    return F.logsigmoid(-pair.discriminator(pair.generator(noise))).mean()


def squares(model: nn.Module, seed: int) -> Tensor:
    """Over a million: a rate above 2e6 over the largest eigenvalue of the inputs' covariance makes them grow."""
    x = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(0))
    return 1e-6 * (model(x) - x[:, :CLASSES]).square().sum(1).mean()


def recurrent(gain: float) -> nn.Module:
    model = Sequences(nn.RNN(WIDTH, WIDTH, nonlinearity="relu", batch_first=True))
    return changed(model, lambda m: nn.init.orthogonal_(m.body.weight_hh_l0).mul_(gain))
