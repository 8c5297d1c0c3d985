"""Orders of pruning and distillation in a table: same budget, same seeds."""

import statistics

import torch

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.probing import integer, shuffled

_ORDERS = ("train → prune", "prune → distil", "distil → prune", "two-pronged", "train only")
_SHOWN = 12


def order_table(runs, baseline):
    examples = {run["order"]: run["examples"] for run in runs}
    accuracy = {(run["order"], run["seed"]): run["accuracy"] for run in runs}
    table = {}
    for order, count in examples.items():
        if count == examples[baseline]:
            both = [seed for one, seed in accuracy if one == order and (baseline, seed) in accuracy]
            differences = [accuracy[order, seed] - accuracy[baseline, seed] for seed in both]
            table[order] = (count, sum(differences) / len(both))
    return table


def probes(generator):
    def case(seeds, budgets, missing=(), baseline="train → prune"):
        """`budgets` in thousands, `missing` are runs that do not exist: (place of the order, place of the seed)."""
        names = [_ORDERS[place] for place in shuffled(generator, len(_ORDERS)).tolist() if _ORDERS[place] != baseline]
        names = [baseline, *names[: len(budgets) - 1]]
        numbers = (shuffled(generator, 9) + 1)[:seeds].tolist()
        percent = torch.randperm(seeds * len(names), generator=generator) * 7 + integer(generator, 400, 450)
        runs = [
            {
                "order": name,
                "seed": seed,
                "examples": 1000 * budgets[row],
                "accuracy": int(percent[row * seeds + column]) / 1000,
            }
            for row, name in enumerate(names)
            for column, seed in enumerate(numbers)
            if (row, column) not in missing
        ]
        return [runs[place] for place in shuffled(generator, len(runs)).tolist()], baseline

    few = integer(generator, 2, 9)
    return [
        case(1, [few, few]),
        case(2, [few, few]),
        case(1, [few, few, few + 1]),
        case(1, [few, few - 1, few]),
        case(2, [few, few], missing=[(1, 0)]),
        case(2, [few, few], missing=[(0, 1)]),
        case(3, [few, few, 2 * few], missing=[(1, 1)]),
        case(3, [few, few, 1, few], missing=[(0, 2), (3, 1)], baseline="prune → distil"),
        case(4, [few, few, few, 1, few + 3], missing=[(1, 0), (2, 1), (0, 3)], baseline="two-pronged"),
        case(5, [few, 1, few, few + 1, few], missing=[(2, 0), (2, 4), (4, 1), (0, 2)]),
    ]


def show(runs, baseline):
    lines = [f"{run['order']}, seed {run['seed']}: {run['examples']:,} examples, {run['accuracy']}" for run in runs]
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return {"runs": "; ".join([*lines[:_SHOWN], *more]), "baseline": baseline}


def paired_by_position(runs, baseline):
    by_order = {}
    for run in runs:
        by_order.setdefault(run["order"], []).append(run)
    table, base = {}, by_order[baseline]
    for order, own in by_order.items():
        if own[0]["examples"] == base[0]["examples"]:
            pairs = zip(own, base, strict=False)
            table[order] = (own[0]["examples"], statistics.mean(a["accuracy"] - b["accuracy"] for a, b in pairs))
    return table


def difference_of_means(runs, baseline):
    by_order = {}
    for run in runs:
        by_order.setdefault(run["order"], []).append(run)
    means = {order: statistics.mean(run["accuracy"] for run in own) for order, own in by_order.items()}
    budget = by_order[baseline][0]["examples"]
    return {
        order: (budget, means[order] - means[baseline])
        for order, own in by_order.items()
        if own[0]["examples"] == budget
    }


def difference_of_the_best(runs, baseline):
    best, examples = {}, {}
    for run in runs:
        best[run["order"]] = max(best.get(run["order"], 0), run["accuracy"])
        examples[run["order"]] = run["examples"]
    budget = examples[baseline]
    return {o: (budget, best[o] - best[baseline]) for o in best if examples[o] == budget}


def all_examples(runs, baseline):
    table = order_table(runs, baseline)
    return {
        order: (sum(run["examples"] for run in runs if run["order"] == order), mean)
        for order, (_, mean) in table.items()
    }


