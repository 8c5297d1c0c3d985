"""Random inputs that a learner can type in: small, rounded to one decimal."""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def numbers(generator: torch.Generator, *shape: int, scale: float = 2.0) -> torch.Tensor:
    """Normally distributed numbers of this shape, rounded to one decimal."""
    return (torch.randn(shape, generator=generator) * scale).round(decimals=1)


def integers(generator: torch.Generator, low: int, high: int, *shape: int) -> torch.Tensor:
    """Whole numbers from `low` to `high`, both included."""
    return torch.randint(low, high + 1, shape, generator=generator)


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """One whole number from `low` to `high`, both included."""
    return int(integers(generator, low, high))


def pick(generator: torch.Generator, choices: Sequence[T]) -> T:
    """One of the choices."""
    return choices[integer(generator, 0, len(choices) - 1)]


def shuffled(generator: torch.Generator, count: int) -> torch.Tensor:
    """The numbers below `count` in random order."""
    return torch.randperm(count, generator=generator)


def distinct(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Numbers of this shape with one decimal and random signs, no two of the same size."""
    count = math.prod(shape)
    sizes = torch.randint(1, 6, (count,), generator=generator).cumsum(0) / 10
    sizes = sizes[torch.randperm(count, generator=generator)]
    signs = 2 * torch.randint(0, 2, (count,), generator=generator) - 1
    return (sizes * signs).reshape(shape)
