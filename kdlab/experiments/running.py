"""Seeds x settings -> a table."""

import contextlib
import itertools
import linecache
import os
import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdlab import scale
from kdlab.errors import KdlabError
from kdlab.experiments import kept_rows
from kdlab.fingerprint import plain

_MOST_JOBS = 8


class RunFailed(KdlabError):
    """A function handed to `run` raised, or returned no row; the message names the call and the line."""

    def __init__(self, message: str, line: int | None = None):
        super().__init__(message, line)  # both travel from a worker process

    def __str__(self) -> str:
        return self.args[0]


def seeds(count: int) -> range:
    """Return `count` seeds, starting at ``$KDLAB_FIRST_SEED`` (0): set it to repeat a lesson with fresh luck."""
    try:
        first = int(os.environ.get("KDLAB_FIRST_SEED") or 0)
    except ValueError:
        found = os.environ["KDLAB_FIRST_SEED"]
        raise KdlabError(f"KDLAB_FIRST_SEED is {found!r}; expected a whole number such as 100.") from None
    return range(first, first + count)


def run(
    function: Callable[..., Mapping[str, Any]],
    settings: Mapping[str, Sequence] | Sequence[Mapping[str, Any]] = ({},),
    *,
    over: int | Iterable[int] = 5,
    jobs: int | None = None,
    progress: bool = True,
    keep: bool = True,
):
    """Call ``function(seed=…, **setting)`` for every seed and setting, side by side, and collect a table.

    Before every call the random states of Python, NumPy and torch are set by the seed; afterwards they are as before.

    A row that was computed before is recalled from the store, if nothing that it depends on has changed: the function,
    the functions, networks, data and values that it refers to, its setting and seed, kdlab. Then the function is not
    called, so what it prints or writes is not there. Computed each time are the rows of a function that refers to a
    clock, a file, a module of your own, or anything of which it cannot be told whether it has changed; that imports;
    or that changes what it refers to. And so are rows that hold anything but numbers, text, lists and dictionaries.

    Parameters
    ----------
    function
        Returns one row, as a dictionary. It may live in a notebook.
    settings
        A list of settings, or a grid ``{"alpha": [0, 0.9], "temperature": [1, 4]}`` of all combinations.
    over
        The seeds, or how many.
    jobs
        Worker processes, each with one thread: as many as there are cores by default; at smoke scale, and on a GPU,
        everything runs in this process.
    progress
        Show a bar.
    keep
        Recall rows, and keep new ones. Say False where calling the function again would tell something new: it measures
        time by ways of its own, say.

    Returns
    -------
    pandas.DataFrame
        One row a run, in the order of settings, then seeds: the setting, ``seed``, and what `function` returned.
        ``attrs["recalled"]`` says how many rows came from the store.

    Raises
    ------
    RunFailed
        If a call of `function` raises, or returns anything but a dictionary.
    KdlabError
        If there is nothing to run.
    """
    import pandas as pd
    from tqdm.auto import tqdm

    calls = [(s, seed) for s in _list(settings) for seed in (seeds(over) if isinstance(over, int) else over)]
    if not calls:
        raise KdlabError("There is nothing to run: expected at least one seed and one setting.")
    names = kept_rows.names(function, calls) if keep else [None] * len(calls)
    rows = [kept_rows.load(name) for name in names]
    missing = [number for number, row in enumerate(rows) if row is None]
    recalled = len(calls) - len(missing)
    with tqdm(total=len(calls), initial=recalled, disable=not progress or None, leave=False, unit="run") as bar:
        for number, row in _computed(function, [(n, *calls[n]) for n in missing], jobs):
            rows[number] = row
            # a row that has changed what the next ones depend on is not the same row without them
            if names[number] and kept_rows.names(function, [calls[number]]) == [names[number]]:
                kept_rows.save(names[number], row)
            bar.update()
    table = pd.DataFrame([{**setting, "seed": seed, **row} for (setting, seed), row in zip(calls, rows, strict=True)])
    table.attrs["recalled"] = recalled
    return table


def _computed(function, calls: list[tuple[int, dict, int]], jobs: int | None) -> Iterator[tuple[int, dict]]:
    """Yield number and row of every call, in the order in which they end."""
    from joblib import Parallel, delayed

    jobs = _jobs(len(calls)) if jobs is None else jobs
    try:
        if jobs == 1 or not calls:
            yield from (_one(function, *call) for call in calls)
        else:
            pool = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", inner_max_num_threads=1)
            yield from pool(delayed(_one_in_worker)(function, *call) for call in calls)
    except RunFailed as failed:
        raise _with_line(failed, function) from None


def _list(settings) -> list[dict]:
    if isinstance(settings, Mapping):
        return [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    return [dict(s) for s in settings]


def _jobs(calls: int) -> int:
    if scale.current() == "smoke" or torch.cuda.is_available():
        return 1
    import joblib

    return max(1, min(calls, joblib.cpu_count(only_physical_cores=False), _MOST_JOBS))


def _one_in_worker(function, number: int, setting: dict, seed: int) -> tuple[int, dict]:
    os.environ["KDLAB_WORKER"] = "1"
    return _one(function, number, setting, seed)


def _one(function, number: int, setting: dict, seed: int) -> tuple[int, dict]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # in this process too, so that a result does not depend on where it was computed
    try:
        with _seeded(seed):
            row = function(seed=seed, **setting)
    except Exception as error:
        own = getattr(getattr(function, "__code__", None), "co_filename", None)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
        reason = str(error) if isinstance(error, KdlabError) else f"{type(error).__name__}: {error}"
        message = " ".join(f"{_call(function, setting, seed)} failed. {reason}".split())
        raise RunFailed(message, lines[-1] if lines else None) from None
    finally:
        torch.set_num_threads(before)
    if not isinstance(row, Mapping):
        raise RunFailed(
            f"{_call(function, setting, seed)} returned {type(row).__name__}; expected a dictionary, one row."
        )
    return number, {name: plain(value) for name, value in row.items()}


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let a seed decide all random states, so that who forgets to use it still gets the same row twice."""
    pythons, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)


def _call(function, setting: dict, seed: int) -> str:
    arguments = ", ".join(f"{name}={value!r}"[:60] for name, value in {"seed": seed, **setting}.items())
    return f"{getattr(function, '__name__', 'the function')}({arguments})"


def _with_line(failed: RunFailed, function) -> RunFailed:
    """Add the text of the line: this process knows the notebook's cells, a worker does not."""
    message, line = failed.args
    text = linecache.getline(function.__code__.co_filename, line).strip() if line else ""
    return RunFailed(f"{message} In line {line}: {text}" if text else message, line)
