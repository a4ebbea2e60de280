"""Imported once by the fork server: one model and one optimizer make torch load what it loads lazily (4 s)."""

import torch

from bnrepro.core import schema
from bnrepro.models import build as models
from bnrepro.train import optim

torch.set_num_threads(1)  # a process that has started no threads can be forked
optim.make(schema.SGD(), models.build(schema.MLP(depth=1, width=2), (1, 2, 2), 2, seed=0).parameters())
