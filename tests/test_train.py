"""Training: pinned first losses, what the arms of one seed share, schedules, evaluation and how runs end."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bnrepro.core import checks, records, run_dir, schema
from bnrepro.models import build as models
from bnrepro.train import execute, optim, trainer, weight_decay
from bnrepro.train import loss as losses

NORMS = ("none", "batch", "batch_manual")

# To the digits that every processor agrees on; a change here is a change of every result.
PINNED = {
    "mlp": [2.372313976287842, 2.4157919883728027, 2.3192622661590576, 2.114685535430908, 2.0433170795440674],
    "vgg11": [3.240063428878784, 3.4461917877197266, 2.9353585243225098, 2.3980820178985596, 3.062011957168579],
}


@pytest.mark.parametrize("kind", PINNED)
def test_the_first_losses_are_pinned(tiny, tiny_vgg, trained, values, kind):
    if kind == "mlp":
        settings = tiny({"train.steps": 5, "seed": 3})
    else:
        changes = {"data.crop": 2, "data.flip": True, "optim.lr": 0.003, "model.norm": "batch_manual"}
        settings = tiny_vgg(changes | {"train.steps": 5})
    losses = list(values(trained(settings), "batch", "loss").values())
    assert losses == pytest.approx(PINNED[kind], rel=1e-6)


def seen(settings: schema.Config, directory) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """The initial state and the training inputs of a run."""
    run, inputs = trainer.Run(settings, directory), []
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.model.register_forward_pre_hook(lambda model, args: inputs.append(args[0].clone()) if model.training else None)
    run.train()
    return start, inputs


def test_arms_of_one_seed_start_from_the_same_weights_and_see_the_same_batches(tiny, tmp_path):
    augmented = {"data.crop": 1, "data.flip": True, "train.steps": 12, "train.population_batches": 2}
    arms = [seen(tiny(augmented | {"model.norm": norm}), tmp_path) for norm in NORMS]
    arms.append(seen(tiny(augmented | {"model.norm": "none", "optim": {"kind": "adam"}, "model.width": 8}), tmp_path))
    start, inputs = arms[0]
    shared = [name for name in start if name.endswith("linear.weight") or name.startswith("output")]
    assert len(shared) == 4 and len(inputs) == 12
    for other_start, other_inputs in arms[1:]:
        assert all(torch.equal(start[name], other_start[name]) for name in shared)
        assert all(torch.equal(*pair) for pair in zip(inputs, other_inputs, strict=True))


def test_another_seed_changes_weights_order_and_augmentation(tiny, tmp_path):
    zero, one = (seen(tiny({"seed": seed, "train.steps": 1}), tmp_path) for seed in (0, 1))
    assert not torch.equal(zero[0]["output.weight"], one[0]["output.weight"])
    assert not torch.equal(zero[1][0], one[1][0])


def test_every_epoch_sees_every_image_once_in_another_order(tiny, tmp_path):
    _, inputs = seen(tiny({"train.steps": 10}), tmp_path)
    first, second = torch.cat(inputs[:5]), torch.cat(inputs[5:])
    assert not torch.equal(first, second)
    torch.testing.assert_close(*(epoch.flatten(1).sum(1).sort().values for epoch in (first, second)))


@pytest.mark.parametrize("kind", ["mlp", "vgg11"])
def test_the_manual_norm_trains_like_torchs(tiny, tiny_vgg, trained, values, kind):
    make = tiny if kind == "mlp" else tiny_vgg
    losses = [
        list(values(trained(make({"model.norm": norm, "optim.lr": 0.05})), "batch", "loss").values())
        for norm in ("batch", "batch_manual")
    ]
    assert len(losses[0]) == 20 and losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ({"kind": "constant"}, 1, 0.8),
        ({"kind": "constant"}, 100, 0.8),
        ({"kind": "step", "every": 2.0}, 20, 0.8),  # the last step of the second epoch of 10 steps
        ({"kind": "step", "every": 2.0}, 21, 0.08),
        ({"kind": "step", "every": 2.0}, 41, 0.008),
        ({"kind": "step", "every": 2.0, "factor": 0.5}, 100, 0.8 / 16),
        ({"kind": "step", "every": 2.0, "floor": 0.01}, 41, 0.01),
        ({"kind": "step", "every": 0.5}, 6, 0.08),
        ({"kind": "cosine"}, 1, 0.8),
        ({"kind": "cosine"}, 51, 0.4),
        ({"kind": "cosine"}, 26, 0.4 * (1 + math.sqrt(0.5))),
        ({"kind": "cosine", "floor": 0.1}, 100, 0.1),
        ({"warmup": 2.0}, 1, 0.04),
        ({"warmup": 2.0}, 20, 0.8),
        ({"warmup": 2.0}, 21, 0.8),
        ({"warmup": 2.0, "floor": 0.1}, 1, 0.04),  # the floor does not lift the warm-up
        ({"warmup": 2.0, "kind": "cosine"}, 20, 0.8),
        ({"warmup": 2.0, "kind": "cosine"}, 61, 0.4),  # the schedule has the other 80 steps
        ({"warmup": 1.0, "kind": "step", "every": 2.0}, 30, 0.8),
        ({"warmup": 1.0, "kind": "step", "every": 2.0}, 31, 0.08),
    ],
)
def test_the_rate_of_a_schedule_at_a_step(schedule, step, expected):
    assert optim.rate(0.8, schema.Schedule(**schedule), step, 100, 10) == pytest.approx(expected, rel=1e-12)


def test_a_clipped_gradient_moves_no_further_than_the_rate_times_the_clip(tiny, trained):
    moved = {}
    for clip in (None, 0.01):
        config = tiny({"train.steps": 1, "optim": {"kind": "sgd", "lr": 0.5}, "train.clip": clip})
        start, run = models.build(config.model, (1, 6, 6), 10, config.seed), trained(config)
        moves = [after - before for after, before in zip(run.model.parameters(), start.parameters(), strict=True)]
        moved[clip] = torch.cat([move.flatten() for move in moves]).norm().item()
    assert moved[0.01] == pytest.approx(0.5 * 0.01, rel=1e-3) and moved[None] > 2 * moved[0.01]


def test_probes_see_the_gradient_before_it_is_clipped(tiny, trained):
    plain, clipped = (trained(tiny({"train.steps": 1, "train.clip": clip})) for clip in (None, 0.01))
    assert (plain.directory / "layers.csv").read_text() == (clipped.directory / "layers.csv").read_text()


def test_smoothed_labels_are_what_is_trained_on():
    logits, labels = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 4
    logs = logits.log_softmax(1)
    target = torch.full((6, 4), 0.1 / 4).scatter_add(1, labels[:, None], torch.full((6, 1), 0.9))
    assert losses.loss(logits, labels, 0.1).item() == pytest.approx(-(target * logs).sum(1).mean().item(), rel=1e-6)
    assert losses.loss(logits, labels).item() == pytest.approx(-logs[range(6), labels].mean().item(), rel=1e-6)


def test_smoothing_changes_the_loss_that_is_trained_and_not_the_one_that_is_scored(tiny, trained, values):
    still = {"train.steps": 1, "optim": {"kind": "sgd", "lr": 1e-12}}
    plain, smooth = (trained(tiny(still | {"train.label_smoothing": part})) for part in (0.0, 0.2))
    assert values(plain, "batch", "loss")[1] != values(smooth, "batch", "loss")[1]
    assert values(plain, "test", "loss") == values(smooth, "test", "loss")


DECAYED = [
    schema.SGD(weight_decay=0.1, decay_on="weights"),
    schema.RMSprop(weight_decay=0.1, decay_on="weights"),
    schema.Adam(weight_decay=0.1, decay_on="weights"),
    schema.TorchOptimizer(decay_on="weights"),  # AdamW, by its own default of 0.01
]


@pytest.mark.parametrize("config", DECAYED, ids=lambda config: config.kind)
def test_decay_on_weights_spares_norms_and_biases(config):
    model = models.build(schema.MLP(depth=2, width=4, norm="batch", bias=True), (1, 6, 6), 3, seed=0)
    optimizer = weight_decay.make(config, model)
    decay = {id(one): group["weight_decay"] for group in optimizer.param_groups for one in group["params"]}
    for name, parameter in model.named_parameters():
        weight = name.endswith("weight") and ".norm." not in name
        assert (decay[id(parameter)] > 0) == weight, name


def test_an_optimizer_of_torch_has_its_own_arguments(tiny):
    arguments = {"weight_decay": 0.05, "betas": [0.8, 0.95]}
    config = tiny({"optim": {"kind": "torch", "lr": 0.02, "arguments": arguments}})
    made = weight_decay.make(config.optim, models.build(config.model, (1, 6, 6), 3, seed=0))
    expected = {"lr": 0.02, "weight_decay": 0.05, "betas": (0.8, 0.95)}
    assert type(made) is torch.optim.AdamW
    assert {name: made.defaults[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optim": {"kind": "torch", "name": "AdamX"}}, "optim.name=AdamX"),
        ({"optim": {"kind": "torch", "name": "LBFGS"}}, "closure"),
        ({"optim": {"kind": "torch", "arguments": {"beta": 0.9}}}, "beta"),
        ({"optim": {"kind": "torch", "arguments": {"lr": 0.9}}}, "optim.arguments.lr=0.9"),
        ({"optim": {"kind": "torch", "name": "Rprop", "decay_on": "weights"}}, "optim.decay_on=weights"),
        ({"model.activation": "GELUU"}, "did you mean GELU"),
        ({"model.activation": "GLU"}, "model.activation=GLU"),
        ({"model.activation": "GELU", "model.activation_arguments": {"x": 1}}, "GELU(x=1)"),
        ({"model.activation_arguments": {"x": 1}}, "model.activation_arguments.x=1"),
        ({"train": {"epochs": 2}, "schedule": {"warmup": 2.0}}, "schedule.warmup=2.0"),
        ({"train.clip": 0.0}, "train.clip=0.0"),
        ({"train.label_smoothing": 1.0}, "train.label_smoothing=1.0"),
    ],
)
def test_what_torch_would_refuse_later_is_refused_in_one_line(tiny, changes, named):
    with pytest.raises(checks.ConfigError) as refused:
        tiny(changes)
    assert named in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"model.activation": "GELU", "model.activation_arguments": {"approximate": "tanh"}},
        {"optim": {"kind": "torch", "arguments": {"weight_decay": 0.1}, "decay_on": "weights"}},
        {"schedule": {"warmup": 1.0}, "train.clip": 0.5, "train.label_smoothing": 0.1, "model.init": "torch"},
    ],
)
def test_a_run_with_what_torch_has_by_name_learns(tiny, trained, values, changes):
    run = trained(tiny(changes | {"data.signal": 3.0}))
    batch = values(run, "batch", "loss")
    assert run.outcome.status == "completed" and batch[20] < batch[1]


def test_each_step_is_taken_at_its_own_rate(tiny, trained):
    """Plain SGD over two epochs of 5 steps: the second is taken at a rate of nothing."""
    schedule = {"schedule": {"kind": "step", "every": 1.0, "factor": 1e-30}, "optim": {"kind": "sgd"}}
    one, two = (trained(tiny(schedule | {"train.steps": steps})) for steps in (5, 10))
    for first, second in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(first, second)


def updated(settings: object, grads: list[float]) -> list[float]:
    """A weight that starts at 1, after each update."""
    weight, found = nn.Parameter(torch.ones(1, dtype=torch.float64)), []
    optimizer = optim.make(settings, [weight])
    for grad in grads:
        weight.grad = torch.full_like(weight, grad)
        optimizer.step()
        found.append(weight.item())
    return found


def test_rmsprop_is_the_update_written_by_hand():
    grads, weight, average, velocity, expected = [1.0, -2.0, 0.5, 0.1, 3.0], 1.0, 0.0, 0.0, []
    for grad in grads:
        average = 0.9 * average + 0.1 * grad**2
        velocity = 0.8 * velocity + grad / (np.sqrt(average) + 1e-8)
        weight -= 0.01 * velocity
        expected.append(weight)
    assert updated(schema.RMSprop(lr=0.01), grads) == pytest.approx(expected, rel=1e-12)


def test_sgd_has_momentum_and_weight_decay():
    weight, velocity, expected = 1.0, 0.0, []
    for grad in (1.0, -2.0, 0.5):
        velocity = 0.9 * velocity + grad + 0.1 * weight
        weight -= 0.01 * velocity
        expected.append(weight)
    settings = schema.SGD(lr=0.01, momentum=0.9, weight_decay=0.1)
    assert updated(settings, [1.0, -2.0, 0.5]) == pytest.approx(expected, rel=1e-12)


def test_what_is_not_learned_stays_put(tiny, trained):
    run = trained(tiny({"model.affine": "beta", "model.gamma": 2.0, "optim.weight_decay": 0.1}))
    for norm in (module for module in run.model.modules() if isinstance(module, nn.BatchNorm1d)):
        assert torch.equal(norm.weight, torch.full((8,), 2.0)) and norm.bias.abs().sum() > 0


def test_population_statistics_are_scored_and_disturb_nothing(tiny, trained, values):
    plain, looking = (trained(tiny({"train.population_batches": count})) for count in (0, 3))
    torch.testing.assert_close(plain.model.state_dict(), looking.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(plain.optimizer.state_dict(), looking.optimizer.state_dict(), rtol=0, atol=0)
    rows = (looking.directory / "metrics.csv").read_text().splitlines()
    kept = [row for row in rows if ",test_population," not in row]
    assert kept == (plain.directory / "metrics.csv").read_text().splitlines()
    population = values(looking, "test_population", "loss")
    assert population.keys() == values(looking, "test", "loss").keys() == {5, 10, 15, 20}
    assert population != values(looking, "test", "loss")


def test_without_a_norm_the_population_scores_are_the_test_scores(tiny, trained, values):
    run = trained(tiny({"model.norm": "none", "train.population_batches": 2}))
    assert values(run, "test_population", "loss") == values(run, "test", "loss")


def test_evaluations_come_every_epoch_and_after_the_last_step(tiny, trained, values):
    run = trained(tiny({"train.steps": 12}))
    for split in ("train", "valid", "test"):
        assert list(values(run, split, "loss")) == list(values(run, split, "accuracy")) == [5, 10, 12]
    losses = list(values(run, "batch", "loss").values())
    means = [np.mean(losses[:5]), np.mean(losses[5:10]), np.mean(losses[10:])]
    assert list(values(run, "train", "loss").values()) == pytest.approx(means, rel=1e-12)


def test_the_test_score_is_that_of_the_trained_net_in_eval_mode(tiny, trained, values):
    run = trained(tiny())
    images, labels = run.dataset.test.images, run.dataset.test.labels
    logits = run.model.eval()((images / 255 - run.dataset.mean) / run.dataset.std)
    assert values(run, "test", "loss")[20] == pytest.approx(
        nn.functional.cross_entropy(logits, labels).item(), rel=1e-5
    )
    assert values(run, "test", "accuracy")[20] == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_epochs_give_the_steps_of_the_run(tiny, trained):
    for epochs, steps in ((2.0, 10), (0.5, 2), (0.01, 1)):
        assert trained(tiny({"train": {"epochs": epochs, "stalled_below": None}})).outcome.step == steps


@pytest.mark.parametrize("norm", NORMS)
def test_bf16_trains_close_to_fp32_and_keeps_fp32_weights(tiny_vgg, trained, values, norm):
    changes = {"model.norm": norm, "train.steps": 4, "train.channels_last": True, "optim": {"kind": "sgd", "lr": 0.01}}
    full, half = (trained(tiny_vgg(changes | {"train.precision": name})) for name in ("fp32", "bf16"))
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    losses = [list(values(run, "batch", "loss").values()) for run in (full, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_a_run_that_learns_completes(tiny, trained, values):
    run = trained(tiny({"train.steps": 60, "train.stalled_below": 1.5, "data.signal": 3.0}))
    assert (run.outcome.status, run.outcome.step, run.outcome.reason) == ("completed", 60, "")
    assert values(run, "test", "accuracy")[60] > 0.9
    assert run.outcome.last_finite_loss == values(run, "batch", "loss")[60]


@pytest.mark.parametrize("lr", [1e4, 1e30])
def test_a_run_whose_loss_explodes_diverges_with_step_reason_and_last_finite_loss(tiny, trained, values, lr):
    run = trained(tiny({"model.norm": "none", "optim.lr": lr, "train.steps": 30, "probes.steps": [1]}))
    outcome, losses = run.outcome, values(run, "batch", "loss")
    assert outcome.status == "diverged" and 1 < outcome.step < 30
    assert f"loss {losses[outcome.step]:g}" in outcome.reason
    assert math.isfinite(outcome.last_finite_loss)
    assert not losses[outcome.step] <= 1000 * losses[1]
    assert max(losses) == outcome.step  # the step that says so is recorded, in the cadence or not


def test_a_loss_below_the_bound_has_not_diverged(tiny, trained):
    changes = {"model.norm": "none", "optim.lr": 10.0, "train.steps": 10}
    worst = 1 + max(_losses(trained(tiny(changes | {"train.diverged_above": 1e30}))))
    first = _losses(trained(tiny({"model.norm": "none", "train.steps": 1})))[0]
    assert worst > 10 * first
    assert trained(tiny(changes | {"train.diverged_above": worst / first})).outcome.status == "completed"
    assert trained(tiny(changes | {"train.diverged_above": 5.0})).outcome.status == "diverged"


def test_a_run_that_never_leaves_chance_stalls(tiny, trained):
    changes = {"optim": {"kind": "sgd", "lr": 1e-12}, "data.signal": 0.0}
    outcome = trained(tiny(changes | {"train.stalled_below": 4.0})).outcome
    assert (outcome.status, outcome.step) == ("stalled", 20) and "accuracy" in outcome.reason
    assert trained(tiny(changes | {"train.stalled_below": None})).outcome.status == "completed"


def test_statuses_of_training_are_results(tiny, tmp_path):
    settings = tiny({"model.norm": "none", "optim.lr": 1e30})
    run_dir.freeze(settings, tmp_path / "run")
    assert execute.execute(tmp_path / "run") == run_dir.status(tmp_path / "run") == "diverged"
    note = records.read_json(tmp_path / "run" / "status.json")
    assert note["step"] > 1 and note["reason"] and math.isfinite(note["last_finite_loss"]) and note["seconds"] > 0


def test_parameters_are_counted_without_those_that_are_not_learned(tiny):
    counts = [
        trainer.parameter_count(models.build(tiny({"model.affine": affine}).model, (1, 6, 6), 10, 0))
        for affine in ("both", "gamma", "none")
    ]
    weights = 36 * 8 + 8 * 8 + 8 * 10 + 10
    assert counts == [weights + 4 * 8, weights + 2 * 8, weights]


def _losses(run: trainer.Run) -> list[float]:
    rows = records.read(run.directory / "metrics.csv", "metrics")
    return rows[(rows["split"] == "batch") & (rows["metric"] == "loss")]["value"].tolist()


def test_a_deep_linear_net_is_trained_on_the_summed_squared_distance(tiny, trained, values):
    """Full-batch gradient descent on the sum over all inputs, in float64, written out."""
    settings = tiny(
        {
            "data": {"kind": "linear_map", "shape": [4, 1, 1], "size": 30, "batch_size": 30},
            "model": {"kind": "mlp", "depth": 2, "width": 4, "activation": "linear", "biases": False},
            "optim": {"kind": "sgd", "lr": 1e-4}, "train.steps": 5, "train.precision": "fp64",
        }
    )  # fmt: skip
    run = trained(settings)
    x, y = (part.reshape(30, 4) for part in (run.dataset.train.images, run.dataset.train.labels))
    weights = list(trainer.Run(settings, run.directory).model.parameters())
    assert len(weights) == 3 and x.dtype == torch.float64
    losses = []
    for _ in range(5):
        loss = ((x @ weights[0].T @ weights[1].T @ weights[2].T - y) ** 2).sum()
        losses.append(loss.item())
        grads = torch.autograd.grad(loss, weights)
        weights = [
            (weight - 1e-4 * grad).detach().requires_grad_() for weight, grad in zip(weights, grads, strict=True)
        ]
    assert list(values(run, "batch", "loss").values()) == pytest.approx(losses, rel=1e-12)
    assert values(run, "batch", "accuracy") == {} and run.outcome.status == "completed"


def test_a_map_per_seed_and_a_factor_of_the_loss_are_those_that_are_trained_on(tiny, trained, values):
    """Half the loss at twice the rate is the same path, and the probes see the same loss as the training."""
    settings = {
        "data": {"kind": "linear_map", "shape": [4, 1, 1], "size": 30, "batch_size": 30, "drawn": "per_seed"},
        "model": {"kind": "mlp", "depth": 2, "width": 4, "activation": "linear", "biases": False},
        "optim": {"kind": "sgd", "lr": 1e-4}, "train.steps": 3, "train.precision": "fp64", "seed": 3,
        "probes.passes": ["loss_along"], "probes.step_sizes": [1e-5],
    }  # fmt: skip
    whole = trained(tiny(settings))
    half = trained(tiny(settings | {"train.loss_factor": 0.5, "optim": {"kind": "sgd", "lr": 2e-4}}))
    other = trained(tiny(settings | {"data": settings["data"] | {"drawn": "once"}}))
    losses = [list(values(run, "batch", "loss").values()) for run in (whole, half, other)]
    assert losses[1] == pytest.approx([0.5 * loss for loss in losses[0]], rel=1e-12)
    assert losses[2] != losses[0]
    assert list(values(half, "batch", "loss@0").values()) == pytest.approx(losses[1], rel=1e-12)


def test_the_weights_are_kept_for_any_program_to_load(tiny, tmp_path):
    config = tiny({"train.steps": 3, "train.keep_weights": True})
    run_dir.freeze(config, tmp_path / "run")
    assert execute.execute(tmp_path / "run") == "completed"
    weights = torch.load(tmp_path / "run" / "weights.pt", weights_only=True)
    model = models.build(config.model, (1, 6, 6), 10, config.seed)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights)
    assert not torch.equal(fresh["output.weight"], weights["output.weight"])
