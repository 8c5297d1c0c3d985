"""One channel, out of every tensor that knows it."""

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integer, numbers


def remove_channel(state, channel):
    left = [number for number in range(len(state["conv1.weight"])) if number != channel]
    smaller = dict(state)
    for name in ("conv1.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        smaller[name] = state[name][left]
    smaller["conv2.weight"] = state["conv2.weight"][:, left]
    return smaller


def probes(generator):
    def case(inputs, middle, outputs, kernel, channel):
        state = {
            "conv1.weight": numbers(generator, middle, inputs, kernel, kernel),
            "bn.weight": numbers(generator, middle),
            "bn.bias": numbers(generator, middle),
            "bn.running_mean": numbers(generator, middle),
            "bn.running_var": numbers(generator, middle).abs() + 0.1,
            "conv2.weight": numbers(generator, outputs, middle, kernel, kernel),
            "conv2.bias": numbers(generator, outputs),
        }
        return state, channel

    return [
        case(1, 2, 1, 1, 0),
        case(1, 2, 3, 1, 1),
        case(2, 3, 3, 1, integer(generator, 0, 2)),
        case(3, 3, 3, 2, 1),
        case(1, 4, 2, 2, 3),
        case(4, 4, 4, 1, 2),
        case(5, 6, 7, 3, integer(generator, 1, 4)),
        case(8, 16, 16, 3, integer(generator, 0, 15)),
    ]


def zeroed(state, channel):
    same_size = {name: tensor.clone() for name, tensor in state.items()}
    for name in ("conv1.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
        same_size[name][channel] = 0
    same_size["conv2.weight"][:, channel] = 0
    return same_size


def bias_cut_where_it_can_be(state, channel):
    smaller = remove_channel(state, channel)
    if channel < len(state["conv2.bias"]):
        smaller["conv2.bias"] = torch.cat([state["conv2.bias"][:channel], state["conv2.bias"][channel + 1 :]])
    return smaller


def reader_cut_along_its_outputs(state, channel):
    smaller = remove_channel(state, channel)
    rows = [number for number in range(len(state["conv2.weight"])) if number != channel]
    return smaller | {"conv2.weight": state["conv2.weight"][rows]}


EXERCISE = Exercise(
    reference=remove_channel,
    probes=probes,
    points=3,
    bank=(
        Wrong(
            "reader_forgotten",
            edit('    smaller["conv2.weight"] = state["conv2.weight"][:, left]\n', ""),
            "The second convolution still waits for the channel that is gone.",
            "Who reads what the first convolution makes?",
        ),
        Wrong(
            "reader_cut_along_its_outputs",
            reader_cut_along_its_outputs,
            "The second convolution has lost one of its own outputs instead of an input.",
            "A weight has the shape (outputs, inputs, height, width): which axis reads the channel?",
        ),
        Wrong(
            "statistics_forgotten",
            edit(', "bn.running_mean", "bn.running_var"', ""),
            "Batch norm's running mean and variance still have an entry for the channel.",
            "Batch norm keeps four numbers a channel, and learns only two of them.",
        ),
        Wrong(
            "mean_forgotten",
            edit(', "bn.running_mean"', ""),
            "Batch norm's running mean still has an entry for the channel.",
            "Batch norm keeps four numbers a channel.",
        ),
        Wrong(
            "variance_forgotten",
            edit(', "bn.running_var"', ""),
            "Batch norm's running variance still has an entry for the channel.",
            "Batch norm keeps four numbers a channel.",
        ),
        Wrong(
            "shift_forgotten",
            edit(', "bn.bias"', ""),
            "Batch norm's shift still has an entry for the channel.",
            "Batch norm has a scale and a shift for each channel, under the names weight and bias.",
        ),
        Wrong(
            "norm_forgotten",
            edit(', "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"', ","),
            "Batch norm stands between the two convolutions and still has all of its channels.",
            "What the first convolution makes passes through it, channel by channel.",
        ),
        Wrong(
            "maker_forgotten",
            edit('"conv1.weight", "bn', '"bn'),
            "The first convolution still makes the channel.",
            "Which axis of its weight counts what it makes?",
        ),
        Wrong(
            "maker_cut_along_its_inputs",
            edit(
                "        smaller[name] = state[name][left]",
                '        smaller[name] = state[name][left] if name != "conv1.weight" else '
                "state[name][:, [i for i in range(state[name].shape[1]) if i != channel]]",
            ),
            "The first convolution has lost one of its inputs instead of an output.",
            "A weight has the shape (outputs, inputs, height, width): which axis counts what is made?",
        ),
        Wrong(
            "only_this_one_kept",
            edit("number != channel", "number == channel"),
            "This channel is the only one that stays.",
            "Read the comparison aloud: which channels does it let through?",
        ),
        Wrong(
            "last_one_removed",
            edit("number != channel", 'number != len(state["conv1.weight"]) - 1'),
            "The last channel goes, whatever the number says.",
            "Try a channel in the middle.",
        ),
        Wrong(
            "counted_from_one",
            edit("number != channel", "number != max(channel - 1, 0)"),
            "The neighbour of the channel is gone.",
            "Channels are counted from zero.",
        ),
        Wrong(
            "all_after_it_removed",
            edit("number != channel", "number < max(channel, 1)"),
            "Every channel after this one is gone as well.",
            "Slices need two pieces here: the one before and the one behind.",
        ),
        Wrong(
            "zeroed",
            zeroed,
            "The channel is filled with zeros, and every tensor is as large as before.",
            "Zeros are multiplied like any other number: the tensors themselves have to become smaller.",
        ),
        Wrong(
            "bias_of_the_reader_cut",
            bias_cut_where_it_can_be,
            "The second convolution's bias has lost an entry.",
            "Its outputs are all still there. Does a bias belong to inputs or to outputs?",
        ),
    ),
    properties=(
        Property(
            "Every tensor has to come back, under its old name.",
            lambda output, state, _: set(output) == set(state),
        ),
        Property(
            "The first convolution has to make exactly one channel less.",
            lambda output, state, _: len(output["conv1.weight"]) == len(state["conv1.weight"]) - 1,
        ),
        Property(
            "The second convolution has to read as many channels as the first one makes.",
            lambda output, *_: output["conv2.weight"].shape[1] == len(output["conv1.weight"]),
        ),
    ),
)
