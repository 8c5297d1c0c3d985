"""What the course has trained, lesson by lesson, for one plot of accuracy against cost."""

import json

from torch import Tensor, nn

from kdlab import fingerprint, measure, scale, store
from kdlab.errors import KdlabError

COLUMNS = ("name", "bytes", "MACs", "latency µs", "accuracy")
YOURS = "your networks"


def keep(lesson: str, table) -> None:
    """Remember the networks of a lesson, at the current scale; what the lesson kept before is replaced.

    Parameters
    ----------
    lesson
        Any name; `YOURS` is where `check.challenge` keeps what it has scored.
    table : pandas.DataFrame
        One row a network, with at least the columns ``name``, ``bytes``, ``MACs``, ``latency µs`` and ``accuracy`` (a
        fraction). An index is not kept.

    Raises
    ------
    KdlabError
        For a table without these columns, an accuracy that is no fraction, or values that JSON cannot hold.
    """
    _check(lesson, table)
    rows = table.to_dict("records")
    try:
        json.dumps(rows)
    except TypeError as error:
        raise KdlabError(f"The table cannot be kept ({error}). Expected only numbers and text in it.") from None
    store.save(_record(lesson), {}, {"lesson": lesson, "rows": rows})


def row(name: str, network: nn.Module, image: Tensor, accuracy: float) -> dict:
    """Return a row for `keep`: what a network costs, measured here, beside an accuracy that was measured before.

    The bytes are those of the packed file with eight bits a weight, which cost next to no accuracy: the format in which
    networks of several methods can be compared.

    Parameters
    ----------
    image
        What latency and MACs are for, shape (1, C, H, W).
    accuracy
        A fraction; the mean over several seeds, say.
    """
    timed = measure.latency(network, image, seconds=0.05)
    sizes = {"bytes": len(measure.pack(network, bits=8)), "MACs": measure.macs(network, image)}
    return {"name": name, **sizes, "latency µs": 1e6 * timed.median, "accuracy": accuracy}


def collected():
    """Return everything kept at the current scale as one table, in the order of the lessons' names.

    Returns
    -------
    pandas.DataFrame
        ``lesson``, the five columns of `keep`, then whatever else the lessons kept; no rows if there is nothing.
    """
    import pandas as pd

    records = [store.load(name) for name in store.names(f"exhibit-{scale.current()}-")]
    facts = sorted((record.facts for record in records if record), key=lambda fact: fact["lesson"])
    rows = [{"lesson": fact["lesson"], **row} for fact in facts for row in fact["rows"]]
    others = [column for row in rows for column in row if column not in ("lesson", *COLUMNS)]
    return pd.DataFrame(rows, columns=["lesson", *COLUMNS, *dict.fromkeys(others)])


def front(table, cost: str = "bytes"):
    """Return the rows that no other row beats: none is at most as dear and more accurate, or cheaper and as accurate.

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns `cost` and ``accuracy``.
    cost
        The smaller, the better.

    Returns
    -------
    pandas.DataFrame
        The Pareto front, from the cheapest to the dearest.
    """
    if cost not in table.columns or "accuracy" not in table.columns:
        raise KdlabError(
            f"The table has no column {cost!r} or 'accuracy'; expected some of {', '.join(map(str, table.columns))}."
        )
    ordered = table.dropna(subset=[cost, "accuracy"]).sort_values(
        [cost, "accuracy"], ascending=[True, False], kind="stable"
    )
    best_before = ordered["accuracy"].cummax().shift(fill_value=-1.0)
    return ordered[ordered["accuracy"] > best_before]


def _record(lesson: str) -> str:
    return f"exhibit-{scale.current()}-{fingerprint.of_settings({'lesson': lesson})}"


def _check(lesson: str, table) -> None:
    import pandas as pd

    if not isinstance(lesson, str) or not lesson:
        raise KdlabError(f"lesson is {lesson!r}; expected a name such as '04_structured_pruning'.")
    if not isinstance(table, pd.DataFrame):
        raise KdlabError(f"expected a pandas DataFrame, one row a network, got {type(table).__name__}.")
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise KdlabError(f"The table has no column {missing[0]!r}; expected {', '.join(COLUMNS)}. Add it.")
    if not all(pd.api.types.is_numeric_dtype(table[column]) for column in COLUMNS[1:]) and len(table):
        raise KdlabError(f"expected numbers in {', '.join(COLUMNS[1:])}, got text or a mixture. Convert them.")
    if not table["accuracy"].between(0, 1).all():
        raise KdlabError("accuracy must be a fraction from 0 to 1 in every row. Divide percentages by 100.")
