"""A loss counts by its value and by the gradients that it sends back."""

from collections.abc import Callable
from typing import Any

import torch


def loss_and_gradients(
    function: Callable, student_logits: torch.Tensor, teacher_logits: torch.Tensor, *rest: Any
) -> dict:
    """Value of a loss, its gradient for the student's logits, and whether a gradient reaches the teacher's."""
    student, teacher = student_logits.requires_grad_(), teacher_logits.requires_grad_()
    loss = function(student, teacher, *rest)
    for_student, for_teacher = _gradients(loss, student, teacher)
    return {
        "loss": loss,
        "gradient for the student": for_student,
        "gradient reaches the teacher": for_teacher is not None,
    }


def loss_and_gradient(function: Callable, student_logits: torch.Tensor, *rest: Any) -> dict:
    """Value of a loss and its gradient for its first argument."""
    student = student_logits.requires_grad_()
    loss = function(student, *rest)
    (gradient,) = _gradients(loss, student)
    return {"loss": loss, "gradient for the student": gradient}


def _gradients(loss: Any, *inputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(loss.sum(), inputs, allow_unused=True)
