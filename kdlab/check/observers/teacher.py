"""A tiny teacher that notes how it is used."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Visits:
    """How many images came at once, and whether a graph was built; a copy of the teacher writes into the same book."""

    def __init__(self):
        self.sizes: list[int] = []
        self.graphs: list[bool] = []

    def __deepcopy__(self, memo: dict) -> "Visits":
        return self


class Teacher(nn.Module):
    """Convolution, batch norm, dropout, linear layer; knows how many images it saw at once."""

    def __init__(self, classes: int, side: int, seed: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 1),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(3 * side**2, classes),
        )
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for tensor in self.body.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.3)
            last = self.body[-1]
            last.weight.copy_(torch.randn(last.weight.shape, generator=generator))
            last.bias.copy_(torch.randn(last.bias.shape, generator=generator))
        self.visits = Visits()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.visits.sizes.append(len(images))
        logits = self.body(images)
        self.visits.graphs.append(logits.requires_grad)
        return logits


def cached(
    function: Callable,
    teacher: dict,
    images: torch.Tensor,
    index: torch.Tensor,
    size: int,
    *batch_size: int,
) -> dict:
    """The table that `function` makes of a teacher's logits, and in what state it left the teacher.

    `teacher` is the recipe: number of `classes`, a `seed` for its weights, whether it is `training`.
    """
    model = _made(teacher, images)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    table = function(model, images, index, size, *batch_size)
    after = model.state_dict()
    return {
        "table": table,
        "table carries a gradient": isinstance(table, torch.Tensor) and table.requires_grad,
        "teacher's mode": _mode(model),
        "teacher's weights and statistics as they were": all(torch.equal(before[name], after[name]) for name in before),
        "every image goes through the teacher": sum(model.visits.sizes) >= len(images),
        "more than batch_size at once": max(model.visits.sizes, default=0) > (batch_size[0] if batch_size else 64),
    }


def one_image_at_a_time(function: Callable, teacher: dict, images: torch.Tensor, *rest: Any) -> bool:
    """Whether the teacher never sees two images at once."""
    return set(_visits(function, teacher, images, *rest).sizes) == {1}


def builds_graphs(function: Callable, teacher: dict, images: torch.Tensor, *rest: Any) -> bool:
    """Whether torch notes how the teacher's logits come about, whatever happens to that afterwards."""
    return any(_visits(function, teacher, images, *rest).graphs)


def _visits(function: Callable, teacher: dict, images: torch.Tensor, *rest: Any) -> Visits:
    model = _made(teacher, images)
    function(model, images, *rest)
    return model.visits


def _made(teacher: dict, images: torch.Tensor) -> Teacher:
    return Teacher(teacher["classes"], images.shape[-1], teacher["seed"]).train(teacher["training"])


def _mode(model: nn.Module) -> str:
    modes = {module.training for module in model.modules()}
    return "mixed" if len(modes) > 1 else "training" if modes.pop() else "evaluation"
