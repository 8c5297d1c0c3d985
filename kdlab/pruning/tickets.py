"""Lottery tickets: prune, rewind, train again (Frankle & Carbin 2019; Renda 2020).

Training is handed in, so that it is the same `fit` as everywhere:

    def train(model, sparsity):
        fit(model, fashion.train, sparsity=sparsity, epochs=4, seed=0)

    for ticket in weight_rewinding(model, train, rounds=12): …
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning import masks as m
from kdlab.pruning.checks import check_count, check_fraction
from kdlab.pruning.constraint import Fixed

Train = Callable[[nn.Module, Fixed | None], object]


@dataclass(frozen=True)
class Ticket:
    """One round's outcome: `model`, trained under `masks` in round `round` (0: dense), at `sparsity`."""

    round: int
    sparsity: float
    masks: m.Masks
    model: nn.Module


def weight_rewinding(
    model: nn.Module,
    train: Train,
    rounds: int = 12,
    rate: float = 0.2,
    rewind_to: dict[str, Tensor] | None = None,
    scope: str = "global",
    layers=None,
) -> Iterator[Ticket]:
    """Find winning tickets: after each round, what survives goes back to the weights it had before training.

    Parameters
    ----------
    model
        Untrained; it is copied, never changed.
    train
        Function ``(model, sparsity) -> anything`` that trains in place from its first to its last learning rate;
        `sparsity` is None in round 0.
    rounds
        Prunings; round r has sparsity ``1 - (1 - rate) ** r``.
    rate
        Fraction of the surviving weights that each round removes (Frankle & Carbin 2019, section 2: 20 %).
    rewind_to
        A state dictionary from early in training, where that is what to go back to (Frankle 2020); the weights that
        `model` has now if None.
    scope
        ``"global"`` or ``"local"``.

    Yields
    ------
    Ticket
        Trained; ``apply(fresh_model, ticket.masks)`` with other initial weights is the control.
    """
    origin = copy.deepcopy(rewind_to if rewind_to is not None else model.state_dict())
    yield from _rounds(model, train, rounds, rate, scope, layers, origin)


def learning_rate_rewinding(
    model: nn.Module, train: Train, rounds: int = 12, rate: float = 0.2, scope: str = "global", layers=None
) -> Iterator[Ticket]:
    """Prune and train again from the weights reached, with the whole learning-rate schedule (Renda 2020, section 3).

    Parameters and result as in `weight_rewinding`: only the weights are not put back.
    """
    yield from _rounds(model, train, rounds, rate, scope, layers, None)


def _rounds(model, train, rounds, rate, scope, layers, origin) -> Iterator[Ticket]:
    check_count("rounds", rounds)
    check_fraction("rate", rate)
    if scope not in ("global", "local"):
        raise KdlabError(f"scope is {scope!r}; expected 'global' or 'local'.")
    choose = m.global_mask if scope == "global" else m.local_mask
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in m.weights(model, layers).items()}
    current = copy.deepcopy(model)
    train(current, None)
    yield Ticket(0, 0.0, masks, current)
    for number in range(1, rounds + 1):
        masks = choose(current, 1 - (1 - rate) ** number, _living(current, masks), layers)
        current = copy.deepcopy(current)
        if origin is not None:
            current.load_state_dict(origin)
        m.apply(current, masks)
        train(current, Fixed(masks))
        yield Ticket(number, m.sparsity_of(masks), masks, current)


def _living(model: nn.Module, masks: m.Masks) -> m.Scores:
    """Score by magnitude, what is already pruned below any living weight (even one that training left at zero)."""
    return {name: score.masked_fill(~masks[name], -1) for name, score in m.magnitude(model).items() if name in masks}
