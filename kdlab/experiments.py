"""Seeds x settings -> a table; paired differences with intervals; claims that are checked."""

import itertools
import linecache
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kdlab import scale
from kdlab.errors import KdlabError

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
):
    """Call ``function(seed=…, **setting)`` for every seed and setting, side by side, and collect a table.

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

    Returns
    -------
    pandas.DataFrame
        One row a run, in the order of settings, then seeds: the setting, ``seed``, and what `function` returned.

    Raises
    ------
    RunFailed
        If a call of `function` raises, or returns anything but a dictionary.
    KdlabError
        If there is nothing to run.
    """
    import pandas as pd
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    calls = [(s, seed) for s in _list(settings) for seed in (seeds(over) if isinstance(over, int) else over)]
    if not calls:
        raise KdlabError("There is nothing to run: expected at least one seed and one setting.")
    jobs = _jobs(len(calls)) if jobs is None else jobs
    bar = tqdm(total=len(calls), disable=not progress or None, leave=False, unit="run")
    rows: list = [None] * len(calls)
    with bar:
        if jobs == 1:
            found = (_one(function, i, *call) for i, call in enumerate(calls))
        else:
            pool = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", inner_max_num_threads=1)
            found = pool(delayed(_one_in_worker)(function, i, *call) for i, call in enumerate(calls))
        try:
            for i, row in found:
                rows[i] = row
                bar.update()
        except RunFailed as failed:
            raise _with_line(failed, function) from None
    return pd.DataFrame(rows)


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
    return number, {**setting, "seed": seed, **row}


def _call(function, setting: dict, seed: int) -> str:
    arguments = ", ".join(f"{name}={value!r}"[:60] for name, value in {"seed": seed, **setting}.items())
    return f"{getattr(function, '__name__', 'the function')}({arguments})"


def _with_line(failed: RunFailed, function) -> RunFailed:
    """Add the text of the line: this process knows the notebook's cells, a worker does not."""
    message, line = failed.args
    text = linecache.getline(function.__code__.co_filename, line).strip() if line else ""
    return RunFailed(f"{message} In line {line}: {text}" if text else message, line)


@dataclass(frozen=True)
class Difference:
    """A mean over seeds with its 95 % interval (Student's t).

    Attributes
    ----------
    mean, low, high : float
    seeds : int
    unit : str
        For printing: ``"points"`` and ``"%"`` are hundredths of the numbers themselves.
    of : str
        What was repeated, for printing.
    signed : bool
        Print a plus sign: for differences.
    """

    mean: float
    low: float
    high: float
    seeds: int
    unit: str = "points"
    of: str = "seeds"
    signed: bool = True

    @property
    def verdict(self) -> str:
        """``"higher"``, ``"lower"``, or ``"cannot tell"`` where the interval holds zero."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "cannot tell"

    def text(self) -> str:
        """Return the mean and its interval in words."""
        factor = 100 if self.unit in ("points", "%") else 1
        mean, low, high = (_number(factor * v, self.signed) for v in (self.mean, self.low, self.high))
        return f"{mean} {self.unit}".rstrip() + f" (95 % interval {low} to {high}, {self.seeds} {self.of})"

    def __repr__(self) -> str:
        return self.text()


def _number(value: float, signed: bool) -> str:
    digits = 3 if 0 < abs(value) < 0.1 and not signed else 2
    text = f"{abs(value):.{digits}f}" if abs(value) < 100 else f"{abs(value):,.0f}"
    return ("-" if value < 0 else "+" if signed else "") + text


def interval(
    values: Sequence[float], confidence: float = 0.95, *, unit: str = "", of: str = "seeds", signed: bool = False
) -> Difference:
    """Return the mean of independent measurements, one a seed, with Student's t interval.

    Raises
    ------
    KdlabError
        For fewer than two values (one seed is no evidence) or values that are not finite.
    """
    import numpy as np
    from scipy import stats

    array = np.asarray(values, float)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise KdlabError(f"expected at least two finite numbers, one a seed, got {values!r}. Run more seeds.")
    half = stats.sem(array) * stats.t.ppf((1 + confidence) / 2, len(array) - 1)
    return Difference(
        float(array.mean()), float(array.mean() - half), float(array.mean() + half), len(array), unit, of, signed
    )


def paired(
    table, value: str, *, better: Mapping[str, Any], than: Mapping[str, Any], by: str = "seed", unit: str = "points"
) -> Difference:
    """Compare two settings seed by seed: what both share with a seed (data, order, luck) cancels.

    Parameters
    ----------
    table : pandas.DataFrame
        As `run` returns it.
    value
        The column to compare.
    better, than
        The settings, ``better={"alpha": 0.9}, than={"alpha": 0.0}``: the result is the first minus the second.
    by
        The column that pairs them.
    unit
        For printing; ``"points"`` where the column holds fractions.
    """
    first, second = (_column(table, value, by, chosen) for chosen in (better, than))
    if set(first.index) != set(second.index):
        raise KdlabError(
            f"{better} and {than} were not run with the same values of {by!r}. Run both over the same seeds."
        )
    return interval((first - second.reindex(first.index)).to_numpy(), unit=unit, of=f"{by}s", signed=True)


def _column(table, value: str, by: str, chosen: Mapping[str, Any]):
    missing = [c for c in (value, by, *chosen) if c not in table.columns]
    if missing:
        raise KdlabError(
            f"The table has no column {missing[0]!r}; expected one of {', '.join(map(str, table.columns))}."
        )
    rows = table
    for name, wanted in chosen.items():
        rows = rows[rows[name] == wanted]
    column = rows.set_index(by)[value]
    if column.empty or column.index.has_duplicates:
        raise KdlabError(f"{dict(chosen)} selects {len(rows)} rows; expected one for every value of {by!r}.")
    return column
