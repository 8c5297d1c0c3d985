"""Spot the bug: a ranking of channels that runs, and ranks no better than chance."""

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import numbers


def weakest_channels(state, count):
    makes = state["conv1.weight"].abs().sum(dim=(1, 2, 3))
    scales = state["bn.weight"].abs()
    reads = state["conv2.weight"].abs().sum(dim=(0, 2, 3))
    return (makes + scales + reads).topk(count, largest=False).indices.tolist()


def probes(generator):
    def state_of(width, kernel):
        """As in a residual block: as many channels in front of the pair as between the two and behind."""
        return {
            "conv1.weight": numbers(generator, width, width, kernel, kernel),
            "bn.weight": numbers(generator, width, scale=2 * kernel * width**0.5),
            "bn.bias": numbers(generator, width, scale=2 * kernel * width**0.5),
            "bn.running_mean": numbers(generator, width),
            "bn.running_var": numbers(generator, width).abs() + 0.1,
            "conv2.weight": numbers(generator, width, width, kernel, kernel),
            "conv2.bias": numbers(generator, width, scale=2 * kernel * width**0.5),
        }

    def case(width, kernel, count):
        while True:  # until no two channels are equally weak
            state = state_of(width, kernel)
            if len(set(_tenths(state))) == width:
                return state, count

    return [
        case(2, 1, 1),
        case(3, 1, 2),
        case(3, 2, 1),
        case(4, 1, 3),
        case(4, 3, 2),
        case(6, 1, 5),
        case(8, 3, 4),
        case(12, 1, 11),
        case(12, 3, 12),
        case(16, 2, 15),
    ]


def _tenths(state):
    """The importance of each channel, in whole tenths: the probes have one decimal."""
    makes, reads = state["conv1.weight"].abs().sum(dim=(1, 2, 3)), state["conv2.weight"].abs().sum(dim=(0, 2, 3))
    return (10 * (makes + state["bn.weight"].abs() + reads)).round().int().tolist()


def show(state, count):
    return {name: state[name] for name in ("conv1.weight", "bn.weight", "conv2.weight")} | {"count": count}


def by_squares(state, count):
    makes, scales, reads = (state[name].square() for name in ("conv1.weight", "bn.weight", "conv2.weight"))
    scores = makes.sum(dim=(1, 2, 3)) + scales + reads.sum(dim=(0, 2, 3))
    return scores.topk(count, largest=False).indices.tolist()


def those_that_stay(state, count):
    order = weakest_channels(state, len(state["bn.weight"]))
    return order[count:]


