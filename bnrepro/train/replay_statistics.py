"""What `probes.passes` can name: of the run (rows of metrics.csv) and of each layer (rows of layers.csv).

A quantity taken at several points has the point in its name: `loss@0.1` is the loss after a step of 0.1 along the
negative gradient, `input_q50@3` the median input of unit 3, `grad_share@1.5` the share of a histogram's bin at 1.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from bnrepro.gradients.layers import Layer
from bnrepro.norms import evaluating
from bnrepro.train.replay import Params, Scene

Scalar = tuple[str, float]
Row = tuple[int, str, str, float]  # depth, layer, statistic, value

PERCENTILES = (15, 50, 85)
ATOMS = 16  # equal shares of the values of a unit
SHIFT_BATCHES = 8
BINS = torch.linspace(-8.25, 8.25, 34)  # edges, in standard deviations: centres -8, -7.5, ..., 8


def of_run(scene: Scene) -> Iterator[Scalar]:
    for name in scene.config.passes:
        yield from OF_RUN.get(name, _nothing)(scene)


def of_layers(scene: Scene) -> Iterator[Row]:
    for name in scene.config.passes:
        yield from OF_LAYERS.get(name, _nothing)(scene)


def _nothing(scene: Scene) -> Iterable:
    return ()


def loss_along(scene: Scene) -> Iterator[Scalar]:
    """L(theta - eta g) for the eta of probes.step_sizes (Santurkar et al. 2018, Fig. 4a; Bjorck et al., Fig. 3)."""
    loss, gradient = scene.start
    yield "loss@0", loss
    for size in scene.config.step_sizes:
        yield f"loss@{size:g}", scene.value(stepped(scene.before, gradient, size))


def gradient_along(scene: Scene) -> Iterator[Scalar]:
    """||grad L(theta - eta g) - g|| and ||g||, over all learned parameters, and the losses (Santurkar et al., Fig. 4b).

    Their ratio change / (eta ||g||) is the effective beta-smoothness at eta (Fig. 4c); for a quadratic loss of Hessian
    H it is ||H g|| / ||g||, whatever eta.
    """
    loss, gradient = scene.start
    yield "loss@0", loss
    yield "gradient_norm", norm(gradient)
    for size in scene.config.step_sizes:
        there, other = scene.gradient(stepped(scene.before, gradient, size))
        yield f"loss@{size:g}", there
        yield f"gradient_change@{size:g}", norm({name: other[name] - gradient[name] for name in gradient})


def shift(scene: Scene) -> Iterator[Row]:
    """Internal covariate shift of Santurkar et al. (2018), Definition 2.1, of each layer's weight.

    G is the gradient at the parameters before the update, G' that on the same batch with everything in front of the
    layer already updated: their norms, ||G - G'|| and the cosine between them. "In front of" is the order in which the
    parameters are registered, which is that of the network, and takes in biases, gamma and beta.
    """
    for layer in scene.layers:
        first, second = scene.start[1][f"{layer.name}.weight"], scene.layer_gradient(layer, mixed(scene, layer.name))
        cosine = torch.nn.functional.cosine_similarity(first.flatten().double(), second.flatten().double(), dim=0)
        found = {"ics_norm": first.norm(), "ics_norm_after": second.norm(), "ics_distance": (first - second).norm()}
        for name, value in (found | {"ics_cosine": cosine}).items():
            yield layer.depth, layer.name, name, value.item()


def gradient_shape(scene: Scene) -> Iterator[Row]:
    """Deviation, excess kurtosis, and histogram (in deviations around 0) of a gradient (Bjorck et al. 2018, Fig. 2)."""
    for layer in scene.layers:
        gradient = scene.start[1][f"{layer.name}.weight"].flatten().double()
        std = gradient.std(correction=0)
        standard = (gradient - gradient.mean()) / std
        found = {"grad_std": std, "grad_kurtosis": standard.pow(4).mean() - 3}
        counts = torch.histogram((gradient / std).float().cpu(), BINS).hist / gradient.numel()
        centres = (BINS[1:] + BINS[:-1]) / 2
        found |= {f"grad_share@{x:g}": share for x, share in zip(centres.tolist(), counts, strict=True)}
        for name, value in found.items():
            yield layer.depth, layer.name, name, value.item()


def channels(scene: Scene) -> Iterator[Row]:
    """Mean over channels of |mean| and of the standard deviation of a layer's output, in front of norm and activation.

    Moments are over the batch and all positions, in training mode (Bjorck et al. 2018, Fig. 5).
    """
    seen = scene.seen([layer.linear for layer in scene.layers], scene.images)
    for layer in scene.layers:
        values = seen[layer.linear][1].transpose(0, 1).flatten(1).double()
        yield layer.depth, layer.name, "channel_mean", values.mean(1).abs().mean().item()
        yield layer.depth, layer.name, "channel_std", values.std(1, correction=0).mean().item()


def saturation(scene: Scene) -> Iterator[Row]:
    """Share of (image, unit) where the activation's slope is below a tenth of its largest; of units where all are."""
    hidden = [(layer, activation) for layer, activation in activations(scene) if type(activation) in SLOPES]
    seen = scene.seen([activation for _, activation in hidden], scene.images)
    for layer, activation in hidden:
        flat = SLOPES[type(activation)](seen[activation][1]) < 0.1
        yield layer.depth, layer.name, "act_saturated", flat.float().mean().item()
        units = flat.transpose(0, 1).flatten(1)
        yield layer.depth, layer.name, "act_stuck", units.all(1).float().mean().item()


