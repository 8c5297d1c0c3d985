"""One round of weight rewinding."""

import torch

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import integers, shuffled


def next_ticket(initial, trained, mask, rate):
    count = round(rate * int(mask.sum()))
    size = trained.abs().masked_fill(~mask, torch.inf).flatten()
    survivors = mask.flatten().clone()
    survivors[size.argsort()[:count]] = False
    survivors = survivors.reshape(mask.shape)
    return initial * survivors, survivors


def _distinct(generator, *shape):
    n = int(torch.tensor(shape).prod())
    sign = 2 * integers(generator, 0, 1, n) - 1
    return ((shuffled(generator, n) + 1) / 10 * sign).reshape(shape)


def probes(generator):
    def case(shape, alive, rate):  # rate * alive is a whole number
        initial, trained = _distinct(generator, *shape), _distinct(generator, *shape)
        mask = torch.zeros(initial.numel(), dtype=torch.bool)
        mask[shuffled(generator, initial.numel())[:alive]] = True
        mask = mask.reshape(shape)
        return initial, trained.masked_fill(~mask, 0), mask, rate

    return [
        case((1, 4), 4, 0.5),
        case((1, 4), 4, 0.25),
        case((2, 4), 4, 0.5),
        case((2, 4), 4, 0.75),
        case((3, 4), 8, 0.25),
        case((3, 3), 8, 0.75),
        case((2, 2, 2, 2), 8, 0.5),
        case((2, 2, 2, 2), 12, 0.25),
        case((5, 4), 8, 0.25),
        case((20, 30), 200, 0.75),
    ]


EXERCISE = Exercise(
    reference=next_ticket,
    probes=probes,
    names=("weights", "mask"),
    points=3,
    parts=(Part("mask", 2, (1,)), Part("weights", 1, (0, 1))),
    bank=(
        Wrong(
            "not_rewound",
            edit("return initial *", "return trained *"),
            "The survivors keep the weights that training gave them.",
            "Rewinding goes back: to which weights?",
        ),
        Wrong(
            "the_dead_are_pruned_again",
            edit("trained.abs().masked_fill(~mask, torch.inf)", "trained.abs()"),
            "The weights that were pruned in earlier rounds are the smallest, so they are pruned again and again.",
            "Run a second round by hand: how many weights are newly pruned?",
        ),
        Wrong(
            "rate_of_all",
            edit("int(mask.sum())", "mask.numel()"),
            "The rate is taken of all weights, dead ones included.",
            "Each round removes a share of those that are left.",
        ),
        Wrong(
            "rate_is_kept",
            edit("rate * int", "(1 - rate) * int"),
            "The rate says how many are removed, not how many stay.",
            "With a rate of 0.25, three quarters of the living weights go on.",
        ),
        Wrong(
            "earlier_rounds_forgotten",
            edit("mask.flatten().clone()", "torch.ones_like(mask).flatten()"),
            "Weights that were pruned in earlier rounds are back.",
            "The new mask may only hold weights that the old one held.",
        ),
        Wrong(
            "by_initial_size",
            edit("trained.abs()", "initial.abs()"),
            "The initial weights decide who goes; training has had no say.",
            "Why was the network trained before it was pruned?",
        ),
        Wrong(
            "by_movement",
            edit("trained.abs()", "(trained - initial).abs()"),
            "The weights that moved least go. That is a criterion, but not the one asked for.",
            "The criterion here is the size after training.",
        ),
        Wrong(
            "signed",
            edit("trained.abs()", "trained"),
            "The most negative weights go.",
            "A weight of -3 matters as much as one of 3.",
        ),
        Wrong(
            "largest_pruned",
            edit("trained.abs().masked_fill(~mask, torch.inf)", "-trained.abs().masked_fill(~mask, -1.0)"),
            "The largest weights go.",
            "Those that matter least should go.",
        ),
        Wrong(
            "mask_not_applied",
            edit("return initial * survivors", "return initial"),
            "The weights come back whole: the pruned ones are not zero.",
            "A ticket holds nothing where its mask is False.",
        ),
        Wrong(
            "old_mask_applied",
            edit("return initial * survivors", "return initial * mask"),
            "The weights are masked by the mask of the round before.",
            "Which mask belongs to the next round?",
        ),
        Wrong(
            "inverted",
            edit("survivors = survivors.reshape(mask.shape)", "survivors = ~survivors.reshape(mask.shape)"),
            "The mask is inverted: True stands where a weight is dead.",
            "True lives.",
        ),
        Wrong(
            "old_mask_returned",
            edit("* survivors, survivors", "* survivors, mask"),
            "The mask that comes back is the one of the round before.",
            "The next round needs to know who has just gone.",
        ),
    ),
    properties=(
        Property(
            "What was dead stays dead.",
            lambda output, initial, trained, mask, rate: not bool((torch.as_tensor(output[1]).bool() & ~mask).any()),
        ),
    ),
)
