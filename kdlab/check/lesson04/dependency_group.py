"""Layers whose channels can only go together."""

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import pick, shuffled


def dependency_group(convs, additions, layer):
    maps = {convs[layer][1]}
    for _ in additions:
        for addition in additions:
            if maps & set(addition):
                maps |= set(addition)
    makers = sorted(name for name, (_, made) in convs.items() if made in maps)
    readers = sorted(name for name, (read, _) in convs.items() if read in maps)
    return makers, readers


PLAIN = {"stem": ("image", "a"), "next": ("a", "b")}, []
IDENTITY = (
    {"stem": ("image", "a"), "conv1": ("a", "b"), "conv2": ("b", "c"), "head": ("d", "e")},
    [("a", "c", "d")],
)
PROJECTION = (
    {
        "stem": ("image", "a"), "conv1": ("a", "b"), "conv2": ("b", "c"), "shortcut": ("a", "d"), "head": ("e", "f"),
        "side": ("b", "g"),
    },
    [("c", "d", "e")],
)  # fmt: skip
CHAIN = (
    {
        "stem": ("image", "a"), "one.conv1": ("a", "b"), "one.conv2": ("b", "c"), "two.conv1": ("d", "e"),
        "two.conv2": ("e", "f"), "three.conv1": ("g", "h"), "three.conv2": ("h", "i"), "head": ("j", "k"),
    },
    [("i", "g", "j"), ("d", "f", "g"), ("a", "c", "d")],
)  # fmt: skip
STAGES = (
    {
        "stem": ("image", "a"), "one.conv1": ("a", "b"), "one.conv2": ("b", "c"), "two.conv1": ("d", "e"),
        "two.conv2": ("e", "f"), "two.shortcut": ("d", "g"), "three.conv1": ("h", "i"), "three.conv2": ("i", "j"),
        "head": ("l", "m"),
    },
    [("a", "c", "d"), ("j", "h", "l"), ("f", "g", "h")],
)  # fmt: skip


def probes(generator):
    def reordered(network, layer):
        convs, additions = network
        names = list(convs)
        return {names[i]: convs[names[i]] for i in shuffled(generator, len(names)).tolist()}, additions, layer

    return [
        reordered(PLAIN, "stem"),
        reordered(IDENTITY, "conv1"),
        reordered(IDENTITY, "conv2"),
        reordered(IDENTITY, "stem"),
        reordered(PROJECTION, "shortcut"),
        reordered(PROJECTION, pick(generator, ("conv2", "shortcut"))),
        reordered(PROJECTION, "stem"),
        reordered(PROJECTION, "conv1"),
        reordered(CHAIN, "stem"),
        reordered(CHAIN, "three.conv2"),
        reordered(CHAIN, pick(generator, ("one.conv2", "two.conv2"))),
        reordered(CHAIN, "two.conv1"),
        reordered(STAGES, pick(generator, ("two.conv2", "two.shortcut", "three.conv2"))),
        reordered(STAGES, "one.conv2"),
    ]


def nothing_coupled(convs, additions, layer):
    return dependency_group(convs, [], layer)


EXERCISE = Exercise(
    reference=dependency_group,
    probes=probes,
    names=("makers", "readers"),
    points=3,
    parts=(Part("makers", 2, (0,)), Part("readers", 1, (1,))),
    bank=(
        Wrong(
            "nothing_coupled",
            nothing_coupled,
            "Additions couple nothing.",
            "Draw the block: with what is the output of its last convolution added?",
        ),
        Wrong(
            "one_pass",
            edit("for _ in additions:", "for _ in additions[:1]:"),
            "The additions are gone through once, in the order given.",
            "A later addition may reach one that has been passed already: when is the search over?",
        ),
        Wrong(
            "forwards_only",
            edit("maps & set(addition)", "maps & set(addition[:2])"),
            "The group grows from the terms of an addition to its sum, not back.",
            "If the sum loses a channel, what happens to its terms?",
        ),
        Wrong(
            "sum_left_out",
            edit("maps |= set(addition)", "maps |= set(addition[:2])"),
            "The sum itself does not join the group.",
            "Who reads the sum, and how many channels does it have?",
        ),
        Wrong(
            "other_term_left_out",
            edit("maps |= set(addition)", "maps |= set(addition[2:])"),
            "The sum joins the group, the other term does not.",
            "Both terms of an addition have the same channels.",
        ),
        Wrong(
            "everything_coupled",
            edit("if maps & set(addition):", "if True:"),
            "Every addition of the network joins the group, touched or not.",
            "Which additions does the group reach at all?",
        ),
        Wrong(
            "starts_at_the_input",
            edit("convs[layer][1]", "convs[layer][0]"),
            "The search starts at what the layer reads.",
            "A layer's channels are what it makes.",
        ),
        Wrong(
            "convolutions_couple",
            edit("maps = {convs[layer][1]}", "maps = set(convs[layer])"),
            "The layer's inputs are in its group as well.",
            "A convolution mixes its inputs: each output keeps its place whatever input is missing.",
        ),
        Wrong(
            "readers_of_the_layer_only",
            edit("if read in maps", "if read == convs[layer][1]"),
            "Only layers that read this layer itself are among the readers.",
            "Whoever reads any map of the group loses an input.",
        ),
        Wrong(
            "makers_of_the_layer_only",
            edit("if made in maps", "if name == layer"),
            "The layer is its group's only maker.",
            "Whoever makes any map of the group loses an output.",
        ),
        Wrong(
            "layer_itself_left_out",
            edit("if made in maps", "if made in maps and name != layer"),
            "The layer itself is missing from its group.",
            "It loses a channel as well.",
        ),
        Wrong(
            "swapped",
            edit("return makers, readers", "return readers, makers"),
            "Makers and readers are swapped.",
            "Who makes a channel loses an output; who reads it loses an input.",
        ),
        Wrong(
            "not_sorted",
            edit("makers = sorted(", "makers = list(", "readers = sorted(", "readers = list("),
            "The names are not in alphabetical order.",
            "Python has a function for that.",
        ),
    ),
    properties=(
        Property("The layer belongs to its own group.", lambda output, convs, _, layer: layer in output[0]),
        Property("Each name counts once.", lambda output, *_: all(len(set(names)) == len(names) for names in output)),
    ),
)
