"""Ten models as people train them, on inputs small enough for a test: the module, and the losses of one step.

Of vgg11_bn, convnext_tiny and vit_b_16 equal parts are left out (said beside each), since a test need not wait for a
hundred million weights; every kind of layer stays, in its full width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

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


class Pair(nn.Module):
    """Generator and discriminator, which take turns."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(6, 16, 4), nn.BatchNorm2d(16), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 8, 3), nn.LeakyReLU(0.2), nn.Flatten(),
            nn.Linear(32, 1),
        )  # fmt: skip


def vgg() -> nn.Module:
    """The classifier's 123 million weights are one layer."""
    model = models.vgg11_bn(num_classes=10)
    model.avgpool, model.classifier = nn.Identity(), nn.Sequential(nn.Dropout(), nn.Linear(512, 10))
    return model


def convnext() -> nn.Module:
    """One block where there are three or nine."""
    blocks = [CNBlockConfig(96, 192, 1), CNBlockConfig(192, 384, 1), CNBlockConfig(384, 768, 1), CNBlockConfig(768, None, 1)]  # fmt: skip
    return models.ConvNeXt(blocks, stochastic_depth_prob=0.1, num_classes=10)


def vit() -> nn.Module:
    """Two of twelve blocks."""
    model = models.VisionTransformer(32, 16, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072, num_classes=10)
    nn.init.normal_(model.heads.head.weight, std=0.02)  # zero at first, and with it every other gradient
    return model


BUILD: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: models.resnet18(num_classes=10),
    "vgg11_bn": vgg,
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(num_classes=10),
    "convnext_tiny": convnext,
    "vit_b_16": vit,
    "densenet121": lambda: models.densenet121(num_classes=10),
    "transformer": Transformer,
    "lstm": Recurrent,
    "gan": Pair,
    "autoencoder": Autoencoder,
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
    """The modules that are trained one after the other in a step; their losses are those of `losses`."""
    return [model.discriminator, model.generator] if name == "gan" else [model]


def losses(name: str, model: nn.Module, batch: Batch) -> Iterator[Tensor]:
    """The loss of each turn; each is to be stepped before the next is asked for."""
    x, labels = batch
    if name == "gan":
        made = model.generator(x[:, :2, :3, 0].reshape(len(x), 6, 1, 1))
        yield _says(model.discriminator(x), 1) + _says(model.discriminator(made.detach()), 0)
        yield _says(model.discriminator(made), 1)
    elif name == "autoencoder":
        yield F.mse_loss(model(x), x.flatten(1).to(model(x).dtype))
    else:
        yield F.cross_entropy(model(x), labels)


def _says(logits: Tensor, real: int) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))
