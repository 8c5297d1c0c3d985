"""Spot the bug: torch.nn.utils.prune, and what it does not do."""

import copy

from torch.nn.utils import prune as torch_prune

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.observers.pruning import pruned_in_two
from kdlab.check.probing import distinct, numbers


def two_rounds(layer, first, second):
    dense = copy.deepcopy(layer.state_dict())
    torch_prune.l1_unstructured(layer, "weight", amount=first)
    torch_prune.l1_unstructured(layer, "weight", amount=(second - first) / (1 - first))
    torch_prune.remove(layer, "weight")
    sparse = copy.deepcopy(layer.state_dict())
    layer.load_state_dict(dense)
    return sparse


def probes(generator):
    shapes = [(1, 4), (2, 2), (2, 5), (5, 4), (4, 5), (10, 10), (8, 5)]
    amounts = [(0.5, 0.75), (0.25, 0.75), (0.5, 0.8), (0.2, 0.6), (0.5, 0.9), (0.6, 0.9), (0.25, 0.5)]
    return [
        (distinct(generator, *shape), numbers(generator, shape[0]), *two)
        for shape, two in zip(shapes, amounts, strict=True)
    ]


def show(weight, bias, first, second):
    return {"layer's weight": weight, "first": first, "second": second}


def not_copied(layer, first, second):
    dense = copy.deepcopy(layer.state_dict())
    two_rounds(layer, first, second)
    sparse = layer.state_dict()
    layer.load_state_dict(dense)
    return sparse


def mask_never_removed(layer, first, second):
    torch_prune.l1_unstructured(layer, "weight", amount=first)
    torch_prune.l1_unstructured(layer, "weight", amount=(second - first) / (1 - first))
    return copy.deepcopy(layer.state_dict())


EXERCISE = Exercise(
    reference=two_rounds,
    probes=probes,
    observe=pruned_in_two,
    show=show,
    points=3,
    handed_out=("share_of_the_rest", "saved_too_early", "never_undone"),
    combine=3,
    bank=(
        Wrong(
            "share_of_the_rest",
            edit("(second - first) / (1 - first)", "second"),
            "more weights go than were asked for.",
            "The second call counts only what the first has left: half, and then half, is three quarters.",
            costs=1 / 3,
        ),
        Wrong(
            "saved_too_early",
            edit(
                'torch_prune.remove(layer, "weight")\n    sparse = copy.deepcopy(layer.state_dict())',
                'sparse = copy.deepcopy(layer.state_dict())\n    torch_prune.remove(layer, "weight")',
            ),
            "an ordinary layer cannot load what is returned: its keys are those of a layer that still carries a mask.",
            "Print the keys of the state before and after each call.",
            costs=1 / 3,
        ),
        Wrong(
            "never_undone",
            edit("    layer.load_state_dict(dense)\n", ""),
            "the layer that was handed in stays pruned.",
            "remove() takes the mask away, not the zeros. Where could the dense weights have been kept?",
            costs=1 / 3,
        ),
        Wrong(
            "difference_of_the_shares",
            edit("(second - first) / (1 - first)", "second - first"),
            "fewer weights go than were asked for.",
            "The second call takes its share of what is left, which is fewer than all.",
            costs=1 / 3,
        ),
        Wrong(
            "second_round_missing",
            edit('    torch_prune.l1_unstructured(layer, "weight", amount=(second - first) / (1 - first))\n', ""),
            "there is no second round.",
            "Both shares are asked for, one after the other.",
            costs=1 / 3,
        ),
        Wrong(
            "mask_never_removed",
            mask_never_removed,
            "the layer keeps its mask, and neither its own keys nor those of the result are the usual ones.",
            "Something has to make the pruning permanent before the state is taken.",
            costs=2 / 3,
        ),
        Wrong(
            "not_copied",
            not_copied,
            "the weights that are returned are dense.",
            "A state dictionary shares its memory with the layer: what happens to it when the layer is restored?",
            costs=1 / 3,
        ),
        Wrong(
            "random_weights",
            edit(
                'torch_prune.l1_unstructured(layer, "weight", amount=first)',
                'torch_prune.random_unstructured(layer, "weight", amount=first)',
            ),
            "weights go at random.",
            "In the handed-out code the smallest went.",
        ),
    ),
    properties=(
        Property("the keys have to be bias and weight.", lambda o, *_: o["keys"] == ["bias", "weight"]),
        Property("the layer has to be an ordinary one again.", lambda o, *_: o["layer's keys"] == ["bias", "weight"]),
        Property("the layer has to come back dense.", lambda o, weight, *_: (o["layer's weight"] == weight).all()),
    ),
)
