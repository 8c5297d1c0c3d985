"""Weighted sums of objectives."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from kdlab import fingerprint
from kdlab.data import Batch, Split
from kdlab.distillation.checks import check_weight
from kdlab.distillation.teaching import losses
from kdlab.errors import KdlabError
from kdlab.training import Objective


class Sum(Objective):
    """The weighted sum of several objectives, from one pass of the student and of each teacher.

    ``Sum({CrossEntropy(): 0.1, Distill(teacher, alpha=1): 0.9, AttentionTransfer(teacher, layers): 50})``

    Parameters
    ----------
    terms
        Objective -> weight of at least 0. Any objective will do, `CrossEntropy` or a function ``(model, batch) ->
        loss`` included. A term of weight 0 is left out; a sum within a sum is multiplied out.
    """

    def __init__(self, terms: Mapping[Objective | Callable[[nn.Module, Batch], Tensor], float]):
        if not isinstance(terms, Mapping):
            raise KdlabError(f"Sum was given a {type(terms).__name__}; expected {{objective: weight, …}}.")
        self.terms: dict[Objective | Callable, float] = {}
        for term, weight in terms.items():
            check_weight(f"the weight of {_name(term)}", weight)
            if not callable(term):
                raise KdlabError(f"{_name(term)} is no objective; expected one such as CrossEntropy() or Hints(…).")
            for inner, factor in term.terms.items() if isinstance(term, Sum) else [(term, 1)]:
                if weight * factor:
                    self.terms[inner] = self.terms.get(inner, 0) + weight * factor
        if not self.terms:
            raise KdlabError("Nothing is left to learn from: Sum has no term of a weight above 0.")

    @property
    def objectives(self) -> list[Objective]:
        """The terms that are more than plain functions."""
        return [term for term in self.terms if isinstance(term, Objective)]

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        for term in self.objectives:
            term.start(model, data, augmented=augmented, device=device)

    def before_step(self, step: int, total_steps: int) -> None:
        for term in self.objectives:
            term.before_step(step, total_steps)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        found = losses(list(self.terms), model, batch)
        return sum(weight * loss for weight, loss in zip(self.terms.values(), found, strict=True))

    def parameters(self) -> Iterable[nn.Parameter]:
        return [parameter for term in self.objectives for parameter in term.parameters()]

    def describe(self) -> dict | None:
        parts = [_described(term, weight) for term, weight in self.terms.items()]
        return None if None in parts else {"objective": "Sum", "terms": parts}


def _described(term: Objective | Callable, weight: float) -> list | None:
    settings = term.describe() if isinstance(term, Objective) else None
    code = fingerprint.of_class(type(term))  # the run's name holds the code of Sum alone
    return None if settings is None or code is None else [weight, settings, code]


def _name(term) -> str:
    return getattr(term, "__name__", type(term).__name__)
