"""A scripted stopwatch: `run` takes as long as the script says, and the clock agrees."""

import os
from collections.abc import Callable

import torch

from kdlab.check.calling import Scripted

WARMUP = 3  # the exercise's default
_THREADS_BEFORE = 3 if os.cpu_count() == 2 else 2  # no number that a guess would hit


class ScriptedFailure(Scripted):
    """What `run` raises where the script says so."""


class Stopwatch:
    """Time that passes only in `run`."""

    def __init__(self, seconds: list[float], fails_at: int | None):
        self.seconds, self.fails_at = seconds, fails_at
        self.now, self.calls, self.readings = 3.5, 0, 0
        self.threads: list[int] = []

    def run(self) -> None:
        self.threads.append(torch.get_num_threads())
        if self.calls == self.fails_at:
            raise ScriptedFailure("run() failed")
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1

    def clock(self) -> float:
        self.readings += 1
        return self.now


def latency(function: Callable, seconds: list[float], fails_at: int | None, *rest: int) -> dict:
    """What `function(run, clock, *rest)` measured, how often it ran, and what it did to torch's threads.

    `seconds` are the times that successive calls of `run` take (the last one stays), `fails_at` the number of the call
    that raises, None for none.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(_THREADS_BEFORE)
    watch = Stopwatch(seconds, fails_at)
    measured, failure = None, False
    try:
        measured = function(watch.run, watch.clock, *rest)
    except ScriptedFailure:
        failure = True
    finally:
        after = torch.get_num_threads()
        torch.set_num_threads(before)
    return {
        "seconds": measured,
        "number of calls of run()": watch.calls,
        "torch threads during each measured call": watch.threads[rest[0] if rest else WARMUP :],
        "torch threads when it is done": after if after in (1, _THREADS_BEFORE) else "some other number",
        "a failure of run() is passed on": failure,
        "clock() is used": failure or watch.readings > 0,
    }