def unit_inputs(scene: Scene) -> Iterator[Row]:
    """Percentiles of what goes into the nonlinearity of the first probes.units units of each layer, over held-out
    images (Ioffe & Szegedy 2015, Fig. 1b and c): in evaluation mode, or in training mode, where these images are one
    batch and the noise of moving averages stays out of the percentiles, as probes.unit_statistics says."""
    hidden = activations(scene)
    with evaluating(scene.model) if scene.config.unit_statistics == "moving" else nullcontext():
        seen = scene.seen([activation for _, activation in hidden], scene.held_out())
    for layer, activation in hidden:
        values = seen[activation][0].flatten(1)[:, : scene.config.units].double()
        found = values.quantile(torch.tensor(PERCENTILES, dtype=values.dtype, device=values.device) / 100, dim=0)
        for percent, row in zip(PERCENTILES, found.tolist(), strict=True):
            for unit, value in enumerate(row):
                yield layer.depth, layer.name, f"input_q{percent}@{unit}", value


def unit_moments(scene: Scene) -> Iterator[Row]:
    """Mean and variance of what goes into the nonlinearity of the first probes.units units of each layer, over batch
    and positions, in training mode (Santurkar et al. 2018, Fig. 8)."""
    hidden = activations(scene)
    seen = scene.seen([activation for _, activation in hidden], scene.images)
    for layer, activation in hidden:
        values = seen[activation][0].transpose(0, 1).flatten(1)[: scene.config.units].double()
        for unit, (mean, variance) in enumerate(zip(values.mean(1), values.var(1, correction=0), strict=True)):
            yield layer.depth, layer.name, f"input_mean@{unit}", mean.item()
            yield layer.depth, layer.name, f"input_var@{unit}", variance.item()


def unit_values(scene: Scene) -> Iterator[Row]:
    """Quantiles of what goes into the nonlinearity of the first probes.units units of each layer, in training mode.

    Over batch and positions, at the middles of ATOMS equal shares: a histogram whose bars have equal mass, so that the
    Wasserstein-1 distance of two of them is a mean of differences (Santurkar et al. 2018, Fig. 6).
    """
    hidden = activations(scene)
    seen = scene.seen([activation for _, activation in hidden], scene.images)
    for layer, activation in hidden:
        values = seen[activation][0].transpose(0, 1).flatten(1)[: scene.config.units].double()
        middles = (torch.arange(ATOMS, dtype=values.dtype, device=values.device) + 0.5) / ATOMS
        for unit, atoms in enumerate(values.quantile(middles, dim=1).T.tolist()):
            for atom, value in enumerate(atoms):
                yield layer.depth, layer.name, f"input_atom@{unit}:{atom}", value


