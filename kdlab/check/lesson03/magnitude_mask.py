"""Which weights of one tensor live: the large ones."""

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import distinct, integer


def magnitude_mask(weight, sparsity):
    count = round(sparsity * weight.numel())
    order = weight.abs().flatten().argsort()
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[:count]] = False
    return mask.reshape(weight.shape)


def probes(generator):
    pruned_before = distinct(generator, 4, 5)
    pruned_before[pruned_before.abs() < pruned_before.abs().median()] = 0
    return [
        (distinct(generator, 4), 0.25),
        (distinct(generator, 2, 2), 0.25),
        (distinct(generator, 4), 0.0),
        (distinct(generator, 3), 0.3),
        (distinct(generator, 2, 3), 0.7),
        (distinct(generator, 3, 4), 0.3),
        (distinct(generator, 1), 0.2),
        (pruned_before, 0.7),
        (distinct(generator, 3, 2, 2, 2), 0.4),
        (distinct(generator, 7, 5), integer(generator, 80, 89) / 100),
        (distinct(generator, 8, 4, 3, 3) * 0.01, 0.9),
    ]


def quantile(weight, sparsity):
    return weight.abs() > torch.quantile(weight.abs(), sparsity)


def threshold_lives(weight, sparsity):
    count = max(1, round(sparsity * weight.numel()))
    return weight.abs() >= weight.abs().flatten().sort().values[count - 1]


def of_the_largest(weight, sparsity):
    return weight.abs() > sparsity * weight.abs().max()


def sparsity_is_the_threshold(weight, sparsity):
    return weight.abs() > sparsity


def row_by_row(weight, sparsity):
    rows = [magnitude_mask(row, sparsity) for row in weight]
    return torch.stack(rows)


def at_random(weight, sparsity):
    count = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[:count] = False
    return mask.reshape(weight.shape)


def the_weights_themselves(weight, sparsity):
    return weight * magnitude_mask(weight, sparsity)


EXERCISE = Exercise(
    reference=magnitude_mask,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "signs_kept",
            edit("weight.abs()", "weight"),
            "The most negative weights go first, however large they are.",
            "What counts is the distance from zero.",
        ),
        Wrong(
            "inverted",
            edit("torch.ones(", "torch.zeros(", "] = False", "] = True"),
            "The mask is True where a weight has to go.",
            "True means that the weight lives.",
        ),
        Wrong(
            "largest_go",
            edit("argsort()", "argsort(descending=True)"),
            "The largest weights are removed.",
            "Which weights change the output least when they become zero?",
        ),
        Wrong(
            "share_that_lives",
            edit("round(sparsity *", "round((1 - sparsity) *"),
            "As many weights are removed as should have stayed.",
            "Sparsity is the share of zeros.",
        ),
        Wrong(
            "rounded_down",
            edit("round(", "int("),
            "The number of zeros is rounded down.",
            "Where the share falls between two whole numbers, the nearer one is asked for.",
        ),
        Wrong(
            "of_what_is_left",
            edit("sparsity * weight.numel()", "sparsity * int(weight.count_nonzero())"),
            "The share is taken of the weights that are not zero yet.",
            "Sparsity is counted over all weights, those that were zero before included.",
        ),
        Wrong(
            "one_more_lives",
            threshold_lives,
            "One weight too many lives: the one that lies on the threshold.",
            "After removing one weight of four, how many are left?",
        ),
        Wrong(
            "quantile",
            quantile,
            "The quantile falls between two weights, and the number of zeros is not always the one asked for.",
            "Count the zeros: how many should there be?",
        ),
        Wrong(
            "share_of_the_largest",
            of_the_largest,
            "The threshold is a share of the largest weight, whatever the number of weights below it.",
            "Sparsity is a share of the number of weights.",
        ),
        Wrong(
            "sparsity_is_the_threshold",
            sparsity_is_the_threshold,
            "The weights are compared with the sparsity itself.",
            "Put the weights in order first: which one is the last that has to go?",
        ),
        Wrong(
            "row_by_row",
            row_by_row,
            "Each row loses the same share of its weights.",
            "All weights of the tensor compete with one another, whatever row they stand in.",
        ),
        Wrong(
            "first_come",
            at_random,
            "Weights go in the order in which they stand.",
            "The order that counts is the order of their size.",
        ),
        Wrong(
            "weights_in_place_of_a_mask",
            the_weights_themselves,
            "It gives the pruned weights back.",
            "Only the mask is asked for; it is put to use later, more than once.",
        ),
    ),
    properties=(
        Property("The mask has to have the weight's shape.", lambda mask, weight, _: mask.shape == weight.shape),
        Property(
            "The number of zeros is not the one asked for.",
            lambda mask, weight, sparsity: int((~mask.bool()).sum()) == round(sparsity * weight.numel()),
        ),
        Property(
            "A weight lives although a larger one was removed.",
            lambda mask, w, _: mask.all() or w.abs()[mask].min() >= w.abs()[~mask].max(),
        ),
    ),
)
