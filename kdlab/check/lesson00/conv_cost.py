"""Parameters and multiply-accumulates of a convolution."""

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import integer, pick


def conv_cost(in_channels, out_channels, kernel, height, width, stride=1, padding=0, groups=1, bias=True):
    out_height = (height + 2 * padding - kernel) // stride + 1
    out_width = (width + 2 * padding - kernel) // stride + 1
    weights = out_channels * (in_channels // groups) * kernel * kernel
    parameters = weights + (out_channels if bias else 0)
    macs = weights * out_height * out_width
    return parameters, macs


def probes(generator):
    def some(low, high):
        return integer(generator, low, high)

    groups = some(2, 3)
    return [
        (1, some(2, 4), 2, 5, 4),
        (3, some(4, 5), 3, some(7, 8), some(5, 6)),
        (2, 3, 1, some(4, 6), 3),
        (some(2, 3), 5, 3, some(8, 9), 6, 1, 1),
        (some(2, 3), 4, 2, 9, some(6, 8), 3),
        (3, some(4, 6), 3, some(10, 11), 7, 2, some(1, 2)),
        (2 * groups, 4 * groups, 3, 8, some(5, 7), 1, 1, groups),
        (6, 3, some(2, 3), 7, 6, 1, 0, 3, False),
        (4, some(5, 7), 3, 9, 8, 2, 1, 1, False),
        (8, 8, 5, some(11, 13), 14, 2, 2, 8, True),
        (5, 6, 7, 7, some(7, 9), pick(generator, (2, 3)), 3),
        (64, 128, 3, some(28, 32), 56, 2, 1, some(0, 1) * 3 + 1, False),
    ]


EXERCISE = Exercise(
    reference=conv_cost,
    probes=probes,
    names=("parameters", "MACs"),
    points=2,
    parts=(Part("parameters", 1, (0,)), Part("MACs", 1, (1,))),
    bank=(
        Wrong(
            "groups_ignored",
            edit("(in_channels // groups)", "in_channels"),
            "The groups have no effect.",
            "With groups, how many of the input channels does one filter see?",
        ),
        Wrong(
            "groups_divide_both",
            edit("out_channels * (in_channels", "out_channels // groups * (in_channels"),
            "The groups divide the input channels and the output channels.",
            "All output channels are still there; only what each of them looks at becomes less.",
        ),
        Wrong(
            "groups_multiply",
            edit("in_channels // groups", "in_channels * groups"),
            "The groups make the convolution more expensive instead of cheaper.",
            "A depthwise convolution (as many groups as channels) is the cheap one.",
        ),
        Wrong(
            "flops",
            edit("macs = weights", "macs = 2 * weights"),
            "The second number is twice the MACs: those are FLOPs.",
            "One multiplication and the addition that follows it are one MAC.",
        ),
        Wrong(
            "padding_on_one_side",
            edit("height + 2 * padding", "height + padding", "width + 2 * padding", "width + padding"),
            "The padding is added on one side only.",
            "Draw the padded image: where are the added rows and columns?",
        ),
        Wrong(
            "padding_ignored",
            edit("height + 2 * padding", "height", "width + 2 * padding", "width"),
            "The padding has no effect on the output's size.",
            "With kernel 3 and padding 1 an image keeps its size.",
        ),
        Wrong(
            "stride_ignored",
            edit(
                "(height + 2 * padding - kernel) // stride",
                "height + 2 * padding - kernel",
                "(width + 2 * padding - kernel) // stride",
                "width + 2 * padding - kernel",
            ),
            "The stride has no effect on the output's size.",
            "With stride 2 the filter stops at every other place only.",
        ),
        Wrong(
            "stride_on_one_side",
            edit("(width + 2 * padding - kernel) // stride", "width + 2 * padding - kernel"),
            "The stride acts on the height only.",
            "The filter steps along both directions.",
        ),
        Wrong(
            "first_place_forgotten",
            edit(
                "(height + 2 * padding - kernel) // stride + 1",
                "(height + 2 * padding - kernel) // stride",
                "(width + 2 * padding - kernel) // stride + 1",
                "(width + 2 * padding - kernel) // stride",
            ),
            "The output is one row and one column too small.",
            "A filter as large as the image still has one place to stand: count the places, not the steps.",
        ),
        Wrong(
            "rounded_up",
            edit(
                "(height + 2 * padding - kernel) // stride",
                "-((height + 2 * padding - kernel) // -stride)",
                "(width + 2 * padding - kernel) // stride",
                "-((width + 2 * padding - kernel) // -stride)",
            ),
            "The output's size is rounded up where the stride does not divide.",
            "A last step that would leave the image is not taken.",
        ),
        Wrong(
            "one_before_the_division",
            edit(
                "(height + 2 * padding - kernel) // stride + 1",
                "(height + 2 * padding - kernel + 1) // stride",
                "(width + 2 * padding - kernel) // stride + 1",
                "(width + 2 * padding - kernel + 1) // stride",
            ),
            "The one for the first place is divided by the stride, too.",
            "Where the stride is larger than the image, there is still one place for the filter.",
        ),
        Wrong(
            "rounded_to_the_nearest",
            edit(
                "(height + 2 * padding - kernel) // stride",
                "round((height + 2 * padding - kernel) / stride)",
                "(width + 2 * padding - kernel) // stride",
                "round((width + 2 * padding - kernel) / stride)",
            ),
            "The output's size is rounded to the nearest whole number where the stride does not divide.",
            "A last step that would leave the image is not taken, however little it sticks out.",
        ),
        Wrong(
            "not_rounded",
            edit(
                "- kernel) // stride + 1\n    out_width",
                "- kernel) / stride + 1\n    out_width",
                "(width + 2 * padding - kernel) // stride",
                "(width + 2 * padding - kernel) / stride",
            ),
            "The output's size is not a whole number where the stride does not divide.",
            "A last step that would leave the image is not taken.",
        ),
        Wrong(
            "size_of_the_input",
            edit("weights * out_height * out_width", "weights * height * width"),
            "The MACs are counted over the input's pixels.",
            "The filter is applied once for each pixel of what comes out.",
        ),
        Wrong(
            "square_images",
            edit("(width + 2 * padding", "(height + 2 * padding"),
            "The width is never used: this holds for square images only.",
            "Try an image that is wider than it is high.",
        ),
        Wrong(
            "kernel_not_squared",
            edit("kernel * kernel", "kernel"),
            "The kernel counts along one direction only.",
            "How many weights does a 3 by 3 filter have on a single channel?",
        ),
        Wrong(
            "input_channels_forgotten",
            edit("(in_channels // groups) * ", ""),
            "The input channels are missing from the weights.",
            "A filter spans all the channels of its group, not a single one.",
        ),
        Wrong(
            "output_channels_forgotten",
            edit("weights = out_channels * ", "weights = "),
            "These are the weights of a single filter.",
            "There is one filter for each output channel.",
        ),
        Wrong(
            "bias_always",
            edit("(out_channels if bias else 0)", "out_channels"),
            "The bias is counted even where there is none.",
            "Look at the last argument.",
        ),
        Wrong(
            "bias_never",
            edit(" + (out_channels if bias else 0)", ""),
            "The bias is missing from the parameters.",
            "Look at the last argument.",
        ),
        Wrong(
            "bias_counted_once",
            edit("(out_channels if bias else 0)", "(1 if bias else 0)"),
            "The whole layer gets a single bias.",
            "What does nn.Conv2d(3, 8, 3).bias.shape say?",
        ),
        Wrong(
            "one_added_always",
            edit("(out_channels if bias else 0)", "1"),
            "A single bias is added for the whole layer, and even where there is none.",
            "Each filter has a bias of its own, if the last argument wants any: where does it go among your brackets?",
        ),
        Wrong(
            "bias_of_the_input",
            edit("out_channels if bias", "in_channels if bias"),
            "There is a bias for each input channel.",
            "What does nn.Conv2d(3, 8, 3).bias.shape say?",
        ),
        Wrong(
            "bias_in_the_macs",
            edit("macs = weights *", "macs = parameters *"),
            "The MACs contain the bias.",
            "By the convention of this exercise additions of the bias are not counted.",
        ),
        Wrong(
            "parameters_of_every_place",
            edit("return parameters, macs", "return macs, macs"),
            "The weights are counted again at every place of the image.",
            "A convolution uses the same weights everywhere: that is what makes it small.",
        ),
        Wrong(
            "swapped",
            edit("return parameters, macs", "return macs, parameters"),
            "The two numbers are swapped.",
            "Read again which of the two is to come first.",
        ),
    ),
    properties=(
        Property("Both have to be whole numbers.", lambda output, *_: all(float(n).is_integer() for n in output)),
        Property("Neither number can be negative.", lambda output, *_: all(n >= 0 for n in output)),
    ),
)
