"""A weight rounded to few bits: signed whole numbers, and one scale for each output channel."""

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integer, integers, numbers


def quantise_weight(weight, bits):
    largest = 2 ** (bits - 1) - 1
    channels = weight.flatten(1)
    scale = channels.abs().amax(dim=1, keepdim=True) / largest
    scale[scale == 0] = 1
    codes = (channels / scale).round()
    return (codes * scale).reshape(weight.shape)


def probes(generator):
    def case(bits, *shape, unit=1.0, pruned=False, empty=False):
        weight = numbers(generator, *shape)
        if pruned:
            weight *= integers(generator, 0, 1, *shape)
        if empty:
            weight[integer(generator, 0, shape[0] - 1)] = 0
        while (halves := _between_two_codes(weight, bits)).any():
            weight[halves] = numbers(generator, int(halves.sum()))
        return weight * unit, bits

    return [
        case(3, 1, 3),
        case(3, 2, 3),
        case(3, 3, 2, empty=True),
        case(2, 2, 4),
        case(4, 4, 4, pruned=True),
        case(4, 3, 1),
        case(3, 2, 2, 2),
        case(3, 2, 2, 2, 2),
        case(5, 6, 1, 3, 3),
        case(4, 4, 3, 3, empty=True),
        case(8, 4, 3, 3, 3, unit=0.01),
        case(8, 8, 24),
        case(6, 12, 6, 3, 3, pruned=True, empty=True),
    ]


def _between_two_codes(weight, bits):
    """Where a weight lies half-way between two codes: which of them is right is a matter of taste."""
    most = weight.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    places = weight.abs() / most * (2 ** (bits - 1) - 1)  # NaN, and nowhere near, in a channel of zeros
    return (places % 1 - 0.5).abs() < 0.01


def a_scale_for_each_place_in_the_kernel(weight, bits):
    largest = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(dim=1, keepdim=True) / largest
    scale[scale == 0] = 1
    return (weight / scale).round() * scale


def zero_point(weight, bits):
    channels, levels = weight.flatten(1), 2**bits - 1
    low = channels.amin(dim=1, keepdim=True).clamp(max=0)
    high = channels.amax(dim=1, keepdim=True).clamp(min=0)
    scale = (high - low) / levels
    scale[scale == 0] = 1
    zero = (-low / scale).round()
    codes = ((channels / scale).round() + zero).clamp(0, levels)
    return ((codes - zero) * scale).reshape(weight.shape)


def _steps(output, weight, bits):
    """How far each weight has moved, in steps of its channel."""
    moved = (output - weight).flatten(1).abs()
    most = weight.flatten(1).abs().amax(dim=1, keepdim=True)
    return (moved / most)[most.flatten() > 0] * (2 ** (bits - 1) - 1)


_MOST = "channels.abs().amax(dim=1, keepdim=True)"
_CUT = (".round()", ".round().clamp(-largest, largest)")
_LOW = "channels.amin(dim=1, keepdim=True)"


