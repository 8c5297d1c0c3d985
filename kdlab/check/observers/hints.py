"""A student, a teacher and a regressor in training: what moved, and what did not."""

from collections.abc import Callable

import torch
from torch import nn


def trained(function: Callable, networks: dict, batches: list[torch.Tensor], lr: float) -> dict:
    """What `function(student, teacher, regressor, batches, lr)` returned, and what it did to the three networks.

    `networks` is the recipe: the `student`'s and the `teacher`'s number of channels, a `seed` for the weights, whether
    all of them are in `training` mode at first.
    """
    ours, theirs, generator = networks["student"], networks["teacher"], torch.Generator().manual_seed(networks["seed"])
    student, teacher = _features(ours, generator), _features(theirs, generator)
    regressor = nn.Conv2d(ours, theirs, kernel_size=1)
    _fill(regressor, generator)
    for network in (student, teacher, regressor):
        network.train(networks["training"])
    before = _weights_and_statistics(teacher)
    losses = function(student, teacher, regressor, batches, lr)
    return {
        "losses": losses,
        "the student's weights and statistics": _weights_and_statistics(student),
        "the regressor's weights": _weights_and_statistics(regressor),
        "the teacher as it was": torch.equal(before, _weights_and_statistics(teacher)),
    }


def _features(channels: int, generator: torch.Generator) -> nn.Module:
    network = nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels), nn.Softplus())
    _fill(network, generator)
    return network


def _fill(network: nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.4 if "running_var" in name else 2 * drawn - 0.7)


def _weights_and_statistics(network: nn.Module) -> torch.Tensor:
    return torch.cat([tensor.detach().float().flatten() for tensor in network.state_dict().values()])