def variance_shift(scene: Scene) -> Iterator[Row]:
    """How far the variance of a norm's input in evaluation is from the moving one (Li et al. 2019, section 3).

    Over the images of 8 training batches, in evaluation mode: `variance_ratio` is the mean over channels of variance
    over moving variance, `variance_shift` that of this ratio or its inverse, whichever is larger; 1 is no shift.
    Channels of which either vanishes are left out. Layers whose norm has no moving variance have no rows.
    """
    tracked = {layer: norm for layer in scene.layers if (norm := tracking(layer)) is not None}
    with evaluating(scene.model):
        seen = [scene.seen(tracked.values(), images) for images in scene.training(SHIFT_BATCHES)] if tracked else []
    for layer, norm in tracked.items():
        values = torch.cat([each[norm][0].transpose(0, 1).flatten(1) for each in seen], 1).double()
        real, moving = values.var(1), norm.get_buffer("running_var").double()
        ratio = (real / moving)[(real > 0) & (moving > 0)]
        yield layer.depth, layer.name, "variance_ratio", ratio.mean().item()
        yield layer.depth, layer.name, "variance_shift", torch.maximum(ratio, 1 / ratio).mean().item()


def activations(scene: Scene) -> list[tuple[Layer, nn.Module]]:
    """The layers that have a nonlinearity, and that."""
    return [(layer, layer.activation) for layer in scene.layers if layer.activation is not None]


def tracking(layer: Layer) -> nn.Module | None:
    modules = layer.norm.modules() if layer.norm is not None else ()
    return next((module for module in modules if hasattr(module, "running_var")), None)


def norm_inputs(scene: Scene) -> Iterator[Row]:
    """Mean over channels of |skewness| and of the excess kurtosis of what goes into a norm: 0 and 0 for a Gaussian.

    Where the model has no norm, of what would go into it. Channels that do not vary have neither and are left out.
    """
    normed = [(layer, layer.norm) for layer in scene.layers if layer.norm is not None]
    seen = scene.seen([norm for _, norm in normed], scene.images)
    for layer, norm in normed:
        values = seen[norm][0].transpose(0, 1).flatten(1).double()
        centred = values - values.mean(1, keepdim=True)
        std = centred.square().mean(1, keepdim=True).sqrt()
        standard = (centred / std)[std.flatten() > 0]
        yield layer.depth, layer.name, "norm_skew", standard.pow(3).mean(1).abs().mean().item()
        yield layer.depth, layer.name, "norm_kurtosis", standard.pow(4).mean(1).mean().item() - 3


OF_RUN = {"loss_along": loss_along, "gradient_along": gradient_along}
OF_LAYERS = {
    "ics": shift, "gradient_shape": gradient_shape, "channels": channels, "saturation": saturation,
    "unit_inputs": unit_inputs, "norm_inputs": norm_inputs, "unit_moments": unit_moments,
    "unit_values": unit_values, "variance_shift": variance_shift,
}  # fmt: skip

# The slope of a nonlinearity, relative to its largest, from what it puts out.
SLOPES: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.Sigmoid: lambda y: 4 * y * (1 - y),
    nn.Tanh: lambda y: 1 - y * y,
    nn.ReLU: lambda y: (y > 0).float(),
}


def stepped(params: Params, gradient: Params, size: float) -> Params:
    """theta - size * g; what has no gradient stays."""
    return params | {name: params[name] - size * grad for name, grad in gradient.items()}


def mixed(scene: Scene, layer: str) -> Params:
    """The parameters in front of a layer's weight as they are after the update, the others as before it."""
    names = list(scene.before)
    place = names.index(f"{layer}.weight")
    return scene.before | {name: scene.after[name] for name in names[:place]}


def norm(tensors: Params) -> float:
    """Euclidean norm of all of them as one vector, accumulated in float64."""
    return sum(tensor.double().square().sum().item() for tensor in tensors.values()) ** 0.5