EXERCISE = Exercise(
    reference=weakest_channels,
    probes=probes,
    show=show,
    points=3,
    handed_out=("signs_cancel", "reader_along_its_outputs", "strongest_first"),
    combine=3,
    bank=(
        Wrong(
            "signs_cancel",
            edit('state["conv1.weight"].abs().sum(dim=(1, 2, 3))', 'state["conv1.weight"].sum(dim=(1, 2, 3)).abs()'),
            "a filter of large weights of both signs counts as a weak one.",
            "Score the filter [1, -1] by hand: is it as weak as a filter of zeros?",
            costs=1 / 3,
        ),
        Wrong(
            "reader_along_its_outputs",
            edit('state["conv2.weight"].abs().sum(dim=(0, 2, 3))', 'state["conv2.weight"].abs().sum(dim=(1, 2, 3))'),
            "the second convolution is scored by what it makes, and those are other channels.",
            "Which axis of its weight belongs to the channels between the two? Equal widths hide the mix-up.",
            costs=1 / 3,
        ),
        Wrong(
            "strongest_first",
            edit(", largest=False", ""),
            "the channels that go are the most important ones.",
            "Look up which end of the list topk takes.",
            costs=1 / 3,
        ),
        Wrong(
            "signed_scales",
            edit('state["bn.weight"].abs()', 'state["bn.weight"]'),
            "a batch-norm scale below zero makes a channel look weaker than no scale at all.",
            "A scale of -2 doubles a channel, too.",
            costs=1 / 3,
        ),
        Wrong(
            "signs_cancel_in_the_reader",
            edit('state["conv2.weight"].abs().sum(dim=(0, 2, 3))', 'state["conv2.weight"].sum(dim=(0, 2, 3)).abs()'),
            "weights of both signs cancel in the second convolution.",
            "Size first: a large weight counts whatever its sign.",
            costs=1 / 3,
        ),
        Wrong(
            "no_sizes_in_the_maker",
            edit('state["conv1.weight"].abs()', 'state["conv1.weight"]'),
            "the first convolution's weights are summed with their signs.",
            "Of a weight its size counts.",
            costs=1 / 3,
        ),
        Wrong(
            "maker_along_its_inputs",
            edit('state["conv1.weight"].abs().sum(dim=(1, 2, 3))', 'state["conv1.weight"].abs().sum(dim=(0, 2, 3))'),
            "the first convolution is scored by what it reads.",
            "The shape is (makes, reads, height, width): which axis has to be left over?",
            costs=1 / 3,
        ),
        Wrong(
            "reader_left_out",
            edit("makes + scales + reads", "makes + scales"),
            "what reads the channel does not count.",
            "A channel goes with the filter that makes it and with the weights that read it.",
            costs=1 / 3,
        ),
        Wrong(
            "scale_left_out",
            edit("makes + scales + reads", "makes + reads"),
            "batch norm's scale does not count.",
            "The table says what a channel counts by.",
            costs=1 / 3,
        ),
        Wrong(
            "filters_alone",
            edit("makes + scales + reads", "makes"),
            "only the filter counts, as it did for Li in 2017.",
            "Here everything counts that goes with the channel.",
            costs=2 / 3,
        ),
        Wrong(
            "scales_alone",
            edit("makes + scales + reads", "scales"),
            "only batch norm's scale counts, as it does for the rank bn.",
            "Here everything counts that goes with the channel.",
            costs=2 / 3,
        ),
        Wrong(
            "multiplied",
            edit("makes + scales + reads", "makes * scales * reads"),
            "the three parts are multiplied.",
            "The table speaks of a sum of sizes.",
            costs=1 / 3,
        ),
        Wrong(
            "averaged",
            edit(
                'state["conv1.weight"].abs().sum(dim=(1, 2, 3))', 'state["conv1.weight"].abs().mean(dim=(1, 2, 3))',
                'state["conv2.weight"].abs().sum(dim=(0, 2, 3))', 'state["conv2.weight"].abs().mean(dim=(0, 2, 3))',
            ),
            "the weights are averaged, and the one scale weighs as much as all of them.",
            "Every number that goes with the channel counts once.",
            costs=1 / 3,
        ),
        Wrong(
            "shift_counted",
            edit('state["bn.weight"].abs()', '(state["bn.weight"].abs() + state["bn.bias"].abs())'),
            "batch norm's shift is counted in.",
            "The size of the scale was asked for; the handed-out code was right there.",
            costs=1 / 3,
        ),
        Wrong(
            "bias_of_the_reader_counted",
            edit("makes + scales + reads", 'makes + scales + reads + state["conv2.bias"].abs()'),
            "the second convolution's bias is counted in, and belongs to other channels.",
            "Does a bias go with what a layer reads or with what it makes?",
            costs=1 / 3,
        ),
        Wrong(
            "squares",
            by_squares,
            "squares are summed in place of sizes.",
            "That is the rank l2.",
            costs=1 / 3,
        ),
        Wrong(
            "strongest_of_the_weakest_first",
            edit(".indices.tolist()", ".indices.tolist()[::-1]"),
            "the order is the wrong way round: the weakest comes last.",
            "Which one should go first?",
            costs=1 / 3,
        ),
        Wrong(
            "in_order_of_position",
            edit("(makes + scales + reads).topk(count, largest=False).indices.tolist()",
                 "sorted((makes + scales + reads).topk(count, largest=False).indices.tolist())"),
            "the channels come in order of their numbers.",
            "Which one should go first?",
            costs=1 / 3,
        ),
        Wrong(
            "those_that_stay",
            those_that_stay,
            "the channels that are returned are those that stay.",
            "What is asked for is what goes.",
        ),
        Wrong(
            "scores_returned",
            edit("indices.tolist()", "values.tolist()"),
            "scores are returned where numbers of channels are asked for.",
            "topk gives two things.",
        ),
    ),
    properties=(
        Property("There have to be as many channels as asked for.", lambda output, _, count: len(output) == count),
        Property("No channel can go twice.", lambda output, *_: len({int(number) for number in output}) == len(output)),
        Property(
            "A channel's number is at least 0, and less than the number of channels.",
            lambda output, state, _: all(0 <= int(number) < len(state["bn.weight"]) for number in output),
        ),
    ),
)  # fmt: skip
