"""A training loop of two steps in every situation, watched or not, and what must be found in it, by tests/plain.py."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plain
import torch
import zoo
from situations import SITUATIONS, Situation, poison
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from bnrepro.gradients.attach import attach

STEPS = (1, 2)
CLIP = 0.01


@dataclass
class Moment:
    """What a turn of a step started from, and what it did, as copies."""

    step: int
    turn: int
    state: dict[str, torch.Tensor]
    grads: dict[str, np.ndarray | None]
    weights: dict[str, np.ndarray]
    total: float  # norm of all gradients


def train(name: str, how: Situation, model: nn.Module, directory: Path | None = None, rank: int = 0) -> list[Moment]:
    """Train as a user does, watched where there is a directory for the tables."""
    called, moments = _wrapped(name, how, model), []
    modules, watches = zoo.turns(name, model), []
    if directory:
        places = [directory / f"turn{turn}" for turn in range(len(modules))]
        watches = [
            attach(module, place, statistics="full", every=1)
            for module, place in zip(zoo.turns(name, called), places, strict=True)
        ]
    optimizers = [torch.optim.SGD([p for p in m.parameters() if p.requires_grad], 0.05, 0.9) for m in modules]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=how.scaled)
    for step in STEPS:
        for turn, (module, optimizer) in enumerate(zip(modules, optimizers, strict=True)):
            called.train(how.training)
            state = copy.deepcopy(model.state_dict()) if watches else {}
            optimizer.zero_grad()
            torch.manual_seed(step)
            for batch in _parts(name, how, step, model)[rank : None if how.ranks == 1 else rank + 1]:
                scaler.scale(_loss(name, how, called, batch, turn) / how.parts).backward()
            if how.evaluated:
                _evaluate(name, how, called, step)
            if watches:
                watches[turn].after_backward(scaler=scaler if how.scaled else None)
                moments.append(_moment(step, turn, state, module))
            if how.clipped:
                nn.utils.clip_grad_norm_(module.parameters(), CLIP)
                watches and watches[turn].after_clipping()
            scaler.step(optimizer)
            scaler.update()
    for watch in watches:
        watch.close()
    return moments


def _wrapped(name: str, how: Situation, model: nn.Module) -> nn.Module:
    if how.compiled:
        torch._dynamo.reset()
        return torch.compile(model, backend=how.compiled[name])
    if how.ranks == 1:
        return model
    if name != "gan":
        return DistributedDataParallel(model)
    pair = zoo.Pair()
    pair.generator, pair.discriminator = map(DistributedDataParallel, (model.generator, model.discriminator))
    return pair


def _parts(name: str, how: Situation, step: int, model: nn.Module) -> list[zoo.Batch]:
    x, labels = zoo.batch(name, step)
    x = x.to(next(model.parameters()).dtype) if x.is_floating_point() else x
    count = max(how.parts, how.ranks)
    return list(zip(x.chunk(count), labels.chunk(count), strict=True))


def _loss(name: str, how: Situation, model: nn.Module, batch: zoo.Batch, turn: int) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=how.autocast):
        return zoo.loss(name, model, batch, turn)


def _evaluate(name: str, how: Situation, model: nn.Module, step: int) -> None:
    model.eval()
    with torch.no_grad():
        _loss(name, how, model, zoo.batch(name, 100 + step, 6), 0)
    model.train(how.training)


def _moment(step: int, turn: int, state: dict, module: nn.Module) -> Moment:
    grads = {name: weight.grad for name, weight in plain.layers(module).items()}
    grads = {name: None if grad is None else plain.numbers(grad) for name, grad in grads.items()}
    every = [plain.norm(plain.numbers(p.grad)) for p in module.parameters() if p.grad is not None]
    return Moment(step, turn, state, grads, _weights(module), float(np.hypot.reduce(every)))


def _weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: plain.numbers(weight) for name, weight in plain.layers(module).items()}


def expected(name: str, how: Situation, start: nn.Module, moments: list[Moment]) -> list[dict]:
    """For every turn {(step, layer, statistic): value}, from the untrained model and what was copied in training."""
    found: list[dict] = [{} for _ in zoo.turns(name, start)]
    earlier: dict[int, tuple[Moment, dict]] = {}
    for moment in moments:
        grads, rows = _passes(name, how, start, moment)
        rows |= {(layer, statistic): value for layer, statistic, value in _of_weights(how, start, name, grads, moment)}
        found[moment.turn] |= {(moment.step, *key): value for key, value in rows.items()}
        if moment.turn in earlier:
            found[moment.turn] |= _following(*earlier[moment.turn], moment, grads)
        earlier[moment.turn] = (moment, grads)
    return found


def _passes(name: str, how: Situation, start: nn.Module, moment: Moment) -> tuple[dict, dict]:
    """Gradients by plain autograd, of compiled models those that were left behind, as their kernels round otherwise;
    and activations, among processes those of the first."""
    model = plain.twin(start)
    model.load_state_dict(moment.state)
    if how is SITUATIONS["not finite"]:
        poison(model)
    module = zoo.turns(name, model.train(how.training))[moment.turn]
    parts, losses = _parts(name, how, moment.step, model), []

    def run(batches: list[zoo.Batch]) -> None:
        for batch in batches:
            losses.append(_loss(name, how, model, batch, moment.turn) / len(parts))

    torch.manual_seed(moment.step)
    found = plain.activations(module, lambda: run(parts[:1] if how.ranks > 1 else parts))
    if how.ranks > 1:
        torch.manual_seed(moment.step)
        run(parts[1:])
    return moment.grads if how.compiled else plain.gradients(module, losses), found


def _of_weights(how: Situation, start: nn.Module, name: str, grads: dict, moment: Moment) -> Iterator[tuple]:
    shrunk = min(1.0, CLIP / (moment.total + 1e-6))  # torch.nn.utils.clip_grad_norm_
    for layer in plain.layers(zoo.turns(name, start)[moment.turn]):
        for statistic, value in plain.of_gradient(grads[layer]).items():
            yield layer, statistic, value
            if how.clipped:
                yield layer, f"{statistic}_clipped", None if value is None else value * shrunk
        yield layer, "grad_spectral", plain.spectral(grads[layer])
        yield layer, "weight_fro", plain.norm(moment.weights[layer])


def _following(moment: Moment, grads: dict, then: Moment, new: dict) -> dict:
    """What is known of a step at the next one."""
    found = {}
    for layer, weight in moment.weights.items():
        found[moment.step, layer, "update_ratio"] = plain.ratio(then.weights[layer] - weight, weight)
        found[moment.step, layer, "grad_noise"] = plain.noise(grads[layer], new[layer])
    return found
