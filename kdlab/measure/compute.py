"""Arithmetic and time."""

import contextlib
import logging
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.training.evaluation import check_images, device_of, eval_mode

_BLOCK = 0.01  # seconds, of quick calls that are timed together
_MANY_CALLS = 20  # in such a block, so that the two that warm it up do not count much
_FEWEST_BLOCKS = 5


def macs(model: nn.Module, images: Tensor) -> int:
    """Count multiply-accumulate operations for one image, with torch's own counter (which counts 2 FLOPs for each).

    Parameters
    ----------
    images
        Shape (N, C, H, W); the first one is used.
    """
    from torch.utils.flop_counter import FlopCounterMode

    check_images(images)
    counter = FlopCounterMode(display=False)
    with eval_mode(model), counter:
        model(images[:1].to(device_of(model)))
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class Latency:
    """Time of one call, in seconds.

    Attributes
    ----------
    median, iqr : float
        Over the repetitions; iqr is the distance between the quartiles.
    runs, batch, threads : int
        Repetitions, images in a call, and threads of torch.
    """

    median: float
    iqr: float
    runs: int
    batch: int
    threads: int

    def __repr__(self) -> str:
        return (
            f"{self.median * 1e6:,.1f} µs (IQR {self.iqr * 1e6:,.1f} µs, {self.runs} runs, batch {self.batch}, "
            f"{self.threads} thread{'s' if self.threads > 1 else ''})"
        )


def latency(model: nn.Module, images: Tensor, threads: int = 1, seconds: float = 0.2) -> Latency:
    """Time a forward pass with torch's own benchmark timer: warmed up, repeated, threads fixed.

    Parameters
    ----------
    images
        The batch to time, shape (N, C, H, W).
    threads
        Threads that torch may use.
    seconds
        How long to measure, at least.
    """
    # the timer's import looks for a CUDA compiler and complains, which is no news to anyone timing a CPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    if threads < 1 or seconds <= 0:
        raise KdlabError(f"threads={threads}, seconds={seconds}; expected at least 1 thread and a time above 0.")
    images = images.to(device_of(model))
    with eval_mode(model), _threads(threads):
        timer = Timer("model(images)", globals={"model": model, "images": images}, num_threads=threads)
        timer.timeit(3)
        number, blocks = _blocks(timer, seconds)
    low, median, high = np.quantile(blocks, [0.25, 0.5, 0.75]).tolist()
    return Latency(median, high - low, number * len(blocks), len(images), threads)


def _blocks(timer, seconds: float) -> tuple[int, list[float]]:
    """Time several blocks of calls; returns the calls in a block, and the seconds a call in each of them."""
    number = round(_BLOCK / timer.timeit(3).mean)
    if number < _MANY_CALLS:
        timed = timer.blocked_autorange(min_run_time=seconds)
        return timed.number_per_run, timed.times
    # for quick calls torch's own choice is a hundred or a thousand a block, of which a short measurement has but two
    count = max(_FEWEST_BLOCKS, math.ceil(seconds / _BLOCK))
    return number, [timer.timeit(number).mean for _ in range(count)]


def latency_ratio(
    model: nn.Module, reference: nn.Module, images: Tensor, rounds: int = 7, seconds: float = 0.03
) -> tuple[float, float]:
    """Time two networks in turn, with one thread, so that whatever else the machine does hits both.

    Parameters
    ----------
    images
        The batch to time, shape (N, C, H, W).
    rounds
        How many times each is timed.
    seconds
        How long to measure each, in every round, at least.

    Returns
    -------
    tuple of float
        The median over the rounds of the ratio of the two times, and of the time of `model`, in seconds.
    """
    pairs = [
        (latency(model, images, seconds=seconds).median, latency(reference, images, seconds=seconds).median)
        for _ in range(rounds)
    ]
    return statistics.median(a / b for a, b in pairs), statistics.median(a for a, _ in pairs)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
