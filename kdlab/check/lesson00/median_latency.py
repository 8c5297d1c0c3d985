"""A latency that is not fooled."""

import statistics

import torch

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.observers.latency import latency
from kdlab.check.probing import integer, integers


def median_latency(run, clock, warmup=3, repeats=9):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(warmup):
            run()
        seconds = []
        for _ in range(repeats):
            start = clock()
            run()
            seconds.append(clock() - start)
    finally:
        torch.set_num_threads(threads)
    return statistics.median(seconds)


def probes(generator):
    def script(slow, usual):
        first = integers(generator, 30, 60, slow).tolist()
        later = (integers(generator, 2, 9, usual) + torch.arange(usual) % 3).tolist()
        later[integer(generator, 0, usual - 1)] = integer(generator, 20, 29)
        return [float(second) for second in first + later]

    return [
        ([5.0], None, 0, 1),
        (script(1, 3), None, 1, 3),
        (script(2, 3), None, 2, 3),
        (script(1, 4), None, 1, 4),
        (script(0, 5), None, 0, 5),
        (script(2, 6), None, 2, 6),
        (script(1, 5), 1, 1, 5),
        (script(2, 5), 4, 2, 5),
        (script(2, 7), 0, 2, 5),
        (script(4, 9), None, 4),
        (script(3, 9), None),
    ]


def show(seconds, fails_at, warmup=None, repeats=None):
    items = {"successive calls of run() take": f"{', '.join(f'{second:g}' for second in seconds)} s"}
    if fails_at is not None:
        items["run() raises in call number"] = str(fails_at + 1)
    return items | {k: str(v) for k, v in (("warmup", warmup), ("repeats", repeats)) if v is not None}


