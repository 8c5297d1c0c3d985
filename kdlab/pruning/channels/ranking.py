"""How important a channel is: scores over everything that would go with it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning.channels.groups import Graph, Group, Part
from kdlab.pruning.checks import check_finite
from kdlab.pruning.masks import mean_gradients

Rank = str | Callable[[nn.Module, Group], Tensor]


def importance(model: nn.Module, graph: Graph, rank: Rank, seed: int = 0) -> dict[str, Tensor]:
    """Score the channels of every removable group.

    Parameters
    ----------
    rank
        ``"l1"``, ``"l2"``: sum of ``|w|`` or ``w ** 2`` over the filters that make a channel, the weights that read it
        and its batch-norm scales (Li 2017 summed the filters alone; over the group: Fang 2023, section 3.3).
        ``"bn"``: sum of ``|scale|`` over its batch norms (Liu 2017); groups without any stay whole.
        ``"taylor"``: sum of ``|w * gradient|`` over filters and readers, from the gradients that ``backward`` left in
        the model; `Taylor` gathers its own. Each term is, to first order, how much the loss would change without that
        one weight. Molchanov 2019 sums the squares ``(w * gradient) ** 2`` (equation 8), which can rank otherwise;
        Molchanov 2017 takes activations in place of weights.
        ``"random"``: the control, by `seed`.
        A function from model and group to scores of shape (group.width,) also does.

    Returns
    -------
    dict
        ``{group name: shape (group.width,)}``; higher is more important.
    """
    score = rank if callable(rank) else _measure(model, rank, seed)
    scores = {group.name: score(model, group) for group in graph.removable}
    scores = {name: score.detach().cpu() for name, score in scores.items() if score is not None}
    check_finite(scores)
    for group in graph.removable:
        if group.name in scores and scores[group.name].shape != (group.width,):
            raise KdlabError(
                f"rank returned shape {tuple(scores[group.name].shape)} for {group.name!r}; expected ({group.width},)."
            )
    return scores


def _measure(model: nn.Module, rank: str, seed: int) -> Callable[[nn.Module, Group], Tensor | None]:
    if rank == "random":
        generator = torch.Generator().manual_seed(seed)
        return lambda _, group: torch.rand(group.width, generator=generator)
    if rank not in _VALUES:
        known = ", ".join(map(repr, [*_VALUES, "random"]))
        raise KdlabError(f"rank is {rank!r}; expected {known} or a function of model and group.")
    return Sum(model, *_VALUES[rank])


class Sum:
    """Sums a value of every weight over the channels it goes with."""

    def __init__(self, model: nn.Module, value: Callable[[str, Tensor], Tensor], filters: bool, scales: bool):
        self.value, self.filters, self.scales = value, filters, scales
        self.modules = dict(model.named_modules())
        self.parameters = dict(model.named_parameters())
        self._along: dict = {}

    @torch.no_grad()
    def __call__(self, model: nn.Module, group: Group) -> Tensor | None:
        parts = [*group.makers, *group.readers] if self.filters else []
        if self.scales:
            parts += [part for part in group.passers if self._is_scale(part)]
        if not parts:
            return None
        total = torch.zeros(group.width)
        for part in parts:
            mine = part.places >= 0
            total.index_add_(0, part.places[mine], self._per_entry(part)[mine])
        return total

    def _is_scale(self, part: Part) -> bool:
        norm = isinstance(self.modules.get(part.layer), nn.modules.batchnorm._NormBase)
        return norm and part.axis[0] in self.parameters

    def _per_entry(self, part: Part) -> Tensor:
        """Return the summed value of each entry along a part's axis, shape (entries,), on the CPU."""
        name, axis = part.axis
        if (name, axis) not in self._along:
            values = self.value(name, self.parameters[name])
            summed = values.sum([other for other in range(values.ndim) if other != axis]) if values.ndim > 1 else values
            groups = getattr(self.modules.get(part.layer), "groups", 1)
            if axis == 1 and groups > 1:
                summed = summed * groups  # one stored column serves a channel of every group
            self._along[name, axis] = summed.float().cpu()
        return self._along[name, axis]


class Taylor:
    """The rank ``"taylor"`` with gradients of its own: of any objective, averaged over batches, in eval mode.

        remove(model, example, ratio=0.5, rank=Taylor(fashion.train.sample(500)))

    Parameters
    ----------
    batches
        A batch, a split, or several (anything with ``images`` and ``labels``).
    objective
        Function ``(model, batch) -> loss``, a distillation loss say; cross-entropy with the labels if None.
    """

    def __init__(self, batches, objective: Callable | None = None):
        self.batches, self.objective = batches, objective
        self._of: tuple[nn.Module, Sum] | None = None

    def __call__(self, model: nn.Module, group: Group) -> Tensor | None:
        if self._of is None or self._of[0] is not model:
            gradients = mean_gradients(model, dict(model.named_parameters()), self.batches, self.objective)
            self._of = model, Sum(model, lambda name, weight: (weight * gradients[name]).abs(), True, False)
        return self._of[1](model, group)


def _taylor(name: str, weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise KdlabError(f"{name!r} has no gradient, which rank='taylor' needs; call backward on a loss first.")
    return (weight * weight.grad).abs()


_VALUES: dict[str, tuple] = {
    "l1": (lambda name, weight: weight.abs(), True, True),
    "l2": (lambda name, weight: weight.square(), True, True),
    "bn": (lambda name, weight: weight.abs(), False, True),
    "taylor": (_taylor, True, False),
}
