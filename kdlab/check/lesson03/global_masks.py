"""One threshold for the weights of all layers."""

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import distinct, integer


def global_masks(weights, sparsity):
    sizes = torch.cat([weight.abs().flatten() for weight in weights])
    count = round(sparsity * len(sizes))
    threshold = sizes.sort().values[count - 1] if count else -1
    return [weight.abs() > threshold for weight in weights]


def probes(generator):
    def layers(*shapes, spread=True):
        """Split distinct numbers over layers, so that no two sizes agree anywhere; later layers tend to be smaller."""
        total = sum(torch.Size(shape).numel() for shape in shapes)
        flat = distinct(generator, total)
        if spread:
            flat = flat[flat.abs().argsort(descending=True)]
            flat = flat[(torch.arange(total) + 3.0 * torch.rand(total, generator=generator)).argsort()]
        sizes = [torch.Size(shape).numel() for shape in shapes]
        return [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]

    return [
        (layers((2,), (2,)), 0.25),
        (layers((2,), (3,)), 0.5),
        (layers((2, 2), (3, 2)), 0.3),
        (layers((4,), (4,), spread=False), 0.0),
        (layers((3, 2)), 0.4),
        (layers((2,), (1, 2)), 0.1),
        (layers((2, 3), (4,), (3,), spread=False), 0.66),
        (layers((6, 2), (2, 2)), 0.2),
        (layers((3, 2, 2, 2), (4, 3), (2, 4)), 0.5),
        (layers((5, 4), (3, 7), (8, 2), spread=False), integer(generator, 70, 79) / 100),
        (layers((6, 2, 3, 3), (10, 6)), 0.85),
    ]


def layer_by_layer(weights, sparsity):
    return [global_masks([weight], sparsity)[0] for weight in weights]


def mean_of_thresholds(weights, sparsity):
    thresholds = []
    for weight in weights:
        count = round(sparsity * weight.numel())
        thresholds.append(float(weight.abs().flatten().sort().values[count - 1]) if count else 0.0)
    threshold = sum(thresholds) / len(thresholds)
    return [weight.abs() > threshold for weight in weights]


def each_scaled_to_its_largest(weights, sparsity):
    return global_masks([weight / weight.abs().max() for weight in weights], sparsity)


def share_of_the_largest(weights, sparsity):
    largest = max(float(weight.abs().max()) for weight in weights)
    return [weight.abs() > sparsity * largest for weight in weights]


def whole_layers(weights, sparsity):
    count = round(sparsity * sum(weight.numel() for weight in weights))
    masks = []
    for weight in weights:
        mask = torch.ones(weight.numel(), dtype=torch.bool)
        mask[:count] = False
        count = max(0, count - weight.numel())
        masks.append(mask.reshape(weight.shape))
    return masks


def quantile(weights, sparsity):
    threshold = torch.quantile(torch.cat([weight.abs().flatten() for weight in weights]), sparsity)
    return [weight.abs() > threshold for weight in weights]


EXERCISE = Exercise(
    reference=global_masks,
    probes=probes,
    points=3,
    bank=(
        Wrong(
            "layer_by_layer",
            layer_by_layer,
            "Every layer loses the same share of its weights.",
            "A global rule lets a weight of one layer compete with the weights of all others.",
        ),
        Wrong(
            "signs_kept_in_the_order",
            edit("weight.abs().flatten()", "weight.flatten()"),
            "The threshold is found among the weights as they are, signs included.",
            "What counts is the distance from zero, in both places.",
        ),
        Wrong(
            "signs_kept_in_the_comparison",
            edit("weight.abs() > threshold", "weight > threshold"),
            "No negative weight ever lives.",
            "Compare sizes with the threshold, as they were compared with one another.",
        ),
        Wrong(
            "inverted",
            edit("> threshold", "<= threshold"),
            "The masks are True where a weight has to go.",
            "True means that the weight lives.",
        ),
        Wrong(
            "threshold_lives",
            edit("> threshold", ">= threshold"),
            "The weight that lies on the threshold lives.",
            "Count the zeros: one is missing.",
        ),
        Wrong(
            "rounded_down",
            edit("round(", "int("),
            "The number of zeros is rounded down.",
            "Where the share falls between two whole numbers, the nearer one is asked for.",
        ),
        Wrong(
            "share_that_lives",
            edit("round(sparsity *", "round((1 - sparsity) *"),
            "As many weights are removed as should have stayed.",
            "Sparsity is the share of zeros.",
        ),
        Wrong(
            "largest_go",
            edit("sort()", "sort(descending=True)", "> threshold", "< threshold"),
            "The largest weights are removed.",
            "Which weights change the output least when they become zero?",
        ),
        Wrong(
            "counted_over_the_first",
            edit("len(sizes)", "weights[0].numel()"),
            "The number of zeros is a share of the first layer alone.",
            "The share is taken of the weights of all layers together.",
        ),
        Wrong(
            "mean_of_thresholds",
            mean_of_thresholds,
            "The threshold is the mean of the layers' own thresholds.",
            "Layers differ in size, and so in their say: put all weights into one list.",
        ),
        Wrong(
            "each_scaled_to_its_largest",
            each_scaled_to_its_largest,
            "Each layer is scaled to its own largest weight before the comparison.",
            "The weights are compared as they are.",
        ),
        Wrong(
            "share_of_the_largest",
            share_of_the_largest,
            "The threshold is a share of the largest weight, whatever the number of weights below it.",
            "Sparsity is a share of the number of weights.",
        ),
        Wrong(
            "quantile",
            quantile,
            "The quantile falls between two weights, and the number of zeros is not always the one asked for.",
            "Count the zeros of all masks together: how many should there be?",
        ),
        Wrong(
            "first_come",
            whole_layers,
            "Weights go in the order in which they stand, and the first layers go with them.",
            "The order that counts is the order of their size.",
        ),
    ),
    properties=(
        Property("There has to be one mask a layer.", lambda masks, weights, _: len(masks) == len(weights)),
        Property(
            "Each mask has to have its weight's shape.",
            lambda masks, weights, _: all(m.shape == w.shape for m, w in zip(masks, weights, strict=True)),
        ),
        Property(
            "The number of zeros over all layers is not the one asked for.",
            lambda masks, weights, sparsity: (
                sum(int((~m.bool()).sum()) for m in masks) == round(sparsity * sum(w.numel() for w in weights))
            ),
        ),
    ),
)