EXERCISE = Exercise(
    reference=quantise_weight,
    probes=probes,
    points=3,
    bank=(
        Wrong(
            "one_scale",
            edit(_MOST, "channels.abs().max()"),
            "One scale serves the whole tensor, so one large weight makes every channel coarse.",
            "Two channels, one ten times as large as the other: how many codes are left for the smaller one?",
        ),
        Wrong(
            "a_scale_for_each_input",
            edit(
                "weight.flatten(1)",
                "weight.transpose(0, 1).flatten(1)",
                "(codes * scale).reshape(weight.shape)",
                "(codes * scale).reshape(weight.transpose(0, 1).shape).transpose(0, 1)",
            ),
            "The scales belong to the input channels, not to the output channels.",
            "In which place of the shape do the output channels stand?",
        ),
        Wrong(
            "along_the_last_axis",
            edit("weight.flatten(1)", "weight.flatten(0, -2)"),
            "Each row along the last axis has its own scale: right for a matrix, far too many for a convolution.",
            "Count the scales of a convolution with 8 output channels: there should be 8.",
        ),
        Wrong(
            "along_the_inputs_only",
            a_scale_for_each_place_in_the_kernel,
            "Each place in the kernel has its own scale: right for a matrix, far too many for a convolution.",
            "Count the scales of a convolution with 8 output channels: there should be 8.",
        ),
        Wrong(
            "nan_in_a_channel_of_zeros",
            edit("scale[scale == 0] = 1", ""),
            "A channel of zeros is divided by its scale of zero, and becomes NaN.",
            "By what can zeros be divided so that they stay zeros?",
        ),
        Wrong(
            "sign_forgotten",
            edit("2 ** (bits - 1) - 1", "2 ** bits - 1"),
            "All the bits are spent on the size, and none is left for the sign.",
            "How far up do 8 bits reach if half of the numbers are negative?",
        ),
        Wrong(
            "one_code_too_many",
            edit("2 ** (bits - 1) - 1", "2 ** (bits - 1)"),
            "The largest weight gets a code that is one too large for these bits.",
            "The signed numbers of 8 bits run from -128 to 127: which end is the nearer one?",
        ),
        Wrong(
            "largest_weight_cut_off",
            edit("2 ** (bits - 1) - 1", "2 ** (bits - 1)", ".round()", ".round().clamp(-largest, largest - 1)"),
            "The codes have one more step below zero than above it, so a channel's largest positive weight is cut off.",
            "The scale should let the largest weight and its negative keep their values.",
        ),
        Wrong(
            "whole_range_in_steps",
            edit("2 ** (bits - 1) - 1", "(2**bits - 1) / 2"),
            "The range is split into an odd number of steps, so its two ends lie half-way between two codes.",
            "The largest weight, divided by the scale, should be a whole number.",
        ),
        Wrong(
            "always_eight_bits",
            edit("2 ** (bits - 1) - 1", "127"),
            "It always rounds to 8 bits, however many are asked for.",
            "Where does your function look at its second argument?",
        ),
        Wrong(
            "cut_towards_zero",
            edit(".round()", ".trunc()"),
            "Everything behind the point is cut off, so all weights shrink.",
            "Which code is nearest to 2.9?",
        ),
        Wrong(
            "rounded_down",
            edit(".round()", ".floor()"),
            "All codes are rounded down, so all weights drift the same way.",
            "Which code is nearest to 2.9, and which to -2.1?",
        ),
        Wrong(
            "not_rounded",
            edit(".round()", ""),
            "Nothing is rounded: the weight comes back as it was.",
            "A code is a whole number.",
        ),
        Wrong(
            "weights_rounded",
            edit("(channels / scale).round()", "channels.round() / scale"),
            "The weights are rounded before they are divided, and most weights of a network would become zero.",
            "What has to be whole: the weight, or its code?",
        ),
        Wrong(
            "codes_returned",
            edit("(codes * scale)", "codes"),
            "These are the codes, not the weights that they stand for.",
            "What does the layer compute with after the file has been read?",
        ),
        Wrong(
            "integers_returned",
            edit("(codes * scale)", "codes.int()"),
            "These are the codes as integers, not the weights that they stand for.",
            "What does the layer compute with after the file has been read?",
        ),
        Wrong(
            "divided_twice",
            edit("codes * scale", "codes / scale"),
            "The codes are divided by the scale once more on their way back to weights.",
            "Going back undoes what going there did.",
        ),
        Wrong(
            "asymmetric",
            edit(
                f"{_MOST} / largest", f"(channels.amax(dim=1, keepdim=True) - {_LOW}) / (2 ** bits - 1)",
                "(channels / scale).round()", f"((channels - {_LOW}) / scale).round()",
                "codes * scale", f"codes * scale + {_LOW}",
            ),
            "The codes count from each channel's lowest weight, so zero is no longer one of the values.",
            "What becomes of a weight that was pruned?",
        ),
        Wrong(
            "zero_point",
            zero_point,
            "The codes span each channel from its lowest to its highest weight, with a zero-point to shift them.",
            "Symmetric means that a weight and its negative get the same code but for the sign.",
        ),
        Wrong(
            "maximum_with_its_sign",
            edit(_MOST, "channels.amax(dim=1, keepdim=True)"),
            "The scale looks at the largest positive weight only, so strongly negative ones get codes that do not fit.",
            "A weight of -3 needs as much room as one of 3.",
        ),
        Wrong(
            "negative_weights_cut_off",
            edit(_MOST, "channels.amax(dim=1, keepdim=True)", *_CUT),
            "The scale looks at the largest positive weight only, so strongly negative ones are cut off.",
            "A weight of -3 needs as much room as one of 3.",
        ),
        Wrong(
            "mean_for_the_largest",
            edit(_MOST, "channels.abs().mean(dim=1, keepdim=True)"),
            "The scale follows the mean size, so weights above it get codes that do not fit.",
            "Which weight of the channel needs the largest code?",
        ),
        Wrong(
            "cut_off_at_the_mean",
            edit(_MOST, "channels.abs().mean(dim=1, keepdim=True)", *_CUT),
            "The scale follows the mean size, so every weight above it is cut off.",
            "Which weight of the channel needs the largest code?",
        ),
        Wrong(
            "deviation_for_the_largest",
            edit(_MOST, "channels.std(dim=1, keepdim=True)"),
            "The scale follows the standard deviation, so weights beyond it get codes that do not fit.",
            "Which weight of the channel needs the largest code?",
        ),
        Wrong(
            "cut_off_at_the_deviation",
            edit(_MOST, "channels.std(dim=1, keepdim=True)", *_CUT),
            "The scale follows the standard deviation, so every weight beyond it is cut off.",
            "Which weight of the channel needs the largest code?",
        ),
    ),
    properties=(
        Property(
            "A weight that was zero is zero no longer.",
            lambda output, weight, _: bool((output[weight == 0] == 0).all()),
        ),
        Property(
            "A channel has more different values than these bits can tell apart.",
            lambda output, _, bits: all(len(channel.unique()) < 2**bits for channel in output.flatten(1)),
        ),
        Property(
            "A weight moves by more than half a step of its channel.",
            lambda *probe: bool((_steps(*probe) < 0.501).all()),
        ),
    ),
)  # fmt: skip
