"""Which weights may live: scores for single weights, and boolean masks made from them.

A mask is a dictionary ``{layer name: boolean tensor of the weight's shape}``; True lives, False is zero. Only the
weights of convolutions and linear layers are scored: batch norm and biases are few and matter much, so they are never
pruned, and they do not count. **Sparsity is the number of zeros divided by the number of scored weights.**

Masks are made in two steps, so that any score meets any rule:

    scores = magnitude(model)                     # or random, gradient, movement
    masks = global_mask(model, 0.8, scores)       # or local_mask, layer_mask, pattern_mask
    apply(model, masks)
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch
from kdlab.errors import KdlabError
from kdlab.pruning.checks import check_count, check_finite, check_fraction, check_prunable, modes_restored, unknown_name
from kdlab.training.evaluation import device_of

Masks = dict[str, Tensor]
Scores = dict[str, Tensor]

_SAMPLE = 4099  # a prime, so that a stride through the weights seldom keeps step with their rows
_SCORED = (nn.modules.conv._ConvNd, nn.Linear)


def weights(model: nn.Module, layers: Iterable[str] | None = None) -> dict[str, nn.Parameter]:
    """Return the weights that pruning scores, by layer name: those of convolutions and linear layers.

    Parameters
    ----------
    layers
        Only these layers; all of them if None.

    Raises
    ------
    KdlabError
        For an unknown layer, shared weights, a parametrised or quantised layer.
    """
    check_prunable(model)
    found = {name: module.weight for name, module in model.named_modules() if isinstance(module, _SCORED)}
    if not found:
        raise KdlabError(f"{type(model).__name__} has no convolution and no linear layer: there is nothing to prune.")
    if layers is None:
        return found
    names = [layers] if isinstance(layers, str) else list(layers)
    for name in names:
        if name not in found:
            unknown_name("convolution or linear layer", name, found)
    return {name: found[name] for name in names}


# -- scores: the higher, the longer a weight lives ---------------------------------------------------------------------


def magnitude(model: nn.Module) -> Scores:
    """Score by ``|w|`` (Han 2015, section 3): what is small changes the output little."""
    return {name: weight.detach().abs() for name, weight in weights(model).items()}


def random(model: nn.Module, seed: int = 0, generator: torch.Generator | None = None) -> Scores:
    """Score by chance, uniform in [0, 1): the control that every other score has to beat."""
    generator = generator or torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights(model).items()}


def gradient(model: nn.Module, batches=None, objective: Callable | None = None) -> Scores:
    """Score by ``|w * dL/dw|``, the first-order change of the loss when w becomes zero (SNIP, Lee 2019, equation 4).

    Parameters
    ----------
    batches
        A batch (anything with ``images`` and ``labels``), or several, over which the gradient is averaged, in eval
        mode. None takes the gradients that ``backward`` left in the model.
    objective
        Function ``(model, batch) -> loss``; cross-entropy with the labels if None.
    """
    return {name: score.abs() for name, score in _products(model, batches, objective).items()}


def movement(model: nn.Module, batches=None, objective: Callable | None = None) -> Scores:
    """Score by ``-w * dL/dw``: positive where training moves a weight away from zero (Sanh 2020, equation 2).

    Parameters as in `gradient`. `Gradual(score="movement")` sums this over the steps of a training run, as the paper
    does.
    """
    return {name: -score for name, score in _products(model, batches, objective).items()}


def _products(model: nn.Module, batches, objective: Callable | None) -> Scores:
    found = weights(model)
    gradients = _kept_gradients(found) if batches is None else mean_gradients(model, found, batches, objective)
    return {name: weight.detach() * gradients[name] for name, weight in found.items()}


def _kept_gradients(found: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    for name, weight in found.items():
        if weight.grad is None:
            raise KdlabError(f"{name!r} has no gradient yet; pass batches=…, or call backward on a loss first.")
    return {name: weight.grad for name, weight in found.items()}


def mean_gradients(model: nn.Module, parameters: dict[str, nn.Parameter], batches, objective=None) -> dict[str, Tensor]:
    """Average the loss's gradient over batches, in eval mode; the model and its ``.grad`` stay as they were."""
    device = device_of(model)
    batches = [_on(b, device) for b in ([batches] if hasattr(batches, "images") else batches)]
    objective = objective or _cross_entropy
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    seen = sum(len(batch.images) for batch in batches)
    with modes_restored(model), torch.enable_grad():
        model.eval()
        for batch in batches:
            loss = objective(model, batch)
            parts = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, part in zip(parameters, parts, strict=True):
                if part is not None:
                    total[name] += part * (len(batch.images) / seen)
    return total


