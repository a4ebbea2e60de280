"""Many runs as one program: `python -m bnrepro.batched RUN_DIR...`, which `batched=true` does for a sweep.

Runs that differ only in numbers (groups.FREE) train together: their parameters, buffers and optimizer states are
stacked, and a step of all of them is one forward pass, one backward pass and one update. That is for GPUs, where a step
of a small net is spent waiting for launches. Each run keeps its directory, tables, status and checkpoint; its numbers
equal those of a run of its own to rounding, not to the byte.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from bnrepro import execute, groups, optim, records
from bnrepro.data import Batches
from bnrepro.train import Interrupted, Outcome, Run
from bnrepro.validate import ConfigError

Ended = Outcome | Exception | None  # of one run after one step; None while it goes on


class Stack:
    """Runs that take the same next step, stacked: parameters [R, P], buffers and what is not learned [R, ...].

    The parameters, buffers and optimizer states of the runs become views of these, so that at any time a run can be
    evaluated, measured, saved, or take a step of its own.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs, self.model = list(runs), runs[0].model
        learned = [_learned(run) for run in runs]
        self.shapes = {name: parameter.shape for name, parameter in learned[0].items()}
        self.parameters = torch.stack([parameters_to_vector(one.values()).detach() for one in learned])
        for row, one in zip(self.parameters, learned, strict=True):
            vector_to_parameters(row, one.values())
        rest = [_rest(run) for run in runs]
        self.rest = {name: torch.stack([one[name].detach() for one in rest]) for name in rest[0]}
        for row, one in enumerate(rest):
            for name, tensor in one.items():
                tensor.data = self.rest[name][row]
        configs, optimizers = [run.config.optim for run in runs], [run.optimizer for run in runs]
        self.optimizer = optim.Together(configs, optimizers, self.parameters, runs[0].progress.step)

    def step(self, step: int) -> list[Ended]:
        """What Run.step does, for all runs at once. One transfer to the host brings all losses and counts."""
        images, labels = Batches.together([run.batches for run in self.runs], step)
        parameters = self.parameters.detach().requires_grad_()
        logits = vmap(self._logits)(parameters, self.rest, images)
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)
        (gradients,) = torch.autograd.grad(losses.sum(), [parameters])
        correct = (logits.argmax(2) == labels).sum(1)
        found = torch.stack((losses.detach().double(), correct.double()), 1).tolist()
        if step in self.runs[0].cadence:
            self._show(gradients)
        ended = [
            _guarded(run.after_backward, step, loss, int(hits), labels.shape[1])
            for run, (loss, hits) in zip(self.runs, found, strict=True)
        ]
        self.optimizer.step(gradients, [run.rate(step) for run in self.runs], step)
        return [end or _guarded(run.after_update, step) for run, end in zip(self.runs, ended, strict=True)]

    def _logits(self, parameters: Tensor, rest: dict[str, Tensor], images: Tensor) -> Tensor:
        """What one run makes of its batch; its buffers in `rest` are updated in place."""
        return functional_call(self.model, self._named(parameters) | rest, (images,))

    def _named(self, row: Tensor) -> dict[str, Tensor]:
        parts = row.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _show(self, gradients: Tensor) -> None:
        """Give each run its gradients, where its probes look for them."""
        for run, row in zip(self.runs, gradients, strict=True):
            parts = self._named(row)
            for name, parameter in _learned(run).items():
                parameter.grad = parts[name]


def train(
    runs: Sequence[Run],
    end: Callable[[Run, Outcome | Exception], None],
    stop: Callable[[], bool] = lambda: False,
    tick: Callable[[Run, int], None] = lambda run, step: None,
) -> None:
    """Train opened runs of one group to their ends; `end` is told of each, once, and `tick` of every step of each.

    Runs that were interrupted at different steps join when their step has come. Steps whose forward pass is watched are
    taken by each run for itself. Raises Interrupted after saving the checkpoints when `stop` answers true.
    """
    going, stack, saved = list(runs), None, time.monotonic()
    for step in range(min(run.progress.step for run in runs) + 1, runs[0].steps + 1):
        present = [run for run in going if run.progress.step == step - 1]
        if not present:
            continue
        if present[0].recorder.watches(step):
            ended = [_guarded(run.step, step) for run in present]
        else:
            stack = stack if stack and stack.runs == present else Stack(present)
            ended = stack.step(step)
        for run, how in zip(present, ended, strict=True):
            if how:
                going.remove(run)
                end(run, how)
            else:
                tick(run, step)
        stopping = stop() and step < runs[0].steps
        if stopping or time.monotonic() - saved > runs[0].config.train.checkpoint_seconds:
            for run in going:
                run.save()
            saved = time.monotonic()
        if stopping and going:
            raise Interrupted(step, runs[0].steps)
    for run in going:
        end(run, run.outcome())


def execute_together(directories: Sequence[Path]) -> None:
    """Run, or continue, frozen runs of one group, except those that have a result or are being run already.

    What happens to each is in its status.json; errors are recorded there and not raised.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a run has four files open
    with contextlib.ExitStack() as locks:
        mine = [directory for directory in directories if locks.enter_context(execute.lock(directory))]
        missing = [directory for directory in mine if execute.status(directory) not in records.RESULTS]
        attempts = {directory: execute.Attempt(directory) for directory in missing}
        try:
            _train(attempts)
        except BaseException as error:
            for attempt in attempts.values():
                if not attempt.ended:
                    attempt.fail(error)


def _train(attempts: dict[Path, execute.Attempt]) -> None:
    runs = _opened(attempts)
    if not runs:
        return

    def end(run: Run, how: Outcome | Exception) -> None:
        run.close()
        attempt = attempts[run.directory]
        attempt.fail(how) if isinstance(how, Exception) else attempt.end(vars(how))

    with execute.asked_to_stop() as stop:
        train(runs, end, stop, lambda run, step: attempts[run.directory].pulse(step, run.steps))


def _opened(attempts: dict[Path, execute.Attempt]) -> list[Run]:
    """The runs, with one dataset between them; one that cannot be opened has failed, and the others go on."""
    found: list[Run] = []
    for directory, attempt in attempts.items():
        try:
            config = execute.read(directory)
            torch.set_num_threads(config.threads)
            run = Run(config, directory, found[0].dataset if found else None)
            execute.describe(run, attempt.log, batched=len(attempts))
            run.open()
            found.append(run)
        except Exception as error:
            attempt.fail(error)
    return found


def _guarded(function: Callable[..., Outcome | None], *arguments: object) -> Ended:
    """What goes wrong in the code of one run ends that run alone."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _learned(run: Run) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in run.model.named_parameters() if parameter.requires_grad}


def _rest(run: Run) -> dict[str, Tensor]:
    """Buffers, and parameters that are not learned."""
    fixed = {name: parameter for name, parameter in run.model.named_parameters() if not parameter.requires_grad}
    return fixed | dict(run.model.named_buffers())


def main() -> int:
    directories = [Path(word) for word in sys.argv[1:]]
    if not directories or not all((directory / "config.json").exists() for directory in directories):
        print("usage: python -m bnrepro.batched RUN_DIR... (with the config.json of a run in each)", file=sys.stderr)
        return 2
    try:
        found = groups.grouped(directories)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    for group in found:
        execute_together(group) if len(group) > 1 else execute.execute(group[0])
    states = {directory: execute.status(directory) for directory in directories}
    for directory, state in states.items():
        print(f"{state:12} {directory}")
    return 0 if set(states.values()) <= set(records.RESULTS) else 1


if __name__ == "__main__":
    sys.exit(main())
