"""A training script as anyone has one, and the four lines that watch its gradients (marked with #).

A second argument, attach(model, "outputs/mine"), would write outputs/mine/layers.csv.
"""

import torch
from torch import nn

from bnrepro import attach  #

torch.manual_seed(0)
hidden = [part for _ in range(8) for part in (nn.Linear(50, 50), nn.Sigmoid())]
model = nn.Sequential(nn.Linear(20, 50), nn.Sigmoid(), *hidden, nn.Linear(50, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
watch = attach(model)  #

for _ in range(50):
    points = torch.randn(64, 20)
    loss = nn.functional.cross_entropy(model(points), (points.sum(1) > 0).long())
    optimizer.zero_grad()
    loss.backward()
    watch.after_backward()  #
    optimizer.step()

gradients = watch.frame().query("statistic == 'grad_fro'")
print(gradients.pivot(index=["depth", "layer"], columns="step", values="value").iloc[:, ::4])
print(*watch.words(), sep="\n")  #
