"""Scores of a layer's weights: how they compare with one another, and whether the layer is as it was."""

from collections.abc import Callable

import torch

from kdlab.check.observers.pruning import linear


def shares(
    function: Callable,
    weight: torch.Tensor,
    bias: torch.Tensor,
    inputs: torch.Tensor,
    teacher_logits: torch.Tensor,
    temperature: float,
) -> dict:
    """The scores of `function(layer, inputs, teacher_logits, temperature)` without a common factor, and the layer.

    A ranking does not depend on a factor before the loss, so the scores are divided by the sum of their sizes.
    """
    layer = linear(weight, bias)
    scores = function(layer, inputs, teacher_logits, temperature)
    attached = isinstance(scores, torch.Tensor) and scores.requires_grad
    scores = torch.as_tensor(scores).detach()
    total = scores.abs().sum()
    return {
        "scores, as shares of their sum": scores / total if total > 0 else scores,
        "scores carry a graph": attached,
        "gradients stay in the layer": any(parameter.grad is not None for parameter in layer.parameters()),
        "layer's weights as they were": torch.equal(layer.weight, weight) and torch.equal(layer.bias, bias),
        "the layer can be trained": all(parameter.requires_grad for parameter in layer.parameters()),
    }
