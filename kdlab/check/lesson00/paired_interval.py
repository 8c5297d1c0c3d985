"""The interval of a paired difference."""

import math

import numpy as np
from scipy import stats

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import numbers


def paired_interval(a, b, confidence=0.95):
    difference = np.asarray(a) - np.asarray(b)
    n = len(difference)
    mean = difference.mean()
    error = difference.std(ddof=1) / math.sqrt(n)
    half = error * stats.t.ppf((1 + confidence) / 2, n - 1)
    return mean, mean - half, mean + half


def probes(generator):
    def pairs(n):
        level = numbers(generator, n, scale=5.0)
        a, b = level + numbers(generator, n), level + numbers(generator, n) - 3
        return [round(x, 1) for x in a.tolist()], [round(x, 1) for x in b.tolist()]

    def arrays(n):
        return tuple(np.array(values) for values in pairs(n))

    return [
        (*pairs(2),),
        (*pairs(3),),
        (*arrays(3), 0.9),
        (*arrays(4), 0.5),
        (*pairs(5), 0.99),
        (*arrays(5),),
        (*arrays(7), 0.8),
        (*pairs(4), 0.68),
        (*arrays(20),),
    ]


def unpaired(a, b, confidence=0.95):
    a, b = np.asarray(a), np.asarray(b)
    n, va, vb = len(a), a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    freedom = (va + vb) ** 2 / (va**2 / (n - 1) + vb**2 / (n - 1))
    mean, half = a.mean() - b.mean(), math.sqrt(va + vb) * stats.t.ppf((1 + confidence) / 2, freedom)
    return mean, mean - half, mean + half


def unpaired_with_pooled_variance(a, b, confidence=0.95):
    a, b = np.asarray(a), np.asarray(b)
    error = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))
    mean, half = a.mean() - b.mean(), error * stats.t.ppf((1 + confidence) / 2, 2 * len(a) - 2)
    return mean, mean - half, mean + half


def standard_deviations_subtracted(a, b, confidence=0.95):
    a, b = np.asarray(a), np.asarray(b)
    error = abs(a.std(ddof=1) - b.std(ddof=1)) / math.sqrt(len(a))
    mean, half = a.mean() - b.mean(), error * stats.t.ppf((1 + confidence) / 2, len(a) - 1)
    return mean, mean - half, mean + half


def quantiles_of_the_differences(a, b, confidence=0.95):
    difference = np.asarray(a) - np.asarray(b)
    low, high = np.quantile(difference, [(1 - confidence) / 2, (1 + confidence) / 2])
    return difference.mean(), low, high


def rounded(a, b, confidence=0.95):
    return tuple(round(float(number), 2) for number in paired_interval(a, b, confidence))


