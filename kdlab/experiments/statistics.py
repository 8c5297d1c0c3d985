"""Means over seeds and paired differences, with Student's t interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdlab.errors import KdlabError


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