EXERCISE = Exercise(
    reference=median_latency,
    probes=probes,
    observe=latency,
    show=show,
    points=3,
    parts=(
        Part("the median of the measured calls", 2, ("seconds", "number of calls of run()")),
        Part(
            "one thread while measuring",
            1,
            ("torch threads during each measured call", "torch threads when it is done"),
        ),
    ),
    bank=(
        Wrong(
            "mean",
            edit("statistics.median", "statistics.mean"),
            "This is the mean: one slow outlier pulls it up.",
            "The machine now and then does something else; which summary does not care?",
        ),
        Wrong(
            "minimum",
            edit("statistics.median", "min"),
            "This is the fastest call.",
            "The minimum says what can happen at best, not what usually happens.",
        ),
        Wrong(
            "maximum",
            edit("statistics.median", "max"),
            "This is the slowest call.",
            "One interruption by another program decides it.",
        ),
        Wrong(
            "no_warmup",
            edit("        for _ in range(warmup):\n            run()\n", ""),
            "There are no unmeasured calls before the measured ones.",
            "The first calls pay for allocations and caches; they have to run before the clock counts.",
        ),
        Wrong(
            "warmup_measured",
            edit(
                "        for _ in range(warmup):\n            run()\n",
                "",
                "range(repeats)",
                "range(warmup + repeats)",
            ),
            "The warm-up calls are measured with the others.",
            "Slow first calls belong to nobody's latency: run them, and forget them.",
        ),
        Wrong(
            "warmup_taken_from_repeats",
            edit("range(repeats)", "range(repeats - warmup)"),
            "The warm-up calls are taken off the measured ones.",
            "There are to be as many measured calls as repeats says, after the warm-up.",
        ),
        Wrong(
            "one_warmup_call",
            edit("for _ in range(warmup):", "if warmup:"),
            "There is a single warm-up call, whatever warmup says.",
            "Repeat the unmeasured call.",
        ),
        Wrong(
            "one_call_too_many",
            edit("range(repeats)", "range(repeats + 1)"),
            "There is one measured call too many.",
            "Count the calls of run() for warmup=0, repeats=1.",
        ),
        Wrong(
            "threads_not_set",
            edit("    torch.set_num_threads(1)\n", ""),
            "The measurement runs on as many threads as there happen to be.",
            "Two machines, or two programs on one machine, only compare on one thread.",
        ),
        Wrong(
            "threads_not_restored",
            edit("torch.set_num_threads(threads)", "pass"),
            "Torch keeps running on one thread after the measurement.",
            "Whoever calls this wants the machine back: remember the number of threads before you change it.",
        ),
        Wrong(
            "threads_not_restored_after_a_failure",
            edit(
                "    try:\n",
                "    if True:\n",
                "    finally:\n        torch.set_num_threads(threads)\n",
                "    torch.set_num_threads(threads)\n",
            ),
            "Where run() raises, torch is left on one thread.",
            "Some statement has to run on every way out of the function.",
            costs=0.5,
        ),
        Wrong(
            "threads_restored_by_guess",
            edit("torch.set_num_threads(threads)", "torch.set_num_threads(torch.multiprocessing.cpu_count())"),
            "The threads are set to the number of processors afterwards, whatever they were before.",
            "Ask torch before you change it, and give that number back.",
        ),
        Wrong(
            "threads_set_too_late",
            edit(
                "    torch.set_num_threads(1)\n    try",
                "    try",
                "seconds.append(clock() - start)",
                "seconds.append(clock() - start)\n            torch.set_num_threads(1)",
            ),
            "The first measured call still runs on several threads.",
            "Set the threads before anything is measured.",
        ),
        Wrong(
            "failure_swallowed",
            edit(
                "    finally:\n        torch", "    except Exception:\n        return None\n    finally:\n        torch"
            ),
            "A failure of run() is swallowed.",
            "A benchmark of code that fails must not look like a result: clean up, and let the exception go on.",
        ),
        Wrong(
            "lower_middle",
            edit("statistics.median", "statistics.median_low"),
            "For an even number of repeats this is the lower of the two middle ones (as torch.median gives it).",
            "The median of an even number of values lies between the two in the middle.",
        ),
        Wrong(
            "upper_middle",
            edit("statistics.median(seconds)", "sorted(seconds)[len(seconds) // 2]"),
            "For an even number of repeats this is the upper of the two middle ones.",
            "The median of an even number of values lies between the two in the middle.",
        ),
        Wrong(
            "two_middles_always",
            edit(
                "statistics.median(seconds)",
                "(sorted(seconds)[len(seconds) // 2 - 1] + sorted(seconds)[len(seconds) // 2]) / 2",
            ),
            "For an odd number of repeats the mean of two neighbours is taken.",
            "With three values, how many lie in the middle?",
        ),
        Wrong(
            "not_sorted",
            edit("statistics.median(seconds)", "seconds[len(seconds) // 2]"),
            "This is the call in the middle of the session, not the one in the middle of the order.",
            "A median needs its values sorted.",
        ),
        Wrong(
            "total",
            edit("statistics.median", "sum"),
            "This is the time of all measured calls together.",
            "The latency is that of one call.",
        ),
        Wrong(
            "total_with_warmup",
            edit(
                "        for _ in range(warmup):\n            run()\n",
                "        start = clock()\n        for _ in range(warmup):\n            run()\n",
                "            start = clock()\n            run()",
                "            run()",
                "seconds.append(clock() - start)",
                "seconds = [(clock() - start) / repeats]",
            ),
            "The clock runs through warm-up and all, and its total is divided by the repeats.",
            "Read the clock before and after each single call.",
        ),
        Wrong(
            "clock_never_restarted",
            edit(
                "            start = clock()\n            run()",
                "            run()",
                "        seconds = []\n",
                "        seconds = []\n        start = clock()\n",
            ),
            "The clock is started once, so that each time contains all the calls before it.",
            "Read the clock before and after each single call.",
        ),
        Wrong(
            "never_called",
            edit(
                "        for _ in range(warmup):\n            run()\n",
                "",
                "            start = clock()\n            run()\n",
                "            start = clock()\n",
            ),
            "run() is never called.",
            "A name alone is the function itself: what has to follow it so that something happens?",
        ),
        Wrong(
            "not_called_when_measured",
            edit("            start = clock()\n            run()\n", "            start = clock()\n"),
            "run() is not called between the two readings of the clock.",
            "A name alone is the function itself: what has to follow it so that something happens?",
        ),
        Wrong(
            "negative",
            edit("clock() - start", "start - clock()"),
            "The times are negative.",
            "Which of the two readings of the clock is the later one?",
        ),
        Wrong(
            "milliseconds",
            edit("statistics.median(seconds)", "1000 * statistics.median(seconds)"),
            "The result is in milliseconds.",
            "Seconds were asked for.",
        ),
    ),
    properties=(
        Property(
            "clock() is never called: measure with the clock that was handed in.",
            lambda output, *_: output["clock() is used"],
        ),
        Property(
            "run() is called a wrong number of times: it should be warmup + repeats.",
            lambda output, _, fails_at, warmup=3, repeats=9: (
                fails_at is not None or output["number of calls of run()"] == warmup + repeats
            ),
        ),
        Property(
            "Torch has more than one thread while run() is measured.",
            lambda output, *_: set(output["torch threads during each measured call"]) <= {1},
        ),
        Property(
            "Torch's number of threads is not what it was before.",
            lambda output, *_: output["torch threads when it is done"] not in (1, "some other number"),
        ),
    ),
)
