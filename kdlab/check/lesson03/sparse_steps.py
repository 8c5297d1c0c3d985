"""A mask that holds through training."""

import torch

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.observers.pruning import trained_with_a_mask
from kdlab.check.probing import distinct, numbers


def sparse_steps(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        with torch.no_grad():
            layer.weight.mul_(mask)


def probes(generator):
    def case(outputs, inputs, optimizer, steps, images=4):
        mask = torch.randperm(outputs * inputs, generator=generator) < max(1, outputs * inputs // 2)
        return (
            distinct(generator, outputs, inputs),
            numbers(generator, outputs),
            mask.reshape(outputs, inputs),
            numbers(generator, images, inputs),
            numbers(generator, images, outputs),
            optimizer,
            steps,
        )

    return [
        case(1, 2, "SGD with momentum", 1),
        case(1, 3, "SGD with momentum", 2),
        case(2, 2, "SGD with weight decay", 1),
        case(2, 3, "SGD with weight decay", 3),
        case(2, 2, "AdamW", 1),
        case(3, 3, "AdamW", 4),
        case(3, 2, "SGD with momentum", 3),
        case(2, 4, "SGD with weight decay", 0),
        case(4, 6, "SGD with momentum", 5, images=8),
        case(5, 4, "AdamW", 2, images=8),
    ]


def show(weight, bias, mask, images, targets, optimizer, steps):
    return {"optimizer": f"{optimizer}, which has momentum from before", "mask": mask, "steps": steps}


def masked_at_the_end(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
    with torch.no_grad():
        layer.weight.mul_(mask)


def a_new_parameter(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        layer.weight = torch.nn.Parameter(layer.weight.detach() * mask)


def masked_before_the_step(layer, mask, optimizer, backward, steps):
    for _ in range(steps):
        with torch.no_grad():
            layer.weight.mul_(mask)
        optimizer.zero_grad()
        backward()
        optimizer.step()


def masked_once(layer, mask, optimizer, backward, steps):
    for step in range(steps):
        optimizer.zero_grad()
        backward()
        optimizer.step()
        if step == 0:
            with torch.no_grad():
                layer.weight.mul_(mask)


EXERCISE = Exercise(
    reference=sparse_steps,
    probes=probes,
    observe=trained_with_a_mask,
    show=show,
    points=3,
    parts=(
        Part("the pruned weights stay at zero", 1, ("pruned weights that are not zero", "calls of backward()")),
        Part("the others learn as they would have", 2, ("weight", "bias", "calls of backward()")),
    ),
    bank=(
        Wrong(
            "masked_before_the_step",
            masked_before_the_step,
            "The mask is applied before the optimiser moves, and the last move goes unmasked.",
            "Who touches the weights last?",
        ),
        Wrong(
            "gradient_masked",
            edit(
                "optimizer.step()",
                "layer.weight.grad.mul_(mask)\n        optimizer.step()",
                "layer.weight.mul_(mask)",
                "pass",
            ),
            "Only the gradient is masked; momentum from before, and weight decay, do not care about the gradient.",
            "A weight moves with a gradient of zero, too, where it has momentum.",
        ),
        Wrong(
            "never_masked",
            edit("layer.weight.mul_(mask)", "pass"),
            "The mask is never used.",
            "Look at the pruned weights after one step.",
        ),
        Wrong(
            "masked_once",
            masked_once,
            "The mask is applied after the first step, and never again.",
            "Every step of the optimiser can revive a weight.",
        ),
        Wrong(
            "masked_at_the_end",
            masked_at_the_end,
            "The mask is applied at the very end: until then, the others have learned beside weights that come back.",
            "The network that is trained has to be the network that is used.",
        ),
        Wrong(
            "inverted",
            edit("mul_(mask)", "mul_(~mask)"),
            "The weights that should live are set to zero.",
            "True means that the weight lives.",
        ),
        Wrong(
            "gradients_pile_up",
            edit("        optimizer.zero_grad()\n", ""),
            "Gradients of earlier steps are still there, and are added to the new ones.",
            "backward() adds to what it finds.",
        ),
        Wrong(
            "never_moved",
            edit("        optimizer.step()\n", ""),
            "The weights never move: nothing is learned.",
            "The optimiser has to take a step while the gradients are there.",
        ),
        Wrong(
            "one_step_only",
            edit("range(steps)", "range(min(steps, 1))"),
            "There is one step, however many were asked for.",
            "Look at where the loop ends, or returns.",
        ),
        Wrong(
            "a_new_parameter",
            a_new_parameter,
            "The layer gets a new parameter in each step, one that the optimiser does not know.",
            "Change the numbers of the weight in place, and leave the weight the object that it is.",
        ),
    ),
    properties=(
        Property("A pruned weight is not zero afterwards.", lambda o, *_: o["pruned weights that are not zero"] == 0),
        Property("backward() has to be called once a step.", lambda o, *probe: o["calls of backward()"] == probe[-1]),
    ),
)
