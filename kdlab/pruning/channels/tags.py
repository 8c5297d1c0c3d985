"""Tags: for every element of a tensor, the number of the channel it belongs to.

A tag tensor broadcasts to the shape of the value it describes: an axis along which the numbers do not change has size
1, so that the tags of an (N, C, H, W) picture are (1, C, 1, 1). Whatever moves elements about (a permutation, a
concatenation, a flattening) is followed by doing the same to the tags.
"""

import torch
from torch import Tensor

from kdlab.pruning.channels.book import FIXED


def fixed(value: Tensor) -> Tensor:
    """Tag a value that has no removable channels."""
    return torch.full((1,) * value.ndim, FIXED)


def along(numbers: Tensor, axis: int, ndim: int) -> Tensor:
    """Tag a value of `ndim` axes with `numbers`, shape (C,), along one axis."""
    shape = [1] * ndim
    shape[axis] = -1
    return numbers.view(shape)


def spread(tags: Tensor, value: Tensor) -> Tensor:
    """Return the tags in the value's full shape, without copying."""
    return tags.expand(value.shape)


def pack(tags: Tensor) -> Tensor:
    """Shrink every axis along which nothing changes to size 1."""
    for axis, (size, stride) in enumerate(zip(tags.shape, tags.stride(), strict=True)):
        if size > 1:
            first = tags.narrow(axis, 0, 1)
            if stride == 0 or bool((tags == first).all()):
                tags = first
    return tags


def varying(tags: Tensor) -> list[int]:
    """Return the axes along which the numbers change."""
    return [axis for axis, size in enumerate(tags.shape) if size > 1]
