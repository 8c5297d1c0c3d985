"""Sparsity that changes while training: when to prune, and how much.

    fit(model, fashion.train, sparsity=Gradual(target=0.9), epochs=8, seed=0)

`OneShot`, `Iterative` and `Gradual` differ in one method only, `milestones`: after which step the network has which
sparsity. `Dynamic` keeps its sparsity and moves the connections about instead.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning import masks as m
from kdlab.pruning.checks import check_count, check_fraction
from kdlab.pruning.constraint import Masked, taken_up

_SCOPES = {
    "global": m.global_mask,
    "local": m.local_mask,
    "erk": lambda model, sparsity, scores, layers: m.layer_mask(model, m.erdos_renyi(model, sparsity, layers), scores),
}


class Scheduled(Masked):
    """Prunes further at milestones; what is pruned stays pruned.

    Parameters
    ----------
    target
        Final sparsity in [0, 1): zeros / scored weights.
    score
        ``"magnitude"``, ``"random"``, ``"gradient"`` or ``"movement"`` (both summed over the steps since the last
        pruning), or a function from the model to scores.
    scope
        ``"global"`` compares all layers, ``"local"`` prunes every layer alike, ``"erk"`` keeps small layers denser.
    layers
        Names of the layers to prune; all convolutions and linear layers if None.
    seed
        Decides the scores of ``"random"``.
    """

    def __init__(
        self, target: float, score: str | Callable = "magnitude", scope: str = "global", layers=None, seed: int = 0
    ):
        super().__init__()
        self.target = check_fraction("target", target)
        if not callable(score) and score not in ("magnitude", "random", "gradient", "movement"):
            raise KdlabError(
                f"score is {score!r}; expected 'magnitude', 'random', 'gradient', 'movement' or a function."
            )
        if scope not in _SCOPES:
            raise KdlabError(f"scope is {scope!r}; expected one of {', '.join(map(repr, _SCOPES))}.")
        self.score, self.scope, self.seed = score, scope, seed
        self.layers = layers if layers is None or isinstance(layers, str) else list(layers)
        self._when: dict[int, float] = {}
        self._sums: m.Scores = {}

    def milestones(self, total_steps: int) -> dict[int, float]:
        """Return ``{step: sparsity after it}`` for a run of `total_steps`; step -1 is before training."""
        raise NotImplementedError

    def curve(self, total_steps: int) -> list[float]:
        """Return the planned sparsity after each of `total_steps` steps, for a picture."""
        planned = self.milestones(total_steps)
        now, values = planned.get(-1, 0.0), []
        for step in range(total_steps):
            now = planned.get(step, now)
            values.append(now)
        return values

    def start(self, model: nn.Module, total_steps: int) -> None:
        self._when = self.milestones(total_steps)
        self._sums = {}
        found = m.weights(model, self.layers)
        if self.score in ("gradient", "movement"):
            self._sums = {name: torch.zeros_like(weight) for name, weight in found.items()}
        self.set_masks(model, {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in found.items()})
        if -1 in self._when:
            if self._sums:
                raise KdlabError(
                    f"score={self.score!r} is gathered while training, and this schedule prunes before the first step; "
                    "expected a later start, such as 0.1 (or masks from prune.gradient(model, batches))."
                )
            self._prune(model, self._when[-1])

    @torch.no_grad()
    def before_step(self, model: nn.Module, step: int) -> None:
        for name, total in self._sums.items():
            weight = model.get_submodule(name).weight
            if weight.grad is None:
                continue
            product = weight * weight.grad
            total += product.abs() if self.score == "gradient" else -product

    def after_step(self, model: nn.Module, step: int) -> None:
        self.keep(model)
        if step in self._when:
            self._prune(model, self._when[step])

    def _prune(self, model: nn.Module, sparsity: float) -> None:
        scores = _dead_last(self._scores(model), self.masks)
        self.set_masks(model, _SCOPES[self.scope](model, sparsity, scores, self.layers))
        if self.score == "gradient":
            for total in self._sums.values():
                total.zero_()

    def _scores(self, model: nn.Module) -> m.Scores:
        if self._sums:
            return self._sums
        if callable(self.score):
            return self.score(model)
        return m.random(model, self.seed) if self.score == "random" else m.magnitude(model)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {f"sum.{name}": total for name, total in self._sums.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        super().load_state(state)
        self._sums = taken_up(state, "sum.", self._sums)

    def describe(self) -> dict | None:
        if callable(self.score) or not type(self).__module__.startswith("kdlab."):
            return None  # code from a notebook may change without its name changing
        settings = {key: value for key, value in vars(self).items() if not key.startswith("_") and key != "masks"}
        return {"sparsity": type(self).__name__, **settings}


def _dead_last(scores: m.Scores, masks: m.Masks) -> m.Scores:
    """Put what is already pruned below everything that lives, so that it stays pruned whatever the score."""
    bottom = min(0.0, *(2 * float(scores[name].min()) for name in masks)) - 1
    return {name: scores[name].masked_fill(~mask, bottom) for name, mask in masks.items()}


class OneShot(Scheduled):
    """Prune once, then train what is left (Han 2015 with a single round).

    Parameters
    ----------
    target, score, scope, layers
        As in `Scheduled`.
    at
        When, as a fraction of training: 0 is before the first step.
    """

    def __init__(self, target: float, at: float = 0.0, **settings):
        super().__init__(target, **settings)
        self.at = check_fraction("at", at)

    def milestones(self, total_steps: int) -> dict[int, float]:
        return {_after(self.at, total_steps): self.target}


class Iterative(Scheduled):
    """Prune in rounds with training between them (Han 2015, section 3.3); every round removes the same fraction.

    After round r of R the sparsity is ``1 - (1 - target) ** (r / R)``.

    Parameters
    ----------
    target, score, scope, layers
        As in `Scheduled`.
    rounds
        How often to prune.
    start, end
        First and last pruning, as fractions of training.
    """

    def __init__(self, target: float, rounds: int = 5, start: float = 0.0, end: float = 0.75, **settings):
        super().__init__(target, **settings)
        self.rounds = check_count("rounds", rounds)
        self.start_at, self.end_at = _check_span(start, end)

    def milestones(self, total_steps: int) -> dict[int, float]:
        planned = {}
        for number in range(1, self.rounds + 1):
            part = (number - 1) / max(1, self.rounds - 1)
            when = _after(self.start_at + part * (self.end_at - self.start_at), total_steps)
            planned[when] = 1 - (1 - self.target) ** (number / self.rounds)
        return planned


class Gradual(Scheduled):
    """The cubic schedule: prune fast while much is redundant, slowly near the end (Zhu & Gupta 2017, equation 1).

    Parameters
    ----------
    target, score, scope, layers
        As in `Scheduled`.
    start, end
        First and last pruning, as fractions of training; what comes after is fine-tuning.
    every
        Steps between two prunings; a hundredth of the span if None.
    initial
        Sparsity to begin with.
    """

    def __init__(
        self,
        target: float,
        start: float = 0.0,
        end: float = 0.75,
        every: int | None = None,
        initial: float = 0.0,
        **settings,
    ):
        super().__init__(target, **settings)
        self.start_at, self.end_at = _check_span(start, end)
        self.every = every if every is None else check_count("every", every)
        self.initial = check_fraction("initial", initial)
        if self.initial > self.target:
            raise KdlabError(f"initial={initial} is above target={target}; expected a sparsity that grows.")

    def milestones(self, total_steps: int) -> dict[int, float]:
        first, last = (round(part * (total_steps - 1)) for part in (self.start_at, self.end_at))
        every = self.every or max(1, (last - first) // 100)
        return {t: cubic(t, first, last, self.target, self.initial) for t in [*range(first, last, every), last]}


def cubic(step: float, first: float, last: float, target: float, initial: float = 0.0) -> float:
    """Return ``s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n dt))^3`` (Zhu & Gupta 2017, equation 1).

    Parameters
    ----------
    step
        t; before `first` the result is `initial`, after `last` it is `target`.
    first, last
        t_0 and t_0 + n dt.
    target, initial
        s_f and s_i, sparsities in [0, 1).
    """
    progress = 1.0 if last <= first else min(1.0, max(0.0, (step - first) / (last - first)))
    return target + (initial - target) * (1 - progress) ** 3


class Dynamic(Masked):
    """RigL: keep the sparsity, move the connections to where the gradient wants them (Evci 2020, algorithm 1).

    Training starts sparse, at random. Every `every` steps each layer drops its smallest ``|w|`` and grows as many
    connections, at zero, where ``|gradient|`` is largest among those that do not live; the share that moves decays as
    half a cosine. Afterwards the connections stay.

    Parameters
    ----------
    target
        Sparsity in [0, 1), from the first step to the last.
    fraction
        Share of the living weights that moves at the first update (the paper's alpha).
    every
        Steps between two updates; a fiftieth of training if None (the paper: 100 steps of 32,000 and more).
    end
        Fraction of training after which nothing moves.
    budgets
        ``"erk"`` (Erdős–Rényi: small layers denser) or ``"uniform"``.
    seed
        Decides the first connections.
    """

    def __init__(
        self,
        target: float,
        fraction: float = 0.3,
        every: int | None = None,
        end: float = 0.75,
        budgets: str = "erk",
        seed: int = 0,
        layers=None,
    ):
        super().__init__()
        self.target, self.fraction = check_fraction("target", target), check_fraction("fraction", fraction)
        self.every = every if every is None else check_count("every", every)
        self.end = _check_span(0.0, end)[1]
        if budgets not in ("erk", "uniform"):
            raise KdlabError(f"budgets is {budgets!r}; expected 'erk' or 'uniform'.")
        self.budgets, self.seed = budgets, seed
        self.layers = layers if layers is None or isinstance(layers, str) else list(layers)
        self._total = 0

    def start(self, model: nn.Module, total_steps: int) -> None:
        self._total = total_steps
        spread = m.erdos_renyi if self.budgets == "erk" else m.uniform
        scores = m.random(model, self.seed)
        self.set_masks(model, m.layer_mask(model, spread(model, self.target, self.layers), scores))

    def moving(self, step: int) -> float:
        """Return the share of living weights that moves after `step` steps; 0 when it is not time."""
        every, last = self.every or max(1, self._total // 50), self.end * self._total
        if step == 0 or step % every or step >= last:
            return 0.0
        return self.fraction / 2 * (1 + math.cos(math.pi * step / last))

    @torch.no_grad()
    def before_step(self, model: nn.Module, step: int) -> None:
        share = self.moving(step)
        if share:
            found = {name: model.get_submodule(name).weight for name in self.masks}
            live = {name: w for name, w in found.items() if w.grad is not None}
            self.set_masks(
                model, self.masks | {n: drop_and_grow(w, w.grad, self.masks[n], share) for n, w in live.items()}
            )
        self.keep_gradients(model)  # so that the dead gather no momentum

    def describe(self) -> dict:
        settings = {key: value for key, value in vars(self).items() if not key.startswith("_") and key != "masks"}
        return {"sparsity": "Dynamic", **settings}


def drop_and_grow(weight: Tensor, gradient: Tensor, mask: Tensor, share: float) -> Tensor:
    """Return the next mask of one layer: as many weights, some of them elsewhere (Evci 2020, algorithm 1).

    Drops the ``floor(share * alive)`` smallest ``|w|`` of the living, and grows as many of the rest, those just dropped
    included, by largest ``|gradient|``.
    """
    count = int(share * int(mask.count_nonzero()))
    size = weight.abs().flatten().masked_fill(~mask.flatten(), torch.inf)
    survivors = mask.flatten() & ~m.lowest(size, count)
    pull = (-gradient.abs()).flatten().masked_fill(survivors, torch.inf)
    return (survivors | m.lowest(pull, count)).view(mask.shape)


def _check_span(start: float, end: float) -> tuple[float, float]:
    if not 0 <= start <= end <= 1:
        raise KdlabError(f"start={start}, end={end}; expected fractions of training with 0 <= start <= end <= 1.")
    return float(start), float(end)


def _after(part: float, total_steps: int) -> int:
    """Return the step after which `part` of training is done; -1 for none of it."""
    return max(-1, min(total_steps - 1, round(part * total_steps) - 1))
