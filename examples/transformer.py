"""A transformer encoder of torch.nn that learns to reverse a sequence: compiled, accumulated, clipped, and watched.

    python examples/transformer.py --steps 200 --compile

Shows where `after_backward` and `after_clipping` belong in a loop with several passes before a step.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from bnrepro import attach
from bnrepro.gradients import heatmap, terminal, view

WORDS, LENGTH = 12, 8


class Reverse(nn.Module):
    """Tokens [N, LENGTH] to logits [N, LENGTH, WORDS]; the embedding is tied to the output layer."""

    def __init__(self, width: int = 32, depth: int = 4):
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        self.place = nn.Parameter(torch.randn(LENGTH, width) / 10)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, activation=nn.ReLU(), batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, WORDS)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(tokens) + self.place))


def train(directory: Path, steps: int, passes: int, compiled: bool) -> float:
    """Returns the last loss."""
    torch.manual_seed(0)
    model = torch.compile(Reverse()) if compiled else Reverse()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with attach(model, directory, statistics="full", replace=True) as watch:
        for _ in range(steps):
            optimizer.zero_grad()
            for _ in range(passes):
                tokens = torch.randint(WORDS, (32, LENGTH))
                loss = F.cross_entropy(model(tokens).flatten(0, 1), tokens.flip(1).flatten()) / passes
                loss.backward()
            watch.after_backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            watch.after_clipping()
            optimizer.step()
    return passes * loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--passes", type=int, default=2, help="forward and backward before a step")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("outputs/examples"))
    options = parser.parse_args()
    home = options.out / "transformer"
    print(f"loss {train(home, options.steps, options.passes, options.compile):.3f}")
    terminal.show([view.find(str(home))])
    heatmap.save([view.find(str(home))], options.out / "transformer.png")


if __name__ == "__main__":
    main()
