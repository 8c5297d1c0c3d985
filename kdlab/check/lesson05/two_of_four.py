"""A 2:4 mask."""

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integers, shuffled


def two_of_four(weight):
    groups = weight.abs().reshape(-1, 4)
    order = groups.argsort(dim=1, descending=True)
    mask = torch.zeros_like(groups, dtype=torch.bool)
    mask.scatter_(1, order[:, :2], True)
    return mask.reshape(weight.shape)


def probes(generator):
    def case(outputs, inputs):  # all magnitudes differ, so that there is one answer only
        size = (shuffled(generator, outputs * inputs) + 1) / 10
        sign = 2 * integers(generator, 0, 1, outputs * inputs) - 1
        return ((size * sign).reshape(outputs, inputs),)

    shapes = [(1, 4), (1, 4), (1, 8), (2, 4), (2, 8), (3, 4), (4, 4), (3, 8), (4, 16), (5, 12), (32, 64)]
    return [case(*shape) for shape in shapes]


def half_of_everything(weight):
    size = weight.abs().flatten()
    return (size > size.sort().values[size.numel() // 2 - 1]).reshape(weight.shape)


def half_of_each_row(weight):
    size = weight.abs()
    return size > size.sort(dim=1).values[:, [size.shape[1] // 2 - 1]]


def far_apart(weight):
    groups = weight.abs().unflatten(1, (4, -1))
    order = groups.argsort(dim=1, descending=True)
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, :2], True).flatten(1)


def above_the_mean(weight):
    groups = weight.abs().reshape(-1, 4)
    return (groups > groups.mean(dim=1, keepdim=True)).reshape(weight.shape)


def groups_of_eight(weight):
    step = 8 if weight.shape[1] % 8 == 0 else 4
    groups = weight.abs().reshape(-1, step)
    order = groups.argsort(dim=1, descending=True)
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, : step // 2], True).reshape(weight.shape)


EXERCISE = Exercise(
    reference=two_of_four,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "signed",
            edit("weight.abs()", "weight"),
            "The largest weights stay, with their sign: a strongly negative weight is thrown away.",
            "A weight of -3 matters as much as one of 3.",
        ),
        Wrong(
            "the_smallest",
            edit(", descending=True", ""),
            "The two smallest of each four live, the two largest go.",
            "Look at the order in which you sort.",
        ),
        Wrong(
            "order_for_rank",
            edit("mask.scatter_(1, order[:, :2], True)", "mask = order < 2"),
            "What sorting returns is taken for a rank: it says which weight comes at a place, not at which place a "
            "weight comes.",
            "Sort 5, 1, 9 by hand: what does argsort give, and where does the 9 stand in the original?",
        ),
        Wrong(
            "first_two",
            edit("mask.scatter_(1, order[:, :2], True)", "mask[:, :2] = True"),
            "The first two of each four live, whatever they are worth.",
            "Which two live depends on the magnitudes.",
        ),
        Wrong(
            "one_of_four",
            edit(":2]", ":1]"),
            "Only one weight in each four lives.",
            "Count the living weights in a group.",
        ),
        Wrong(
            "three_of_four",
            edit(":2]", ":3]"),
            "Three weights in each four live.",
            "Count the living weights in a group.",
        ),
        Wrong(
            "one_of_two",
            edit("reshape(-1, 4)", "reshape(-1, 2)", ":2]", ":1]"),
            "One of each two lives: that fits the pattern, but throws away better weights than it has to.",
            "The two best of a group may be neighbours.",
        ),
        Wrong(
            "groups_of_eight",
            groups_of_eight,
            "Four of each eight live, so a group of four may hold more than two.",
            "The hardware reads groups of four.",
        ),
        Wrong(
            "along_the_outputs",
            edit(
                "weight.abs().reshape(-1, 4)",
                "weight.abs().t().reshape(-1, 4)",
                "return mask.reshape(weight.shape)",
                "return mask.reshape(weight.shape[::-1]).t()",
            ),
            "The groups run down the columns.",
            "A row of the matrix holds the inputs of one neuron; the groups of four lie within it.",
        ),
        Wrong(
            "far_apart",
            far_apart,
            "The four weights of a group do not lie side by side.",
            "Write down the columns of your first group: they should be 0, 1, 2, 3.",
        ),
        Wrong(
            "half_of_everything",
            half_of_everything,
            "Half of all weights live, but not two in every group of four.",
            "Every group of four has to be decided by itself.",
        ),
        Wrong(
            "half_of_each_row",
            half_of_each_row,
            "Half of each row lives, but not two in every group of four.",
            "Every group of four has to be decided by itself.",
        ),
        Wrong(
            "above_the_mean",
            above_the_mean,
            "What lies above its group's mean lives: one, two or three weights.",
            "One large weight lifts the mean above all the others.",
        ),
        Wrong(
            "pruned_weights",
            edit("return mask.reshape(weight.shape)", "return mask.reshape(weight.shape) * weight"),
            "These are the weights that live, not the mask.",
            "A mask says True or False for each weight.",
        ),
    ),
    properties=(
        Property(
            "Two weights of every four side by side have to live.",
            lambda output, weight: bool((output.reshape(-1, 4).sum(dim=1) == 2).all()),
        ),
    ),
)
