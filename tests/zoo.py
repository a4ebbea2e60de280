"""Ten models as people train them, on inputs small enough for a test: the modules, and the losses of a step.

The six of torchvision come as they are, but for equal parts left out of three of them (said beside each), or narrow:
the same modules in the same order with fewer channels, so that a test of many situations takes a minute.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

Batch = tuple[Tensor, Tensor]


class Transformer(nn.Module):
    """A language model; vocabulary of 20."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, activation=nn.GELU(), batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens))).mean(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.lstm = nn.LSTM(12, 14, num_layers=2, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(28, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(tokens))[0][:, -1])


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 40), nn.Tanh(), nn.Linear(40, 8), nn.Sigmoid())
        self.decoder = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 192))

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))


class Chain(nn.Module):
    def __init__(self, *parts: nn.Module):
        super().__init__()
        self.net = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Pair(nn.Module):
    """Generator and discriminator, which take turns."""

    def __init__(self):
        super().__init__()
        self.generator = Chain(
            nn.ConvTranspose2d(6, 16, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()
        )
        self.discriminator = Chain(
            nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 8, 3), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(32, 1),
        )  # fmt: skip


class NarrowResNet(models.ResNet):
    def _make_layer(self, block: type[nn.Module], planes: int, *rest: int, **named: object) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *rest, **named)


def resnet(narrow: bool) -> nn.Module:
    if not narrow:
        return models.resnet18(num_classes=10)
    model = NarrowResNet(models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=10)
    model.fc = nn.Linear(64, 10)
    return model


def vgg(narrow: bool) -> nn.Module:
    """The classifier's 123 million weights are one layer."""
    plan = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"] if narrow else models.vgg.cfgs["A"]
    with torch.device("meta"):
        model = models.vgg11_bn()
    model.features, model.avgpool = models.vgg.make_layers(plan, batch_norm=True), nn.Identity()
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(plan[-2], 10))
    return model


def mobilenet(narrow: bool) -> nn.Module:
    settings, last = models.mobilenetv3._mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.25 if narrow else 1.0)
    return models.MobileNetV3(settings, last, num_classes=10)


def convnext(narrow: bool) -> nn.Module:
    """One block where there are three or nine."""
    widths = [12, 24, 48, 96] if narrow else [96, 192, 384, 768]
    blocks = [models.convnext.CNBlockConfig(*pair, 1) for pair in zip(widths, [*widths[1:], None], strict=True)]
    return models.ConvNeXt(blocks, stochastic_depth_prob=0.1, num_classes=10)


def vit(narrow: bool) -> nn.Module:
    """Two of twelve blocks."""
    width = 96 if narrow else 768
    model = models.VisionTransformer(
        32, 16, num_layers=2, num_heads=12, hidden_dim=width, mlp_dim=4 * width, num_classes=10
    )
    nn.init.normal_(model.heads.head.weight, std=0.02)  # zero at first, and with it every other gradient
    return model


def densenet(narrow: bool) -> nn.Module:
    if not narrow:
        return models.densenet121(num_classes=10)
    return models.DenseNet(growth_rate=8, block_config=(2, 3, 4, 2), num_init_features=16, num_classes=10)


BUILD: dict[str, Callable[[bool], nn.Module]] = {
    "resnet18": resnet,
    "vgg11_bn": vgg,
    "mobilenet_v3_small": mobilenet,
    "convnext_tiny": convnext,
    "vit_b_16": vit,
    "densenet121": densenet,
    "transformer": lambda narrow: Transformer(),
    "lstm": lambda narrow: Recurrent(),
    "gan": lambda narrow: Pair(),
    "autoencoder": lambda narrow: Autoencoder(),
}


def batch(name: str, seed: int, size: int = 4) -> Batch:
    """Inputs and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (size,), generator=generator)
    if name in ("transformer", "lstm"):
        return torch.randint(20, (size, 6), generator=generator), labels
    side = 8 if name in ("gan", "autoencoder") else 32
    return torch.rand(size, 3, side, side, generator=generator) * 2 - 1, labels


def turns(name: str, model: nn.Module) -> list[nn.Module]:
    """The modules that are trained one after the other in a step, each by its own `loss`."""
    return [model.discriminator, model.generator] if name == "gan" else [model]


def loss(name: str, model: nn.Module, batch: Batch, turn: int = 0) -> Tensor:
    x, labels = batch
    if name == "gan":
        made = model.generator(x[:, :2, :3, :1].reshape(len(x), 6, 1, 1))
        if turn == 1:
            return _says(model.discriminator(made), 1)
        return _says(model.discriminator(x), 1) + _says(model.discriminator(made.detach()), 0)
    if name == "autoencoder":
        return F.mse_loss(model(x).float(), x.flatten(1).float())
    return F.cross_entropy(model(x), labels)


def _says(logits: Tensor, real: int) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))
