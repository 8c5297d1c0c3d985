"""The widths of a dense student from what pruning has left of its teacher."""

from kdlab.check.core import Exercise, Property, Remark, Wrong, edit
from kdlab.check.probing import integer, pick


def student_widths(remaining, inputs, kernel):
    widths, before = [], inputs
    for count in remaining:
        before = max(1, round(count / (kernel**2 * before)))
        widths.append(before)
    return widths


def probes(generator):
    def case(inputs, kernel, *quotients):
        """Numbers of weights that lead to these quotients or nearly so: never halfway between two whole numbers."""
        remaining, before = [], inputs
        for quotient in quotients:
            dense = kernel**2 * before
            count = max(1, round(quotient * dense)) if dense > 2 else round(quotient) * dense
            remaining.append(count)
            before = max(1, round(count / dense))
        return remaining, inputs, kernel

    def some(low, high):
        """Above or below a whole number, by a third."""
        return integer(generator, low, high) + pick(generator, (-0.3, 0.3))

    def whole(low, high):
        return integer(generator, low, high)

    return [
        case(1, 2, whole(3, 5)),
        case(1, 3, whole(3, 5), whole(6, 8)),
        case(3, 1, whole(4, 6) + 0.3),
        case(3, 1, whole(4, 6) - 0.3),
        case(3, 1, whole(3, 4), 0.3),
        case(3, 2, whole(2, 4) + 0.3, some(5, 7), 0.3),
        case(1, 3, whole(2, 3) - 0.3, some(3, 5), some(8, 9)),
        case(3, 3, whole(7, 9) + 0.3, some(11, 15), some(19, 23), some(19, 23)),
        case(5, 1, whole(2, 3) + 0.3, whole(3, 5) + 0.3, some(8, 9)),
        case(1, 5, some(4, 6), some(8, 10), whole(3, 5) - 0.3, some(2, 9)),
    ]


def rounded_at_the_end(remaining, inputs, kernel):
    widths, before = [], inputs
    for count in remaining:
        before = count / (kernel**2 * before)
        widths.append(max(1, round(before)))
    return widths


EXERCISE = Exercise(
    reference=student_widths,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "kernel_not_squared",
            edit("kernel**2", "kernel"),
            "The kernel counts along one side only.",
            "How many numbers has a square of that side?",
        ),
        Wrong(
            "kernel_forgotten",
            edit("kernel**2 * before", "before"),
            "The kernel is missing.",
            "Each pair of channels has a small square of numbers of its own.",
        ),
        Wrong(
            "always_the_picture",
            edit("* before", "* inputs"),
            "Every layer is taken to read the picture.",
            "The second layer reads what the first one makes: how many channels is that?",
        ),
        Wrong(
            "product_for_quotient",
            edit("(kernel**2 * before)", "kernel**2 * before"),
            "The number is multiplied by the channels that the layer reads.",
            "Look at which operators come first: what is below the fraction line, and what is beside it?",
        ),
        Wrong(
            "rounded_down",
            edit("round(count / (kernel**2 * before))", "count // (kernel**2 * before)"),
            "The widths are rounded down.",
            "Of the two whole numbers beside it, the nearer one is asked for.",
        ),
        Wrong(
            "rounded_up",
            edit("round(count / (kernel**2 * before))", "-(-count // (kernel**2 * before))"),
            "The widths are rounded up.",
            "Of the two whole numbers beside it, the nearer one is asked for.",
        ),
        Wrong(
            "not_rounded",
            edit("round(count / (kernel**2 * before))", "count / (kernel**2 * before)"),
            "There are fractions of channels.",
            "A channel is there or it is not.",
        ),
        Wrong(
            "rounded_at_the_end",
            rounded_at_the_end,
            "The chain goes on with fractions of channels: the widths are rounded only in what comes back.",
            "The next layer of the student reads whole channels.",
        ),
        Wrong(
            "no_channel_left",
            edit("max(1, round(count / (kernel**2 * before)))", "round(count / (kernel**2 * before))"),
            "A layer can end with no channel at all, and nothing would get through it.",
            "What if a layer has kept less than half a channel's weights?",
        ),
        Wrong(
            "two_channels_at_least",
            edit("max(1, ", "max(2, "),
            "Every layer gets two channels or more.",
            "How few channels can a layer have, and still pass something on?",
        ),
        Wrong(
            "as_many_in_as_out",
            edit("count / (kernel**2 * before)", "(count / kernel**2) ** 0.5"),
            "Every layer is taken to make as many channels as it reads.",
            "How many channels a layer reads is known: the layer before it says so.",
        ),
        Wrong(
            "previous_count",
            edit("widths.append(before)", "widths.append(before)\n        before = count"),
            "The layer before counts with its weights, not with its channels.",
            "What a layer reads are channels.",
        ),
        Wrong(
            "inputs_as_a_width",
            edit("return widths", "return [inputs, *widths]"),
            "The picture's channels stand in the list too.",
            "One width for each layer: the picture is not a layer.",
        ),
        Wrong(
            "last_width",
            edit("return widths", "return widths[-1]"),
            "The last width alone comes back.",
            "One width for each layer.",
        ),
        Wrong(
            "from_the_end",
            edit("in remaining", "in remaining[::-1]"),
            "The layers are gone through from the last to the first.",
            "Which layer reads the picture?",
        ),
    ),
    properties=(
        Property(
            "There has to be one width for each layer.", lambda widths, remaining, *_: len(widths) == len(remaining)
        ),
        Property("The widths have to be whole numbers.", lambda widths, *_: all(float(w).is_integer() for w in widths)),
        Property("Each layer needs a channel at least.", lambda widths, *_: min(widths) >= 1),
    ),
    remarks=(
        Remark(
            "Where a layer in the middle keeps less than half a channel, the next goes wrong: it still reads one.",
            (([36, 1, 18], 1, 3), ([3, 1, 1, 5], 1, 1)),
        ),
    ),
)