EXERCISE = Exercise(
    reference=paired_interval,
    probes=probes,
    names=("mean difference", "low end", "high end"),
    points=3,
    parts=(Part("mean difference", 1, (0,)), Part("interval", 2, (1, 2))),
    bank=(
        Wrong(
            "unpaired",
            unpaired,
            "The two groups are treated as independent: the pairing by seed is thrown away.",
            "What varies from seed to seed in both runs alike cancels, if you look at one number per seed.",
        ),
        Wrong(
            "unpaired_with_pooled_variance",
            unpaired_with_pooled_variance,
            "This is the two-sample interval with a pooled variance: the pairing by seed is thrown away.",
            "What varies from seed to seed in both runs alike cancels, if you look at one number per seed.",
        ),
        Wrong(
            "variances_added",
            edit("difference.std(ddof=1)", "math.sqrt(np.var(a, ddof=1) + np.var(b, ddof=1))"),
            "The variances of the two groups are added, as if they were independent: the pairing by seed is lost.",
            "What varies from seed to seed in both runs alike cancels, if you look at one number per seed.",
        ),
        Wrong(
            "normal_quantile",
            edit("stats.t.ppf((1 + confidence) / 2, n - 1)", "stats.norm.ppf((1 + confidence) / 2)"),
            "The quantile is that of the normal distribution, so the interval is too narrow for few seeds.",
            "The spread is estimated from the same few seeds; Student's distribution accounts for that.",
        ),
        Wrong(
            "fixed_quantile",
            edit("stats.t.ppf((1 + confidence) / 2, n - 1)", "1.96"),
            "1.96 holds for a known spread and 95 % only.",
            "Neither the confidence nor the number of seeds enters.",
        ),
        Wrong(
            "divided_by_n",
            edit("ddof=1", "ddof=0"),
            "The standard deviation is divided by n, which makes it too small for few seeds.",
            "NumPy's default is not the estimate from a sample: look at the argument ddof.",
        ),
        Wrong(
            "no_square_root",
            edit("math.sqrt(n)", "n"),
            "The standard deviation is divided by n where the square root belongs.",
            "Four times as many seeds halve the interval.",
        ),
        Wrong(
            "root_of_one_less",
            edit("math.sqrt(n)", "math.sqrt(n - 1)"),
            "The standard deviation is divided by the root of n - 1, which makes the interval too wide.",
            "The estimated mean has cost something already: where was it paid?",
        ),
        Wrong(
            "spread_of_single_runs",
            edit(" / math.sqrt(n)", ""),
            "This is where a single difference falls, not where their mean is.",
            "The mean of many seeds is known better than one of them: the number of seeds is missing.",
        ),
        Wrong(
            "one_sided",
            edit("(1 + confidence) / 2", "confidence"),
            "The quantile is one-sided, so the interval misses more often than it says.",
            "At 95 % each side leaves out 2.5 %.",
        ),
        Wrong(
            "half_the_confidence_left_out",
            edit("(1 + confidence) / 2", "1 - confidence / 2"),
            "The confidence is taken for what may be missed, so the interval narrows as it rises.",
            "At 95 % each side leaves out 2.5 %.",
        ),
        Wrong(
            "probability_for_quantile",
            edit("stats.t.ppf", "stats.t.cdf"),
            "cdf() stands where its inverse belongs: it turns a quantile into a probability.",
            "You know the probability and look for the place; which method of stats.t goes that way?",
        ),
        Wrong(
            "density_for_quantile",
            edit("stats.t.ppf", "stats.t.pdf"),
            "pdf() stands where a quantile belongs: it is the height of the curve.",
            "You know the probability and look for the place; which method of stats.t goes that way?",
        ),
        Wrong(
            "degrees_of_freedom",
            edit(", n - 1)", ", n)"),
            "The degrees of freedom are off by one.",
            "The mean has been estimated from the same differences, and that costs something.",
        ),
        Wrong(
            "degrees_of_two_groups",
            edit(", n - 1)", ", 2 * n - 2)"),
            "These are the degrees of freedom of two separate groups.",
            "After pairing, how many numbers are left?",
        ),
        Wrong(
            "confidence_ignored",
            edit("(1 + confidence) / 2", "0.975"),
            "The confidence has no effect: it is 95 % always.",
            "An interval at 99 % has to be wider than one at 90 %.",
        ),
        Wrong(
            "b_minus_a",
            edit("np.asarray(a) - np.asarray(b)", "np.asarray(b) - np.asarray(a)"),
            "The difference is taken the wrong way round.",
            "A positive number has to mean that a is the larger one.",
        ),
        Wrong(
            "absolute_differences",
            edit("np.asarray(a) - np.asarray(b)", "np.abs(np.asarray(a) - np.asarray(b))"),
            "Absolute differences forget which of the two was better.",
            "A seed on which b wins has to pull the mean down.",
        ),
        Wrong(
            "median",
            edit("difference.mean()", "np.median(difference)"),
            "This is the median difference.",
            "Student's interval is one of the mean.",
        ),
        Wrong(
            "half_width",
            edit("mean - half, mean + half", "half, half"),
            "The half-width is returned in place of the two ends.",
            "The ends lie on either side of the mean.",
        ),
        Wrong(
            "distances",
            edit("mean - half, mean + half", "-half, half"),
            "The ends are given relative to the mean.",
            "A reader wants to see at once whether zero is inside: give the ends themselves.",
        ),
        Wrong(
            "twice_as_wide",
            edit("half = error", "half = 2 * error"),
            "The interval is twice as wide as it should be.",
            "One quantile of Student's distribution covers each side.",
        ),
        Wrong(
            "variance",
            edit("difference.std(ddof=1)", "difference.var(ddof=1)"),
            "The variance stands where the standard deviation belongs.",
            "The interval has the unit of the measurement, not its square.",
        ),
        Wrong(
            "swapped_ends",
            edit("mean - half, mean + half", "mean + half, mean - half"),
            "The two ends are swapped.",
            "The low end comes first. Print your quantile, too: which sign does it have?",
        ),
        Wrong(
            "standard_deviations_subtracted",
            standard_deviations_subtracted,
            "The spread of the difference is not the difference of the spreads.",
            "Subtract first, seed by seed, and look at the spread of what you get.",
        ),
        Wrong(
            "quantiles_of_the_differences",
            quantiles_of_the_differences,
            "These are the quantiles of the single differences, not an interval for their mean.",
            "How well the mean is known depends on the number of seeds.",
        ),
        Wrong(
            "rounded",
            rounded,
            "The numbers are rounded to two digits.",
            "Round when you print; whoever computes with the result needs all of it.",
        ),
        Wrong(
            "relative",
            edit("np.asarray(a) - np.asarray(b)", "(np.asarray(a) - np.asarray(b)) / np.asarray(b)"),
            "The differences are taken relative to b.",
            "The interval is asked for in the unit of the measurement.",
        ),
    ),
    properties=(
        Property("The low end has to lie below the high end.", lambda output, *_: output[1] <= output[2]),
        Property(
            "The mean difference has to lie inside its interval.",
            lambda output, *_: output[1] <= output[0] <= output[2],
        ),
    ),
)
