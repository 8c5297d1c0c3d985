"""Lesson 00's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import math
import statistics
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdlab import check
from kdlab.check.registry import find


def conv_cost_by_asking_torch(
    in_channels, out_channels, kernel, height, width, stride=1, padding=0, groups=1, bias=True
):
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias, device="meta")
    out = layer(torch.empty(1, in_channels, height, width, device="meta"))
    return sum(p.numel() for p in layer.parameters()), layer.weight.numel() * out[0, 0].numel()


def conv_cost_by_walking(ci, co, k, h, w, s=1, p=0, g=1, b=True):
    places = 0
    for top in range(-p, h + p - k + 1, s):
        for left in range(-p, w + p - k + 1, s):
            places += 1
            assert left + k <= w + p and top + k <= h + p
    one_filter = ci // g * k**2
    return [co * (one_filter + int(b)), co * one_filter * places]


def conv_cost_in_floats(in_channels, out_channels, kernel, height, width, stride=1, padding=0, groups=1, bias=True):
    out = [math.floor((side + 2 * padding - kernel) / stride + 1) for side in (height, width)]
    weights = in_channels / groups * out_channels * kernel**2
    return np.array([weights + bias * out_channels, weights * np.prod(out)])


def median_latency_with_numpy(run, clock, warmup=3, repeats=9):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        times = np.zeros(repeats)
        for i in range(-warmup, repeats):
            begin = clock()
            run()
            if i >= 0:
                times[i] = clock() - begin
        return np.median(times)
    finally:
        torch.set_num_threads(before)


def median_latency_by_sorting(f, now, k=3, n=9):
    @contextmanager
    def threads(count):
        old = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(old)

    def once():
        t0 = now()
        f()
        return now() - t0

    with threads(1):
        [f() for _ in range(k)]
        times = sorted(once() for _ in range(n))
    return (times[(n - 1) // 2] + times[n // 2]) / 2


def median_latency_with_a_chain(run, clock, warmup=3, repeats=9):
    threads, readings = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        while warmup > 0:
            run()
            warmup -= 1
        readings.append(clock())
        while len(readings) <= repeats:
            run()
            readings.append(clock())
    except BaseException:
        torch.set_num_threads(threads)
        raise
    torch.set_num_threads(threads)
    return torch.tensor(readings, dtype=torch.float64).diff().quantile(0.5)


def paired_interval_with_scipy(a, b, confidence=0.95):
    result = stats.ttest_rel(a, b)
    interval = result.confidence_interval(confidence)
    return np.mean(np.subtract(a, b)), interval.low, interval.high


def paired_interval_in_plain_python(xs, ys, level=0.95):
    differences = [x - y for x, y in zip(xs, ys, strict=True)]
    center = statistics.fmean(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    t = stats.t.isf((1 - level) / 2, len(differences) - 1)
    return center, center - t * error, center + t * error


def paired_interval_with_torch(a, b, confidence=0.95):
    difference = torch.tensor([float(x) - float(y) for x, y in zip(a, b, strict=True)])
    error = difference.std() / len(difference) ** 0.5
    low, high = stats.t(df=len(difference) - 1).interval(confidence)
    return torch.stack([difference.mean(), difference.mean() + low * error, difference.mean() + high * error])


def paired_interval_of_scipy(a, b, confidence=0.95):
    difference = np.array(a) - np.array(b)
    center = difference.mean()
    return center, *stats.t.interval(confidence, len(a) - 1, loc=center, scale=stats.sem(difference))


RIGHT = {
    "conv_cost": [conv_cost_by_asking_torch, conv_cost_by_walking, conv_cost_in_floats],
    "median_latency": [median_latency_with_numpy, median_latency_by_sorting, median_latency_with_a_chain],
    "paired_interval": [
        paired_interval_with_scipy,
        paired_interval_in_plain_python,
        paired_interval_with_torch,
        paired_interval_of_scipy,
    ],
}

_ONE_ARRAY_IS_ENOUGH = "NumPy turns the other operand into an array by itself"
_EQUALLY_MANY = "paired samples are equally many"
EQUIVALENT = {
    "conv_cost": {
        "weights = out_channels * (in_channels // groups) * kernel * kernel => "
        "weights = out_channels * (in_channels / groups) * kernel * kernel": "the same whole number, held in a float",
    },
    "paired_interval": {
        "difference = np.asarray(a) - np.asarray(b) => difference = a - np.asarray(b)": _ONE_ARRAY_IS_ENOUGH,
        "difference = np.asarray(a) - np.asarray(b) => difference = np.asarray(a) - b": _ONE_ARRAY_IS_ENOUGH,
        "n = len(difference) => n = len(a)": _EQUALLY_MANY,
        "n = len(difference) => n = len(b)": _EQUALLY_MANY,
    },
}


@pytest.mark.parametrize("seed", range(5))
def test_conv_cost_agrees_with_torch_and_its_flop_counter(seed):
    exercise = find("conv_cost")
    for probe in exercise.cases(seed):
        call = exercise.signature.bind(*probe)
        call.apply_defaults()
        c_in, c_out, kernel, height, width, stride, padding, groups, bias = call.args
        layer = nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups, bias=bias, device="meta")
        with FlopCounterMode(display=False) as counter:
            layer(torch.empty(1, c_in, height, width, device="meta"))
        parameters, macs = exercise.reference(*probe)
        assert parameters == sum(p.numel() for p in layer.parameters())
        assert macs == counter.get_total_flops() / 2


@pytest.mark.parametrize("seed", range(5))
def test_paired_interval_agrees_with_scipy(seed):
    exercise = find("paired_interval")
    for a, b, *confidence in exercise.cases(seed):
        mean, low, high = exercise.reference(a, b, *confidence)
        oracle = stats.ttest_rel(a, b).confidence_interval(*confidence or [0.95])
        assert mean == pytest.approx(np.mean(a) - np.mean(b))
        assert (low, high) == pytest.approx((oracle.low, oracle.high), nan_ok=True)


def test_median_latency_of_a_real_call_is_about_right():
    import time

    median = find("median_latency").reference(lambda: time.sleep(0.002), time.perf_counter, warmup=1, repeats=3)
    assert 0.002 <= median < 1


def test_mistakes_in_one_of_two_numbers_are_named_where_the_other_is_a_riddle():
    def conv_cost(in_channels, out_channels, kernel, height, width, stride=1, padding=0, groups=1, bias=True):
        parameters = (in_channels * kernel**2 + 1) * out_channels
        out = [(side - kernel + 2 * padding) // stride + 1 for side in (height, width)]
        return parameters, parameters * out[0] * out[1]

    outcome = check.conv_cost(conv_cost)
    assert outcome.mistakes == ("groups_ignored", "bias_always")


def test_a_latency_that_ignores_the_clock_is_told_so():
    def median_latency(run, clock, warmup=3, repeats=9):
        for _ in range(warmup + repeats):
            run()
        return 0.5

    assert "clock() is never called" in check.median_latency(median_latency).says


def latency(ending, use=lambda run: run(), difference=lambda begin, end: end - begin):
    """A right median_latency but for what is handed in."""

    def median_latency(run, clock, warmup=3, repeats=9):
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for _ in range(warmup):
                use(run)
            seconds = []
            for _ in range(repeats):
                begin = clock()
                use(run)
                seconds.append(difference(begin, clock()))
            return ending(seconds)
        finally:
            torch.set_num_threads(before)

    return median_latency


def test_a_latency_that_is_never_returned_is_told_so_although_run_may_raise():
    forgotten = check.median_latency(latency(lambda seconds: None))
    assert forgotten.kind == "nothing"
    assert forgotten.says == "It returns None: a return is missing."
    assert "prints its result" in check.median_latency(latency(lambda seconds: print(statistics.median(seconds)))).says
    half = check.median_latency(latency(lambda seconds: None if len(seconds) > 4 else statistics.median(seconds)))
    assert "and a value for others" in half.says


def test_likely_mistakes_of_a_latency_are_named():
    def two_middles(s):
        s, n = sorted(s), len(s)
        return (s[n // 2 - 1] + s[n // 2]) / 2

    median = statistics.median
    assert check.median_latency(latency(median)).passed
    assert check.median_latency(latency(two_middles)).mistakes == ("two_middles_always",)
    assert check.median_latency(latency(median, difference=lambda begin, end: begin - end)).mistakes == ("negative",)
    forgotten = check.median_latency(latency(median, use=lambda run: run))
    assert forgotten.mistakes == ("never_called",) and "has to follow" in forgotten.hint


def interval(quantile="stats.t.ppf((1 + confidence) / 2, n - 1)", error="d.std(ddof=1) / n**0.5", digits=15):
    def paired_interval(a, b, confidence=0.95):
        names = {"a": np.asarray(a), "b": np.asarray(b), "confidence": confidence, "n": len(a)}
        names |= {"d": names["a"] - names["b"], "stats": stats, "math": math}
        half = eval(error, names) * eval(quantile, names)
        return [round(float(names["d"].mean() + step), digits) for step in (0, -half, half)]

    return paired_interval


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        ("variances_added", interval(error="math.sqrt(a.var(ddof=1) + b.var(ddof=1)) / n**0.5")),
        ("root_of_one_less", interval(error="d.std(ddof=1) / math.sqrt(n - 1)")),
        ("half_the_confidence_left_out", interval("stats.t.ppf(1 - confidence / 2, n - 1)")),
        ("probability_for_quantile", interval("stats.t.cdf((1 + confidence) / 2, n - 1)")),
        ("density_for_quantile", interval("stats.t.pdf((1 + confidence) / 2, n - 1)")),
        ("rounded", interval(digits=2)),
    ],
)
def test_likely_mistakes_of_an_interval_are_named(mistake, answer):
    assert check.paired_interval(interval()).passed
    assert check.paired_interval(answer).mistakes == (mistake,)


def test_a_negative_quantile_is_hinted_at_where_the_ends_are_swapped():
    outcome = check.paired_interval(interval("stats.t.ppf((1 - confidence) / 2, n - 1)"))
    assert outcome.mistakes == ("swapped_ends",)
    assert "quantile" in outcome.hint and "sign" in outcome.hint


def test_an_interval_of_nothing_but_nan_is_like_no_known_mistake():
    outcome = check.paired_interval(lambda a, b, confidence=0.95: (math.nan,) * 3)
    assert outcome.kind == "unknown" and outcome.says == "There is NaN in mean difference."


@pytest.mark.parametrize(
    ("mistake", "places", "bias"),
    [
        ("one_added_always", lambda free, stride: free // stride + 1, lambda c_out, wanted: 1),
        ("one_before_the_division", lambda free, stride: (free + 1) // stride, lambda c_out, wanted: c_out * wanted),
        ("rounded_to_the_nearest", lambda free, stride: round(free / stride) + 1, lambda c_out, wanted: c_out * wanted),
    ],
)
def test_likely_mistakes_of_a_convolutions_cost_are_named(mistake, places, bias):
    def conv_cost(c_in, c_out, kernel, height, width, stride=1, padding=0, groups=1, wanted=True):
        weights = c_out * (c_in // groups) * kernel**2
        out = [places(side + 2 * padding - kernel, stride) for side in (height, width)]
        return weights + bias(c_out, wanted), weights * out[0] * out[1]

    assert check.conv_cost(conv_cost).mistakes == (mistake,)


def test_lists_that_are_subtracted_get_their_own_line():
    def paired_interval(a, b, confidence=0.95):
        return a - b

    outcome = check.paired_interval(paired_interval)
    assert outcome.kind == "raised"
    assert "TypeError: unsupported operand" in outcome.says
    assert outcome.hint.endswith("return a - b")
