"""Batch norm's statistics, measured anew."""

import torch
from torch import nn

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.observers.norms import recalibrated
from kdlab.check.probing import integer, numbers


def recalibrate_norms(model, batches):
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    model.eval()
    for norm in norms:
        norm.momentum = momenta[norm]


def probes(generator):
    def case(channels, momentum, *sizes, training=False):
        network = {"channels": channels, "seed": integer(generator, 0, 999), "momentum": momentum, "training": training}
        return network, [numbers(generator, size, 1, 3, 3) + 0.5 * number for number, size in enumerate(sizes)]

    return [
        case(1, 0.1, 2, 2),
        case(2, 0.1, 3, 3, 3, training=True),
        case(2, 0.3, 4, 4),
        case(1, 0.1, 5),
        case(3, 0.01, 2, 2, 2, 2),
        case(2, 0.5, 6, 6, 6, training=True),
        case(4, 0.1, 16, 16, 16, 16, 16),
    ]


def show(network, batches):
    mode = "training" if network["training"] else "evaluation"
    text = f"a small network with batch norm of momentum {network['momentum']}, in {mode} mode"
    return {"model": text, "batches": batches}


EXERCISE = Exercise(
    reference=recalibrate_norms,
    probes=probes,
    observe=recalibrated,
    show=show,
    points=3,
    parts=(
        Part("statistics", 2, ("running means", "running variances", "weights as they were")),
        Part("the model as it should be left", 1, ("mode", "momentum", "gradients were recorded")),
    ),
    bank=(
        Wrong(
            "old_ones_counted_in",
            edit("        norm.reset_running_stats()\n", ""),
            "The old statistics are averaged in with the new ones.",
            "They describe the network before pruning: what has to happen to them first?",
        ),
        Wrong(
            "moving_average",
            edit("        norm.momentum = None\n", ""),
            "The statistics are a moving average, which still remembers the zeros and ones that it started from.",
            "The documentation of BatchNorm2d says what makes it a plain average.",
        ),
        Wrong(
            "evaluation_mode",
            edit("model.train()", "model.train(False)"),
            "The images go through in evaluation mode, where batch norm measures nothing.",
            "In which mode does batch norm update what it remembers?",
        ),
        Wrong(
            "parameters_reset",
            edit("reset_running_stats", "reset_parameters"),
            "The learned scales and shifts are gone.",
            "Batch norm has two methods that reset; one of them forgets what was learned as well.",
        ),
        Wrong(
            "last_batch_only",
            edit("norm.momentum = None", "norm.momentum = 1.0"),
            "Only the last batch counts.",
            "A momentum of one forgets everything before.",
        ),
        Wrong(
            "first_batch_only",
            edit("for batch in batches:", "for batch in batches[:1]:"),
            "Only the first batch is looked at.",
            "One batch is a small sample.",
        ),
        Wrong(
            "first_norm_only",
            edit("isinstance(module, nn.BatchNorm2d)]", "isinstance(module, nn.BatchNorm2d)][:1]"),
            "Only the first batch norm is measured anew.",
            "All that come after a pruned layer see something new.",
        ),
        Wrong(
            "last_norm_only",
            edit("isinstance(module, nn.BatchNorm2d)]", "isinstance(module, nn.BatchNorm2d)][-1:]"),
            "Only the last batch norm is measured anew.",
            "All that come after a pruned layer see something new.",
        ),
        Wrong(
            "left_in_training_mode",
            edit("    model.eval()\n", ""),
            "The model stays in training mode: the next prediction would depend on its neighbours.",
            "In which mode does a network predict?",
            costs=1 / 3,
        ),
        Wrong(
            "momentum_forgotten",
            edit("        norm.momentum = momenta[norm]\n", "        pass\n"),
            "The momentum is no longer what it was: a later fine-tuning would keep its statistics in another way.",
            "Note the momentum of each norm before you change it.",
            costs=1 / 3,
        ),
        Wrong(
            "momentum_set_to_the_default",
            edit("        norm.momentum = momenta[norm]\n", "        norm.momentum = 0.1\n"),
            "The momentum is torch's default afterwards, whatever it was before.",
            "Note the momentum of each norm before you change it.",
            costs=1 / 3,
        ),
        Wrong(
            "gradients_recorded",
            edit("with torch.no_grad():", "if True:"),
            "Every activation is kept in memory for gradients that nobody asks for.",
            "Nothing is learned here; torch need not remember how it got the numbers.",
            costs=1 / 3,
        ),
        Wrong(
            "all_at_once",
            edit("for batch in batches:", "for batch in [torch.cat(list(batches))]:"),
            "The batches go through as one.",
            "The variance of all images together is not the average of the batches' variances.",
        ),
    ),
    properties=(
        Property("No weight may change.", lambda output, *_: output["weights as they were"]),
        Property(
            "The model has to be in evaluation mode afterwards.", lambda output, *_: output["mode"] == "evaluation"
        ),
        Property("A variance is not negative.", lambda output, *_: bool((output["running variances"] >= 0).all())),
    ),
)
