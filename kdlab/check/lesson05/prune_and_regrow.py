"""One step of RigL: drop by magnitude, grow by gradient."""

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integers, shuffled


def prune_and_regrow(weight, gradient, mask, count):
    size = weight.abs().masked_fill(~mask, torch.inf).flatten()
    living = mask.flatten().clone()
    living[size.argsort()[:count]] = False
    pull = gradient.abs().flatten().masked_fill(living, -torch.inf)
    living[pull.argsort(descending=True)[:count]] = True
    return living.reshape(mask.shape)


def _distinct(generator, *shape):
    n = int(torch.tensor(shape).prod())
    sign = 2 * integers(generator, 0, 1, n) - 1
    return ((shuffled(generator, n) + 1) / 10 * sign).reshape(shape)


def probes(generator):
    def case(shape, alive, count, comes_back=False):
        weight, gradient = _distinct(generator, *shape), _distinct(generator, *shape)
        places = shuffled(generator, weight.numel())
        mask = torch.zeros(weight.numel(), dtype=torch.bool)
        mask[places[:alive]] = True
        mask = mask.reshape(shape)
        weight = weight.masked_fill(~mask, 0)
        if comes_back:  # the weakest of the living has the strongest gradient of all
            weakest = weight.abs().masked_fill(~mask, torch.inf).argmin()
            gradient.view(-1)[weakest] = gradient.abs().max() + 1
        else:  # the living have the strongest gradients, those that will be dropped excepted
            dropped = weight.abs().masked_fill(~mask, torch.inf).flatten().argsort()[:count]
            stays = mask.flatten().clone()
            stays[dropped] = False
            gradient.view(-1)[stays] *= 10
        return weight, gradient, mask, count

    return [
        case((1, 4), 2, 1),
        case((1, 4), 2, 1, comes_back=True),
        case((2, 3), 3, 1),
        case((2, 3), 3, 2, comes_back=True),
        case((2, 4), 4, 2),
        case((3, 3), 4, 2, comes_back=True),
        case((3, 3), 5, 3),
        case((3, 4), 3, 3),
        case((2, 3), 5, 3),
        case((3, 4), 10, 6, comes_back=True),
        case((2, 2, 2, 2), 6, 2),
        case((2, 2, 2, 2), 7, 3, comes_back=True),
        case((20, 30), 60, 20),
    ]


EXERCISE = Exercise(
    reference=prune_and_regrow,
    probes=probes,
    points=3,
    bank=(
        Wrong(
            "the_dead_are_dropped",
            edit("weight.abs().masked_fill(~mask, torch.inf)", "weight.abs()"),
            "Nothing that lives is dropped, so the layer becomes denser with every step.",
            "If you look for the smallest of all weights: a dead one is zero. How do you keep it out of that race?",
        ),
        Wrong(
            "grown_where_it_lives",
            edit("gradient.abs().flatten().masked_fill(living, -torch.inf)", "gradient.abs().flatten()"),
            "Some connections are grown where one lives already, so the layer loses connections.",
            "Count the living weights before and after.",
        ),
        Wrong(
            "dropped_may_not_return",
            edit("masked_fill(living,", "masked_fill(mask.flatten(),"),
            "A connection that has just been dropped may not come back.",
            "Among which connections does growth choose? Read the sentence on the dropped ones again.",
        ),
        Wrong(
            "signed_weights",
            edit("weight.abs()", "weight"),
            "The most negative weights are dropped.",
            "A weight of -3 matters as much as one of 3.",
        ),
        Wrong(
            "signed_gradients",
            edit("gradient.abs()", "gradient"),
            "A connection with a large negative gradient is never grown.",
            "The loss falls as fast along a gradient of -3 as along one of 3.",
        ),
        Wrong(
            "descent_direction",
            edit("gradient.abs()", "-gradient"),
            "A connection with a large positive gradient is never grown.",
            "The loss falls as fast along a gradient of -3 as along one of 3.",
        ),
        Wrong(
            "largest_dropped",
            edit("size.argsort()", "weight.abs().masked_fill(~mask, -1).flatten().argsort(descending=True)"),
            "The largest weights are dropped.",
            "The weights that matter least should go.",
        ),
        Wrong(
            "weakest_gradients",
            edit(
                "masked_fill(living, -torch.inf)",
                "masked_fill(living, torch.inf)",
                "argsort(descending=True)",
                "argsort()",
            ),
            "The connections with the smallest gradients are grown.",
            "Where would a new connection lower the loss most?",
        ),
        Wrong(
            "nothing_grown",
            edit("    living[pull.argsort(descending=True)[:count]] = True\n", ""),
            "Nothing is grown, so the layer becomes sparser with every step.",
            "As many connections have to come as went.",
        ),
        Wrong(
            "grown_by_weight",
            edit("gradient.abs()", "weight.abs()"),
            "What has just been dropped comes straight back, so nothing ever changes.",
            "Growth must not look at the weights: that of a dead connection is zero and says nothing.",
        ),
        Wrong(
            "dropped_by_gradient",
            edit("weight.abs()", "gradient.abs()"),
            "What is dropped is decided by the gradient.",
            "RigL uses two rulers: one for those that live, one for those that do not.",
        ),
        Wrong(
            "one_too_few",
            edit("size.argsort()[:count]", "size.argsort()[: count - 1]", "True)[:count]", "True)[: count - 1]"),
            "One connection fewer is moved than asked for.",
            "How many elements does [:count] hold?",
        ),
    ),
    properties=(
        Property(
            "As many connections have to live as before.",
            lambda output, weight, gradient, mask, count: int(output.sum()) == int(mask.sum()),
        ),
    ),
)
