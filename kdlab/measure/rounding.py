"""Weights in few bits: signed whole numbers and one scale a channel."""

import copy
import numbers

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError

BITS = range(2, 9)


def quantise(model: nn.Module, bits: int) -> nn.Module:
    """Return a copy whose numbers are rounded to what ``pack(model, bits=bits)`` gives back.

    Weights of two dimensions or more become whole numbers from ``-(2**(bits-1) - 1)`` to ``2**(bits-1) - 1`` times a
    scale, one scale for each output channel; zeros stay zeros. Everything else is rounded to float16.

    Parameters
    ----------
    bits
        2 to 8.

    Raises
    ------
    KdlabError
        For other `bits`, and for numbers that are not finite or too large for float16.

    References
    ----------
    Krishnamoorthi 2018, arXiv:1806.08342, sections 2.2 (symmetric) and 3 (a scale for every channel).
    """
    rounded = copy.deepcopy(model)
    state = rounded.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.is_floating_point():
                tensor.copy_(rounded_tensor(name, tensor, bits))
    return rounded


def rounded_tensor(name: str, tensor: Tensor, bits: int) -> Tensor:
    """Return one floating-point tensor as float32, rounded the way that its shape asks for."""
    if is_coded(tensor):
        return decode(*encode(name, tensor, bits))
    return to_half(name, tensor).float()


def is_coded(tensor: Tensor) -> bool:
    """Say whether a tensor is stored as whole numbers: the weights of layers are, biases and batch norm are not."""
    return tensor.is_floating_point() and tensor.ndim >= 2 and tensor.numel() > 0


def encode(name: str, tensor: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return whole numbers (int8, the tensor's shape) and scales (float16, one for every index of axis 0)."""
    check_bits(bits)
    weight = tensor.detach().float().cpu()
    largest = weight.flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
    scale = _rounded_up(to_half(name, largest), largest)
    steps = torch.where(scale == 0, 1, scale.float()).view(-1, *[1] * (weight.ndim - 1))
    return (weight / steps).round().to(torch.int8), scale


def decode(codes: Tensor, scale: Tensor) -> Tensor:
    """Return the weights (float32) that whole numbers and scales stand for."""
    return codes.float() * scale.float().view(-1, *[1] * (codes.ndim - 1))


def to_half(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as float16 on the CPU; raises `KdlabError` where that is not finite."""
    half = tensor.detach().cpu().to(torch.float16)
    if not bool(half.isfinite().all()):
        raise KdlabError(
            f"{name!r} holds numbers that are not finite, or above 65,504; float16 cannot hold them. Train with a "
            "smaller learning rate, or save with dtype=torch.float32."
        )
    return half


def check_bits(bits: int) -> None:
    """Raise `KdlabError` unless `bits` is a whole number from 2 to 8."""
    if isinstance(bits, bool) or not isinstance(bits, numbers.Integral) or bits not in BITS:
        raise KdlabError(f"bits is {bits!r}; expected a whole number from {BITS[0]} to {BITS[-1]}.")


def _rounded_up(scale: Tensor, exact: Tensor) -> Tensor:
    # a scale that float16 rounds down would put the largest weight beyond the largest code
    up = torch.nextafter(scale, torch.full_like(scale, torch.inf))
    return torch.where(scale.float() < exact, up, scale)
