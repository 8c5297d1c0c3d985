"""The book of channels: every channel has a number, and the book knows which of them live and die together."""

import torch
from torch import Tensor

FIXED = 0  # the number of what cannot be removed: the picture's own channels, positions, constants


class Book:
    """Hands out channel numbers and records which are coupled and which must stay.

    Numbers are written down as they come; `solve` then finds the sets that are coupled through any chain of pairs.
    """

    def __init__(self):
        self.count = 1
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._kept: list[tuple[Tensor, str]] = []

    def fresh(self, maker: str, width: int) -> Tensor:
        """Number the `width` channels that belong to the parameter `maker`, shape (width,)."""
        self.count += width
        return torch.arange(self.count - width, self.count)

    def couple(self, a: Tensor, b: Tensor, node: str) -> None:
        """Couple channels number by number (same shape) where `node` lets them meet; what meets a fixed one stays."""
        a, b = a.flatten(), b.flatten()
        differ = a != b
        if not differ.any():
            return
        a, b = a[differ], b[differ]
        self.keep(torch.where(a == FIXED, b, a)[(a == FIXED) | (b == FIXED)], f"{node} joins them to fixed ones")
        both = (a != FIXED) & (b != FIXED)
        self._pairs.append((a[both], b[both]))

    def keep(self, channels: Tensor, why: str) -> None:
        """Say that these channels cannot be removed, and why."""
        if channels.numel() and channels.any():
            self._kept.append((channels.flatten(), why))

    def solve(self) -> tuple[Tensor, dict[int, str]]:
        """Return each channel's set, named by its lowest number (shape (count,)), and why sets must stay."""
        nothing = torch.zeros(0, dtype=torch.long)
        roots = components(self.count, *(torch.cat([nothing, *(pair[i] for pair in self._pairs)]) for i in (0, 1)))
        reasons: dict[int, str] = {}
        for channels, why in self._kept:
            for root in roots[channels].unique().tolist():
                reasons.setdefault(root, why)
        return roots, reasons


def components(count: int, a: Tensor, b: Tensor) -> Tensor:
    """Return for each of `count` numbers the lowest one it is connected to by the pairs (a, b)."""
    lowest = torch.arange(count)
    while True:
        of_a, of_b = lowest[a], lowest[b]
        if torch.equal(of_a, of_b):
            return lowest
        least = torch.minimum(of_a, of_b)
        for side in (of_a, of_b):
            lowest.scatter_reduce_(0, side, least, "amin")
        while not torch.equal(lowest, lowest[lowest]):
            lowest = lowest[lowest]