EXERCISE = Exercise(
    reference=order_table,
    probes=probes,
    show=show,
    points=2,
    bank=(
        Wrong(
            "every_budget",
            edit("if count == examples[baseline]:", "if True:"),
            "Orders that trained on another number of examples stand in the table.",
            "What would a difference in accuracy say, if one of the two had trained for longer?",
        ),
        Wrong(
            "cheaper_ones_too",
            edit("count == examples", "count <= examples"),
            "Orders that trained on fewer examples stand in the table.",
            "An unfair comparison is unfair in both directions.",
        ),
        Wrong(
            "dearer_ones_too",
            edit("count == examples", "count >= examples"),
            "Orders that trained on more examples stand in the table.",
            "What would a difference in accuracy say, if one of the two had trained for longer?",
        ),
        Wrong(
            "difference_of_means",
            difference_of_means,
            "It subtracts the means over all runs, so that a seed counts which only one of the two has.",
            "A seed is a pair of runs: what if one of them is missing?",
        ),
        Wrong(
            "paired_by_position",
            paired_by_position,
            "Runs are paired by their place in the list.",
            "The list is in no order: what do the two runs of a pair have in common?",
        ),
        Wrong(
            "sign_swapped",
            edit("accuracy[order, seed] - accuracy[baseline, seed]",
                 "accuracy[baseline, seed] - accuracy[order, seed]"),
            "The sign is wrong: an order that beats the baseline comes out negative.",
            "From which of the two is the other subtracted?",
        ),
        Wrong(
            "baseline_left_out",
            edit("if count == examples[baseline]:", "if count == examples[baseline] and order != baseline:"),
            "The baseline is missing in the table.",
            "The baseline is an order too: by how much does it differ from itself?",
        ),
        Wrong(
            "sum_for_mean",
            edit("sum(differences) / len(both)", "sum(differences)"),
            "The differences are summed, so that an order with more seeds gets more.",
            "Run everything with twice as many seeds: should the number double?",
        ),
        Wrong(
            "all_seeds_in_the_denominator",
            edit("/ len(both)", '/ len({run["seed"] for run in runs})'),
            "The sum is divided by the number of all seeds, also where a pair is missing.",
            "How many differences were summed?",
        ),
        Wrong(
            "best_pair",
            edit("sum(differences) / len(both)", "max(differences)"),
            "Only the seed with the largest difference counts.",
            "A lucky seed can be found for every order.",
        ),
        Wrong(
            "worst_pair",
            edit("sum(differences) / len(both)", "min(differences)"),
            "Only the seed with the smallest difference counts.",
            "Every pair says as much as any other.",
        ),
        Wrong(
            "first_pair",
            edit("sum(differences) / len(both)", "differences[0]"),
            "Only the first pair counts.",
            "Every pair says as much as any other.",
        ),
        Wrong(
            "difference_of_the_best",
            difference_of_the_best,
            "It compares the best run of one order with the best run of the other.",
            "A lucky seed can be found for every order.",
        ),
        Wrong(
            "without_sign",
            edit("accuracy[order, seed] - accuracy[baseline, seed]",
                 "abs(accuracy[order, seed] - accuracy[baseline, seed])"),
            "The differences have lost their signs.",
            "Is the order better than the baseline, or worse?",
        ),
        Wrong(
            "accuracy_for_difference",
            edit("accuracy[order, seed] - accuracy[baseline, seed]", "accuracy[order, seed]"),
            "The accuracy itself stands in the table.",
            "How good an order is, is asked in comparison.",
        ),
        Wrong(
            "missing_run_is_zero",
            edit("if one == order and (baseline, seed) in accuracy", "if one == order",
                 "- accuracy[baseline, seed]", "- accuracy.get((baseline, seed), 0)"),
            "Where the baseline has no run, its accuracy counts as zero.",
            "A run that does not exist says nothing: which seeds can be used?",
        ),
        Wrong(
            "all_examples",
            all_examples,
            "The examples of all seeds are added up.",
            "The budget is that of one run.",
        ),
        Wrong(
            "examples_left_out",
            edit("(count, sum(differences) / len(both))", "sum(differences) / len(both)"),
            "The number of training examples is missing.",
            "Two numbers are wanted for each order.",
        ),
        Wrong(
            "turned_round",
            edit("(count, sum(differences) / len(both))", "(sum(differences) / len(both), count)"),
            "The two numbers of each order have changed places.",
            "Which of them is to come first?",
        ),
        Wrong(
            "number_of_pairs",
            edit("(count, sum", "(len(both), sum"),
            "The first number is how many pairs there are.",
            "The number of training examples is wanted.",
        ),
    ),
    properties=(
        Property("The baseline belongs in the table.", lambda table, runs, baseline: baseline in table),
        Property(
            "The baseline does not differ from itself.",
            lambda table, runs, baseline: abs(float(table[baseline][1])) < 1e-6,
        ),
        Property(
            "An order with another budget stands in the table.",
            lambda table, runs, baseline: (
                {run["examples"] for run in runs if run["order"] in table}
                == {run["examples"] for run in runs if run["order"] == baseline}
            ),
        ),
    ),
)  # fmt: skip
