"""The challenge: the best network within a budget, judged by its file."""

from torch import nn

from kdlab import challenge as files
from kdlab import data
from kdlab.challenge import BUDGETS, Budget
from kdlab.check.contest.hidden import refuse_hidden
from kdlab.check.contest.ledger import Ledger, key_of
from kdlab.check.contest.measuring import answers, compared, over, priced
from kdlab.check.contest.refusing import Refused
from kdlab.check.contest.verdict import Line, Verdict
from kdlab.check.grading import graded, grading
from kdlab.data import Dataset
from kdlab.errors import KdlabError
from kdlab.measure import Accuracy

__all__ = ["Verdict", "challenge"]


def challenge(
    model: nn.Module,
    budget: str | Budget = "small",
    bits: int = 8,
    *,
    at_least: float | None = None,
    name: str | None = None,
) -> Verdict | None:
    """Save your network, load it again, and judge what was loaded: does it keep the budget, and how good is it?

    Everything that can be refused is refused before the test set is opened. A network is scored on test data once:
    handing it in again recalls the result, and the verdict says how many networks you have had scored.

    Parameters
    ----------
    budget
        ``"small"``, ``"smaller"``, ``"tiny"``, or a `Budget` of your own.
    bits
        As in `kdlab.challenge.save`: 2 to 8, 16 or 32.
    at_least
        The accuracy to reach, a fraction: first on validation, then on test pictures. None for any.
    name
        What to call it in plots.

    Returns
    -------
    Verdict or None
        None for a pass under nbgrader.

    Raises
    ------
    KdlabError
        For an unknown budget, other `bits`, or an `at_least` that is no fraction.
    CheckFailed
        Under nbgrader, if it did not pass.
    """
    limits = _limits(budget)
    files.check_bits(bits)
    if at_least is not None and not 0 <= at_least <= 1:
        raise KdlabError(f"at_least is {at_least!r}; expected a fraction from 0 to 1.")
    verdict = _judged(model, limits, bits, at_least, name)
    if not grading():
        return verdict
    if verdict.passed:
        print(verdict)
    return graded(verdict)


def _limits(budget: str | Budget) -> Budget:
    if isinstance(budget, Budget):
        return budget
    if budget not in BUDGETS:
        raise KdlabError(f"There is no budget {budget!r}; expected one of {', '.join(map(repr, BUDGETS))}.")
    return BUDGETS[budget]


def _judged(model: nn.Module, limits: Budget, bits: int, at_least: float | None, name: str | None) -> Verdict:
    row: dict = {}
    try:
        says = _scored(model, limits, bits, at_least, name, row)
    except Refused as refused:
        return Verdict("challenge", "refused", str(refused), row=row, table=_table(row, limits, at_least))
    return Verdict("challenge", "pass", says, row=row, table=_table(row, limits, at_least))


def _scored(model: nn.Module, limits: Budget, bits: int, at_least: float | None, name: str | None, row: dict) -> str:
    """Fill `row` step by step; raise `Refused` at the first step that fails."""
    raw, loaded = _through_file(model, bits)
    row |= {"name": name or type(model).__name__, "bytes": len(raw), "bits": bits}
    splits = data.load()
    val = compared(model, loaded, splits.val)
    row |= {**priced(loaded, splits.val.images[:1], limits.latency), "val accuracy": val.value}
    problems = list(over(row, limits).values())
    if at_least is not None and val.value < at_least:
        problems.append(
            f"{val.value:.1%} of the validation pictures are right; expected at least {at_least:.1%}. Train on: "
            "the test set stays closed until then."
        )
    if problems:
        raise Refused(" ".join(problems))
    return _opened(raw, loaded, splits, at_least, name, row)


def _through_file(model: nn.Module, bits: int) -> tuple[bytes, nn.Module]:
    if not isinstance(model, nn.Module):
        raise Refused(
            f"This is {type(model).__name__}, not a network; expected an nn.Module. Hand in the network itself, "
            "neither its class nor its state dictionary."
        )
    refuse_hidden(model)
    try:
        raw = files.to_bytes(model, bits)
        loaded = files.from_bytes(raw)
    except KdlabError as error:
        raise Refused(str(error)) from None
    except Exception as error:  # a class of one's own may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise Refused(
            f"This {type(model).__name__} cannot be saved and loaded: {reason}. Build it with models.build."
        ) from None
    refuse_hidden(loaded)
    return raw, loaded


def _opened(raw: bytes, loaded: nn.Module, splits: Dataset, at_least: float | None, name: str | None, row: dict) -> str:
    """Score on test pictures, unless this very network was scored before."""
    ledger, key = Ledger(splits.test), key_of(raw, loaded)
    kept = ledger.recall(key)
    number = kept["number"] if kept else len(ledger) + 1
    row |= {"name": name or (kept["name"] if kept else f"network {number}"), "number": number}
    row |= _of_test(kept) if kept else _on_test(loaded, splits)
    ledger.keep(key, row)
    if "failed" in row:
        raise Refused(row["failed"])
    says = _which(number, len(ledger), recalled=kept is not None)
    if at_least is not None and row["accuracy"] < at_least:
        raise Refused(
            f"{row['accuracy']:.1%} of the test pictures are right; expected at least {at_least:.1%}. Improve it on "
            f"validation pictures. {says}"
        )
    return says


def _of_test(kept: dict) -> dict:
    return {key: kept[key] for key in ("accuracy", "low", "high", "failed") if key in kept}


def _on_test(loaded: nn.Module, splits: Dataset) -> dict:
    try:
        logits = answers(loaded, splits.test.images, len(splits.classes), "On test pictures the network")
    except Refused as refused:
        return {"failed": str(refused)}
    found = Accuracy.of(logits, splits.test.labels)
    low, high = found.interval
    return {"accuracy": found.value, "low": low, "high": high}


def _which(number: int, scored: int, recalled: bool) -> str:
    luck = "; the best of many looks better than it is" if scored > 1 else ""
    if recalled:
        return f"network {number} of the {scored} that you have had scored, recalled{luck}."
    return f"network {number} that you have had scored{luck}."


def _table(row: dict, limits: Budget, at_least: float | None) -> tuple[Line, ...]:
    if "MACs" not in row:
        return ()
    limit = {
        "bytes": f"{limits.bytes:,}",
        "MACs": f"{limits.macs:,}",
        "latency": f"{limits.latency:g} of the reference's",
    }
    yours = {price: f"{row[price]:,}" for price in ("bytes", "MACs")}
    yours["latency"] = f"{row['latency ratio']:.2f} ({row['latency µs']:,.0f} µs)"
    problems = over(row, limits)
    lines = [(price, f"≤ {limit[price]}", yours[price], "✗" if price in problems else "✓") for price in limit]
    lines.append(_reached("val accuracy", at_least, row["val accuracy"], ""))
    if "accuracy" in row:
        lines.append(_reached("test accuracy", at_least, row["accuracy"], f" ({row['low']:.1%} to {row['high']:.1%})"))
    return tuple(lines)


def _reached(price: str, at_least: float | None, value: float, more: str) -> Line:
    if at_least is None:
        return price, "", f"{value:.1%}{more}", ""
    return price, f"≥ {at_least:.1%}", f"{value:.1%}{more}", "✓" if value >= at_least else "✗"