def _on(batch, device: torch.device):
    """Return a batch, or a split, with its tensors on `device`; anything else as it is."""
    if isinstance(batch, Batch):
        return Batch(*(tensor.to(device) for tensor in batch))
    return batch.to(device) if hasattr(batch, "to") else batch


def _cross_entropy(model: nn.Module, batch) -> Tensor:
    return F.cross_entropy(model(batch.images), batch.labels)


# -- masks: which scores are high enough -------------------------------------------------------------------------------


def global_mask(model: nn.Module, sparsity: float, scores: Scores | None = None, layers=None) -> Masks:
    """Zero the lowest ``round(sparsity * n)`` of all n weights together, whatever layer they are in.

    Every layer keeps at least its best weight. Equal scores go in order of position, so the count is exact and the
    result the same everywhere.

    Parameters
    ----------
    sparsity
        Fraction of zeros among the scored weights, in [0, 1).
    scores
        `magnitude` if None.
    layers
        Names of the layers to prune; all if None. The others get no mask and do not count.

    Raises
    ------
    KdlabError
        For a sparsity outside [0, 1) or out of reach, scores that are not finite or have other shapes, unknown layers.
    """
    scores = _checked(model, scores, layers)
    total = sum(score.numel() for score in scores.values())
    count = round(check_fraction("sparsity", sparsity) * total)
    if count > total - len(scores):
        raise KdlabError(
            f"sparsity={sparsity} leaves {total - count} weights for {len(scores)} layers, so that some would be "
            f"empty; expected at most {1 - len(scores) / total:.6g}."
        )
    flat = torch.cat([_best_protected(score) for score in scores.values()])
    alive = ~lowest(flat, count)
    parts = alive.split([score.numel() for score in scores.values()])
    return {name: part.view(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def local_mask(model: nn.Module, sparsity: float, scores: Scores | None = None, layers=None) -> Masks:
    """Zero the lowest ``round(sparsity * n)`` weights of every layer (n: the layer's own), never the last one.

    Parameters and errors as in `global_mask`.
    """
    names = weights(model, layers)
    return layer_mask(model, dict.fromkeys(names, sparsity), scores)


def layer_mask(model: nn.Module, budgets: dict[str, float], scores: Scores | None = None) -> Masks:
    """Give every named layer its own sparsity; layers that are not named stay whole and get no mask.

    Parameters
    ----------
    budgets
        ``{layer name: sparsity in [0, 1)}``, from a sensitivity scan or `erdos_renyi`, say.
    """
    for name, value in budgets.items():
        check_fraction(f"sparsity of {name!r}", value)
    scores = _checked(model, scores, budgets)
    return {name: _layer(score, budgets[name]) for name, score in scores.items()}


def _layer(score: Tensor, sparsity: float) -> Tensor:
    count = min(round(sparsity * score.numel()), score.numel() - 1)
    return ~lowest(_best_protected(score), count).view(score.shape)


def pattern_mask(model: nn.Module, n: int = 2, m: int = 4, scores: Scores | None = None, layers=None) -> Masks:
    """Keep the n best of every m weights that lie side by side along the input dimension (2:4, Mishra 2021).

    The input dimension of a linear layer's (out, in) and a convolution's (out, in / groups, height, width) is the
    second. Layers whose input is not a multiple of m (the first convolution, depthwise convolutions) stay whole and
    get no mask, unless they are named in `layers`: then that is an error.
    """
    if not 0 < check_count("n", n) < check_count("m", m):
        raise KdlabError(f"pattern {n}:{m} keeps everything or nothing; expected 0 < n < m, such as n=2, m=4.")
    scores = _checked(model, scores, layers)
    fits = {name: score for name, score in scores.items() if score.shape[1] % m == 0}
    left_out = [name for name in scores if name not in fits]
    if left_out and (layers is not None or not fits):
        name = left_out[0]
        raise KdlabError(
            f"{name!r} has {scores[name].shape[1]} inputs, not a multiple of m={m}; leave it out of layers."
        )
    return {name: _pattern(score, n, m) for name, score in fits.items()}


def _pattern(score: Tensor, n: int, m: int) -> Tensor:
    blocks = score.movedim(1, -1).unflatten(-1, (-1, m))
    order = blocks.argsort(dim=-1, descending=True, stable=True)
    alive = torch.zeros_like(blocks, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    return alive.flatten(-2).movedim(-1, 1).contiguous()


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return a boolean tensor that is True at exactly `count` of the lowest scores (shape (n,), ties: first come)."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    if count == 0:
        return chosen
    threshold = _kth_smallest(scores, count)
    torch.lt(scores, threshold, out=chosen)
    ties = (scores == threshold).nonzero().flatten()
    chosen[ties[: count - int(chosen.count_nonzero())]] = True
    return chosen


def _kth_smallest(scores: Tensor, k: int) -> Tensor:
    """Find the k-th smallest: between two values that an even sample says it should lie between, else among all."""
    if len(scores) > _SAMPLE * 64:
        sample = scores[:: len(scores) // _SAMPLE].sort().values
        middle, margin = k * len(sample) // len(scores), len(sample) // 32
        low, high = sample[max(0, middle - margin)], sample[min(len(sample) - 1, middle + margin)]
        below = int((scores < low).count_nonzero())
        between = scores.masked_select((scores >= low) & (scores <= high))
        if below < k <= below + len(between):
            return low if low == high else between.kthvalue(k - below).values
    return scores.kthvalue(k).values


def _best_protected(score: Tensor) -> Tensor:
    flat = score.to(torch.float32 if score.dtype != torch.float64 else torch.float64, copy=True).flatten()
    flat[flat.argmax()] = torch.inf
    return flat


def _checked(model: nn.Module, scores: Scores | None, layers) -> Scores:
    found = weights(model, layers)
    scores = magnitude(model) if scores is None else scores
    for name in scores:
        if name not in found and layers is None:
            unknown_name("convolution or linear layer", name, found)
    for name, weight in found.items():
        if name not in scores or scores[name].shape != weight.shape:
            got = tuple(scores[name].shape) if name in scores else "none"
            raise KdlabError(f"The scores of {name!r} have shape {got}; expected {tuple(weight.shape)}, as its weight.")
    chosen = {name: scores[name] for name in found}
    check_finite(chosen)
    return chosen


# -- using masks -------------------------------------------------------------------------------------------------------


def apply(model: nn.Module, masks: Masks) -> nn.Module:
    """Set the masked weights to exactly zero, in place, once. Training revives them; `Fixed(masks)` does not let it.

    Returns
    -------
    nn.Module
        The same model.
    """
    check_masks(model, masks)
    with torch.no_grad():
        for name, weight in weights(model, masks).items():
            weight.masked_fill_(~masks[name].to(weight.device), 0)
    return model


def check_masks(model: nn.Module, masks: Masks) -> None:
    """Refuse masks that do not fit the model: unknown layers, other shapes, not boolean, an empty layer."""
    for name, weight in weights(model, masks).items():
        mask = masks[name]
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise KdlabError(
                f"The mask of {name!r} is {mask.dtype} of shape {tuple(mask.shape)}; expected a boolean of shape "
                f"{tuple(weight.shape)}."
            )
        if not mask.any():
            raise KdlabError(f"The mask of {name!r} leaves no weight; expected at least one in every layer.")


def sparsity_of(what: nn.Module | Masks) -> float:
    """Return zeros / scored weights: of a model's convolution and linear weights, or of masks."""
    tensors = weights(what).values() if isinstance(what, nn.Module) else what.values()
    alive = sum(int(t.count_nonzero()) for t in tensors)
    return 1 - alive / sum(t.numel() for t in tensors)


# -- budgets: how sparse each layer should be --------------------------------------------------------------------------


def erdos_renyi(model: nn.Module, sparsity: float, layers=None) -> dict[str, float]:
    """Spread a sparsity over layers so that small ones stay denser (ERK: Evci 2020, section 3, point 1; Mocanu 2018).

    A layer's density is proportional to ``(in + out + height + width) / (in * out * height * width)``, at most 1; the
    overall sparsity is `sparsity`.

    Returns
    -------
    dict
        ``{layer name: sparsity}``, for `layer_mask`.
    """
    found = weights(model, layers)
    wanted = (1 - check_fraction("sparsity", sparsity)) * sum(w.numel() for w in found.values())
    raw = {name: sum(w.shape) / w.numel() for name, w in found.items()}
    dense: set[str] = set()
    while len(dense) < len(found):
        left = wanted - sum(found[name].numel() for name in dense)
        scale = left / sum(raw[name] * found[name].numel() for name in found if name not in dense)
        full = {name for name in found if name not in dense and scale * raw[name] >= 1}
        if not full:
            return {name: 0.0 if name in dense else 1 - scale * raw[name] for name in found}
        dense |= full
    return dict.fromkeys(found, 0.0)


def uniform(model: nn.Module, sparsity: float, layers=None) -> dict[str, float]:
    """Give every layer the same sparsity, as a budget for `layer_mask`."""
    return dict.fromkeys(weights(model, layers), check_fraction("sparsity", sparsity))
