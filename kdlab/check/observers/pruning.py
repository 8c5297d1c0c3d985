"""What is left of a layer after it was pruned, or trained with a mask."""

from collections.abc import Callable

import torch
from torch import nn

OPTIMIZERS = {
    "SGD with momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "SGD with weight decay": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.5, weight_decay=0.1),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.1),
}


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """A linear layer with these numbers."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def trained_with_a_mask(
    function: Callable,
    weight: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor,
    images: torch.Tensor,
    targets: torch.Tensor,
    optimizer: str,
    steps: int,
) -> dict:
    """The layer after `function(layer, mask, optimizer, backward, steps)`, and how often it asked for gradients.

    The optimiser has moved the dense layer twice before, so that it has momentum; the last gradients are still there.
    """
    layer, calls = linear(weight, bias), []
    moves = OPTIMIZERS[optimizer](layer.parameters())

    def backward() -> None:
        calls.append(1)
        (layer(images) - targets).square().mean().backward()

    for _ in range(2):
        moves.zero_grad()
        backward()
        moves.step()
    with torch.no_grad():
        layer.weight.mul_(mask)
    calls.clear()
    function(layer, mask, moves, backward, steps)
    dead = layer.weight.detach()[~mask]
    return {
        "pruned weights that are not zero": int(dead.count_nonzero()),
        "weight": layer.weight.detach(),
        "bias": layer.bias.detach(),
        "calls of backward()": len(calls),
    }


def pruned_in_two(function: Callable, weight: torch.Tensor, bias: torch.Tensor, first: float, second: float) -> dict:
    """What `function(layer, first, second)` returns, a state dictionary, and what has become of the layer."""
    layer = linear(weight, bias)
    state = function(layer, first, second)
    used = state["weight_orig"] * state["weight_mask"] if "weight_mask" in state else state["weight"]
    return {
        "zeros": int((used == 0).sum()),
        "weight, as the layer uses it": used.detach(),
        "keys": sorted(state),
        "layer's keys": sorted(layer.state_dict()),
        "layer's weight": layer.weight.detach(),
    }
