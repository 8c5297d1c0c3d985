"""Where a layer looks: an attention map."""

import torch
import torch.nn.functional as F

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import numbers


def attention_map(feature):
    energy = feature.square().mean(dim=1).flatten(start_dim=1)
    return F.normalize(energy, dim=1)


def probes(generator):
    shapes = [(1, 1, 1, 2), (1, 2, 1, 2), (2, 1, 2, 1), (1, 2, 2, 2), (2, 2, 2, 2), (2, 3, 2, 3), (3, 2, 3, 2)]
    return [(_alive(generator, *shape),) for shape in [*shapes, (4, 3, 4, 5), (8, 5, 7, 7)]]


def _alive(generator, *shape):
    feature = numbers(generator, *shape)
    return torch.where(feature.abs() < 0.15, torch.full_like(feature, 0.7), feature)  # no map is zero everywhere


def one_number_a_channel(feature):
    return F.normalize(feature.square().mean(dim=(2, 3)), dim=1)


def not_flattened(feature):
    return attention_map(feature).reshape(len(feature), *feature.shape[2:])


def columns_first(feature):
    return attention_map(feature.transpose(2, 3))


def each_channel_by_itself(feature):
    return F.normalize(feature.square().flatten(start_dim=2), dim=2)


EXERCISE = Exercise(
    reference=attention_map,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "absolute_values",
            edit("feature.square()", "feature.abs()"),
            "The activations enter by their size, not by their square.",
            "A position with one strong channel should outweigh one with several weak ones.",
        ),
        Wrong(
            "not_squared",
            edit("feature.square()", "feature"),
            "The channels are averaged as they are, so positive and negative activations cancel.",
            "A strong negative activation is attention as well: what makes both signs count?",
        ),
        Wrong(
            "squared_afterwards",
            edit("feature.square().mean(dim=1)", "feature.mean(dim=1).square()"),
            "The square comes after the average over the channels, where signs have already cancelled.",
            "Try two channels that are each other's opposite: the position is active all the same.",
        ),
        Wrong(
            "strongest_channel",
            edit("mean(dim=1)", "amax(dim=1)"),
            "Only the strongest channel at each position counts.",
            "That is another map of the paper's section 3.1; here all channels have their say.",
        ),
        Wrong(
            "root",
            edit("mean(dim=1)", "mean(dim=1).sqrt()"),
            "A square root is taken of the map before it is normalised.",
            "The energy of a position is used as it is.",
        ),
        Wrong(
            "not_normalised",
            edit("F.normalize(energy, dim=1)", "energy"),
            "The map is not normalised: a network with larger activations has larger maps.",
            "Multiply the feature by ten: the map has to stay as it is.",
        ),
        Wrong(
            "sums_to_one",
            edit("F.normalize(energy, dim=1)", "energy / energy.sum(dim=1, keepdim=True)"),
            "Each map is divided by its sum, not by its length.",
            "It is the squares of a row that have to sum to one.",
        ),
        Wrong(
            "largest_is_one",
            edit("F.normalize(energy, dim=1)", "energy / energy.amax(dim=1, keepdim=True)"),
            "Each map is divided by its largest entry, not by its length.",
            "It is the squares of a row that have to sum to one.",
        ),
        Wrong(
            "softmax",
            edit("F.normalize(energy, dim=1)", "energy.softmax(dim=1)"),
            "The map has gone through a softmax, which makes it depend on the size of the activations.",
            "Multiply the feature by ten: the map has to stay as it is.",
        ),
        Wrong(
            "squared_length",
            edit("F.normalize(energy, dim=1)", "energy / energy.square().sum(dim=1, keepdim=True)"),
            "Each map is divided by its squared length.",
            "Compute the length of a row of your result.",
        ),
        Wrong(
            "over_the_batch",
            edit("F.normalize(energy, dim=1)", "F.normalize(energy, dim=0)"),
            "The maps are normalised over the images instead of over the positions.",
            "What an image looks like must not depend on its neighbours in the batch: which dimension is which?",
        ),
        Wrong(
            "one_length_for_all",
            edit("F.normalize(energy, dim=1)", "energy / energy.norm()"),
            "All maps are divided by one common length.",
            "Every image has a map of its own, and each of them has length one.",
        ),
        Wrong(
            "one_number_a_channel",
            one_number_a_channel,
            "It averages over the positions and gives one number a channel.",
            "A map says where, not which channel: which dimension has to go?",
        ),
        Wrong(
            "each_channel_by_itself",
            each_channel_by_itself,
            "Every channel keeps a map of its own.",
            "Teacher and student have different numbers of channels; their maps have to be comparable.",
        ),
        Wrong(
            "not_flattened",
            not_flattened,
            "The values are right, but the map still has height and width.",
            "One row an image, one column a position.",
        ),
        Wrong(
            "columns_first",
            columns_first,
            "The positions run down the columns first.",
            "Height comes before width, as in the feature itself.",
        ),
    ),
    properties=(
        Property("There has to be one row for every image.", lambda output, feature: len(output) == len(feature)),
        Property(
            "Each row has to have length one.",
            lambda output, feature: bool(((output.square().sum(dim=1) - 1).abs() < 1e-3).all()),
        ),
        Property("No entry of a map is negative.", lambda output, feature: bool((output >= 0).all())),
    ),
)
