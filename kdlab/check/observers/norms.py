"""A tiny network with batch norm whose statistics are out of date."""

from collections.abc import Callable

import torch
from torch import nn


class Witness(nn.Module):
    """Passes its input on and notes whether gradients were being recorded."""

    def __init__(self):
        super().__init__()
        self.recorded: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.recorded.append(torch.is_grad_enabled())
        return images


def recalibrated(function: Callable, network: dict, batches: list[torch.Tensor]) -> dict:
    """What `function(model, batches)` made of the running statistics, and in what state it left the model.

    `network` is the recipe: number of `channels`, a `seed` for its weights, batch norm's `momentum`, and
    whether it is `training`.
    """
    model = Network(**network)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [p.detach().clone() for p in model.parameters()]
    function(model, batches)
    modes = {module.training for module in model.modules()}
    return {
        "running means": torch.cat([norm.running_mean for norm in norms]),
        "running variances": torch.cat([norm.running_var for norm in norms]),
        "mode": "mixed" if len(modes) > 1 else "training" if modes.pop() else "evaluation",
        "momentum": [-1.0 if norm.momentum is None else float(norm.momentum) for norm in norms],
        "weights as they were": all(map(torch.equal, before, model.parameters())),
        "gradients were recorded": any(model.witness.recorded),
    }


class Network(nn.Module):
    """Two blocks of convolution, batch norm and rectifier, one after the other."""

    def __init__(self, channels: int, seed: int, momentum: float, training: bool):
        super().__init__()
        self.witness = Witness()
        self.blocks = nn.Sequential(_block(1, channels, 2, momentum), _block(channels, channels + 1, 1, momentum))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in self.state_dict().values():
                if not tensor.is_floating_point():
                    tensor.fill_(7)  # batches tracked so far: what is not forgotten goes on to count
                elif tensor.ndim > 1:
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
                else:
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        self.train(training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.witness(images))


def _block(before: int, after: int, kernel: int, momentum: float) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, kernel), nn.BatchNorm2d(after, momentum=momentum), nn.ReLU())
