"""A teacher that is pruned before it teaches: what reaches the student, and what becomes of the teacher."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def taught(function: Callable, teacher: dict, images: torch.Tensor) -> dict:
    """What `function(teacher, images, prune, train_student)` gave the student, and in what state it left the teacher.

    `teacher` is the recipe: number of `classes`, a `seed` for its weights, whether it is `training`.
    """
    model = _teacher(images[0].numel(), **teacher)
    student = nn.Linear(3, 2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    book = {"pruned": 0, "images": None, "soft": None, "recorded": None}

    def prune(network: nn.Module) -> nn.Module:
        book["pruned"] += 1
        return _halved(network)

    def train_student(images: Any, soft: Any) -> nn.Module:
        book.update(images=images, soft=soft, recorded=torch.is_grad_enabled())
        with torch.no_grad():
            student.weight.copy_(torch.arange(1.0, 7).reshape(2, 3))
        return student

    returned = function(model, images, prune, train_student)
    soft, kept = book["soft"], book["images"]
    return {
        "soft labels": soft.detach().clone() if isinstance(soft, torch.Tensor) else soft,
        "soft labels carry a gradient": isinstance(soft, torch.Tensor) and soft.requires_grad,
        "images for the student": kept.detach().clone() if isinstance(kept, torch.Tensor) else kept,
        "the student can learn": bool(book["recorded"]),
        "zeros in the student": int((student.weight == 0).sum()),
        "what comes back": _named(returned, student, model),
        "prune() is called": book["pruned"] > 0,
        "teacher's weights as they were": all(map(torch.equal, before, model.parameters())),
        "teacher's mode": _mode(model),
    }


def _teacher(features: int, classes: int, seed: int, training: bool) -> nn.Module:
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(features, 4), nn.BatchNorm1d(4), nn.Softplus(), nn.Linear(4, classes)
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1:  # no two sizes alike, and the half that goes is not small
                sizes = (torch.randperm(tensor.numel(), generator=generator) + tensor.numel()) / tensor.numel()
                signs = 2 * torch.randint(0, 2, (tensor.numel(),), generator=generator) - 1
                tensor.copy_((sizes * signs).reshape(tensor.shape))
            elif tensor.is_floating_point():
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if "weight" in name or "var" in name else 2 * drawn - 1)
    return network.train(training)


def _halved(network: nn.Module) -> nn.Module:
    """Half of the weights of each layer become zero, the smallest first."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                order = parameter.abs().flatten().argsort()
                parameter.view(-1)[order[: parameter.numel() // 2]] = 0
    return network


def _named(returned: Any, student: nn.Module, teacher: nn.Module) -> str:
    if returned is student:
        return "the student"
    if returned is teacher:
        return "the teacher"
    if isinstance(returned, nn.Module):
        return "a network that is not the student"
    return "a tensor" if isinstance(returned, torch.Tensor) else f"a {type(returned).__name__}"


def _mode(model: nn.Module) -> str:
    modes = {module.training for module in model.modules()}
    return "mixed" if len(modes) > 1 else "training" if modes.pop() else "evaluation"
