"""Network slimming: train so that unimportant channels announce themselves (Liu 2017)."""

from collections.abc import Callable, Iterable
from numbers import Real

from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.training.protocols import CrossEntropy, Objective


class Slimming(Objective):
    """Adds an L1 penalty on batch-norm scales to any objective (Liu 2017, equation 1).

        fit(model, fashion.train, objective=Slimming(strength=1e-4), epochs=8)
        smaller = prune.channels.remove(model, example, ratio=0.5, rank="bn", scope="global")

    Parameters
    ----------
    objective
        What else to learn from; cross-entropy if None.
    strength
        lambda, the weight of the penalty (the paper: 1e-4 to 1e-5; small networks bear 1e-3).
    """

    def __init__(self, objective: Objective | Callable | None = None, strength: float = 1e-4):
        if isinstance(strength, bool) or not isinstance(strength, Real) or not 0 <= strength < float("inf"):
            raise KdlabError(f"strength is {strength!r}; expected a number of at least 0, such as 1e-4.")
        self.objective = CrossEntropy() if objective is None else objective
        self.strength = strength

    def start(self, model: nn.Module, data, *, augmented: bool, device) -> None:
        if not scales(model):
            raise KdlabError(f"{type(model).__name__} has no batch norm with a scale, which slimming needs.")
        if isinstance(self.objective, Objective):
            self.objective.start(model, data, augmented=augmented, device=device)

    def __call__(self, model: nn.Module, batch) -> Tensor:
        penalty = sum(scale.abs().sum() for scale in scales(model))
        return self.objective(model, batch) + self.strength * penalty

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.objective.parameters() if isinstance(self.objective, Objective) else ()

    def describe(self) -> dict | None:
        inner = self.objective.describe() if isinstance(self.objective, Objective) else None
        return inner and {"objective": "slimming", "strength": self.strength, "of": inner}


def scales(model: nn.Module) -> list[nn.Parameter]:
    """Return the scales (gamma) of every batch norm, each of shape (C,)."""
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [norm.weight for norm in norms if norm.weight is not None]
