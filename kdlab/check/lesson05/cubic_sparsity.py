"""The cubic schedule."""

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integer


def cubic_sparsity(step, first, last, target, initial=0.0):
    progress = min(1, max(0, (step - first) / (last - first)))
    return target + (initial - target) * (1 - progress) ** 3


def probes(generator):
    def case(first, span, step, *initial):
        """A step counted from the first pruning, and a target above the initial sparsity."""
        return first + step, first, first + span, integer(generator, 50, 98) / 100, *initial

    def inside(span):
        return integer(generator, span // 5, 4 * span // 5)

    return [
        case(0, 10, 5),
        case(0, 10, 4, 0.2),
        case(0, 10, 0, 0.1),
        case(0, 10, 10, 0.1),
        case(20, 40, inside(40)),
        case(20, 40, inside(40), 0.3),
        case(10, 10, -7, 0.1),
        case(10, 10, -2),
        case(10, 10, 3, 0.4),
        case(10, 10, 12, 0.1),
        case(10, 10, 25),
        case(100, 800, inside(800), 0.4),
        case(100, 800, inside(800)),
    ]


def the_same_share_each_time(step, first, last, target, initial=0.0):
    progress = min(1, max(0, (step - first) / (last - first)))
    return 1 - (1 - initial) * ((1 - target) / (1 - initial)) ** progress


def all_at_the_end(step, first, last, target, initial=0.0):
    return target if step >= last else initial


def all_at_the_start(step, first, last, target, initial=0.0):
    return target if step >= first else initial


EXERCISE = Exercise(
    reference=cubic_sparsity,
    probes=probes,
    points=2,
    bank=(
        Wrong(
            "goes_on_after_the_end",
            edit("min(1, max(0, (step - first) / (last - first)))", "max(0, (step - first) / (last - first))"),
            "After the last pruning the sparsity goes on rising.",
            "The schedule has an end: from there on the network is only trained.",
        ),
        Wrong(
            "starts_before_the_start",
            edit("min(1, max(0, (step - first) / (last - first)))", "min(1, (step - first) / (last - first))"),
            "Before the first pruning the sparsity is not yet what it begins with.",
            "Which progress should a step have that lies before the first pruning?",
        ),
        Wrong(
            "never_clamped",
            edit("min(1, max(0, (step - first) / (last - first)))", "(step - first) / (last - first)"),
            "The formula is used outside of the span between the first and the last pruning, too.",
            "Keep the progress between zero and one, whatever the step.",
        ),
        Wrong(
            "linear",
            edit(" ** 3", ""),
            "The sparsity rises along a straight line.",
            "The formula has a power in it: it makes the beginning fast and the end slow.",
        ),
        Wrong(
            "quadratic",
            edit("** 3", "** 2"),
            "The sparsity rises along a parabola.",
            "The schedule's name says which power it has.",
        ),
        Wrong(
            "slow_start",
            edit("(1 - progress) ** 3", "(1 - progress**3)"),
            "The sparsity rises slowly at first and fast in the end: the wrong way round.",
            "What is raised to the third power is what is still to come, not what has passed.",
        ),
        Wrong(
            "power_of_progress",
            edit("(1 - progress) ** 3", "progress**3"),
            "The sparsity falls from its final value to the initial one.",
            "At the first step the whole difference has to be there, at the last none of it.",
        ),
        Wrong(
            "initial_and_target_swapped",
            edit("target + (initial - target)", "initial + (target - initial)"),
            "The roles of the initial and the final sparsity are swapped.",
            "Put in the last step: which of the two should be left?",
        ),
        Wrong(
            "initial_ignored",
            edit("(initial - target)", "(0 - target)"),
            "The initial sparsity has no effect.",
            "Some networks are sparse before the schedule begins.",
        ),
        Wrong(
            "sign",
            edit("(initial - target)", "(target - initial)"),
            "The sparsity starts above its target and comes down.",
            "At the first step the sum has to give the initial sparsity: check the sign of the difference.",
        ),
        Wrong(
            "first_ignored",
            edit("(step - first)", "step"),
            "Progress is counted from step 0, not from the first pruning.",
            "At the first pruning the progress is zero.",
        ),
        Wrong(
            "span_up_to_last",
            edit("(last - first)", "last"),
            "The span is taken to be as long as all the steps before the end.",
            "How many steps lie between the first and the last pruning?",
        ),
        Wrong(
            "density",
            edit(
                "return target + (initial - target) * (1 - progress) ** 3",
                "return 1 - (target + (initial - target) * (1 - progress) ** 3)",
            ),
            "This is the fraction of weights that live.",
            "Sparsity counts the zeros.",
        ),
        Wrong(
            "the_same_share_each_time",
            the_same_share_each_time,
            "Every step removes the same share of what is left: that is iterative pruning.",
            "The cubic schedule is a polynomial of the progress.",
        ),
        Wrong(
            "all_at_the_end",
            all_at_the_end,
            "Everything is pruned at the last step, at once.",
            "There are steps in between: what is the sparsity half-way?",
        ),
        Wrong(
            "all_at_the_start",
            all_at_the_start,
            "Everything is pruned at the first step: that is one-shot pruning.",
            "There are steps in between: what is the sparsity half-way?",
        ),
    ),
    properties=(
        Property(
            "A sparsity lies between the initial and the final one.",
            lambda output, step, first, last, target, initial=0.0: initial - 1e-6 <= float(output) <= target + 1e-6,
        ),
    ),
)
