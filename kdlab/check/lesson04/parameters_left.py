"""What a ratio of channels leaves of the parameters."""

import itertools

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import integer, pick


def parameters_left(widths, ratio, kernel=3):
    thin = [widths[0], *(int(width * (1 - ratio)) for width in widths[1:])]
    before = sum(a * b for a, b in itertools.pairwise(widths))
    after = sum(a * b for a, b in itertools.pairwise(thin))
    return before * kernel**2, after * kernel**2


def probes(generator):
    def some(low, high):
        return integer(generator, low, high)

    return [
        ([1, 8], 0.5, 2),
        ([2, some(3, 4) * 4, 8], 0.25, 1),
        ([1, 4, some(2, 4) * 4], 0.75),
        ([3, some(2, 4) * 2 + 1, some(2, 3) * 2 + 1], 0.5, 2),
        ([some(4, 6), 7, 13, 22], pick(generator, (0.375, 0.625)), 4),
        ([8, 16, some(9, 12) * 2 + 1], 0.0, 5),
        ([1, 16, 32, 32, 64, some(5, 8) * 8], 0.25),
        ([3, 64, 128, some(100, 120) * 2 + 1, 512], 0.875, 3),
    ]


EXERCISE = Exercise(
    reference=parameters_left,
    probes=probes,
    names=("before", "after"),
    points=2,
    parts=(Part("before", 0.5, (0,)), Part("after", 1.5, (1,))),
    bank=(
        Wrong(
            "outputs_only",
            edit("itertools.pairwise(thin)", "zip(widths, thin[1:], strict=False)"),
            "Each layer loses outputs and still reads all of its old inputs.",
            "Who makes the inputs of the second layer?",
        ),
        Wrong(
            "inputs_only",
            edit("itertools.pairwise(thin)", "zip(thin, widths[1:], strict=False)"),
            "Each layer loses inputs and still makes all of its outputs.",
            "A channel disappears where it is read and where it is made.",
        ),
        Wrong(
            "picture_thinned",
            edit("thin = [widths[0], *(int(width * (1 - ratio)) for width in widths[1:])]",
                 "thin = [int(width * (1 - ratio)) for width in widths]"),
            "The channels of the picture are thinned too.",
            "Nobody makes the first channels but the camera: which number must stay?",
        ),
        Wrong(
            "ratio_kept",
            edit("(1 - ratio)", "ratio"),
            "The ratio is taken for what stays.",
            "The ratio says which part is removed.",
        ),
        Wrong(
            "formula_on_the_total",
            edit("after = sum(a * b for a, b in itertools.pairwise(thin))", "after = int(before * (1 - ratio) ** 2)"),
            "The formula is applied to the total.",
            "One layer keeps its inputs, and channels come in whole numbers: count layer by layer.",
        ),
        Wrong(
            "ratio_of_the_total",
            edit("after = sum(a * b for a, b in itertools.pairwise(thin))", "after = int(before * (1 - ratio))"),
            "The parameters fall like the channels.",
            "A layer between two thinned neighbours loses on both sides.",
        ),
        Wrong(
            "kernel_not_squared",
            edit("before * kernel**2, after * kernel**2", "before * kernel, after * kernel"),
            "The kernel counts along one side only.",
            "How many numbers has a square of that side?",
        ),
        Wrong(
            "kernel_ignored",
            edit("before * kernel**2, after * kernel**2", "before, after"),
            "The kernel is missing.",
            "Each pair of channels has a small square of numbers of its own.",
        ),
        Wrong(
            "rounded_up",
            edit("int(width * (1 - ratio))", "width - int(width * ratio)"),
            "The channels that are left are rounded up.",
            "Take 7 channels and a half: how many stay, rounded down?",
        ),
        Wrong(
            "not_rounded",
            edit("int(width * (1 - ratio))", "width * (1 - ratio)"),
            "There are fractions of channels.",
            "A channel is there or it is not: round down what is left.",
        ),
        Wrong(
            "biases_counted",
            edit("before * kernel**2, after * kernel**2",
                 "before * kernel**2 + sum(widths[1:]), after * kernel**2 + sum(thin[1:])"),
            "Biases are counted.",
            "The exercise asks for the weights of convolutions without a bias.",
        ),
        Wrong(
            "removed_instead",
            edit("before * kernel**2, after * kernel**2", "before * kernel**2, (before - after) * kernel**2"),
            "The second number is what went.",
            "What is asked for is what stays.",
        ),
        Wrong(
            "swapped",
            edit("return before * kernel**2, after * kernel**2", "return after * kernel**2, before * kernel**2"),
            "The two numbers are swapped.",
            "Which of them is to come first?",
        ),
        Wrong(
            "first_layer_left_out",
            edit("pairwise(widths)", "pairwise(widths[1:])", "pairwise(thin)", "pairwise(thin[1:])"),
            "The first layer is missing.",
            "The layer that reads the picture has weights as well.",
        ),
    ),
    properties=(
        Property("Both have to be whole numbers.", lambda output, *_: all(float(n).is_integer() for n in output)),
        Property("Removing channels cannot add parameters.", lambda output, *_: 0 <= output[1] <= output[0]),
    ),
)  # fmt: skip
