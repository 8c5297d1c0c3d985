"""From what an answer did to one sentence about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from kdlab.check.calling import Report, Trial, attempt, is_of_this_package, result_of, unwatched
from kdlab.check.comparing import (
    agree,
    alike,
    as_items,
    as_tensor,
    describe,
    first_difference,
    has_nan,
    is_small,
    is_void,
    shown,
)
from kdlab.check.core import Exercise, Remark, Wrong
from kdlab.check.rendering import Outcome

_COUNTS = {2: "Two", 3: "Three", 4: "Four"}


def run(exercise: Exercise, function: Any, seed: int | None = None, rounds: int = 1) -> Outcome:
    """Call the function on the exercise's probes and judge what it did.

    Parameters
    ----------
    exercise, function
        What was asked, and the answer: any object, a function if all is well.
    seed
        Which probes; None for the ones that a learner sees.
    rounds
        How often as many probes.
    """
    probes = exercise.cases(seed, rounds)
    report = attempt(function, exercise.observe, exercise.signature, probes, exercise.name)
    outcome = judge(exercise, probes, report)
    remark = _remark(exercise, function, report) if outcome.passed else ""
    return replace(outcome, hint=remark) if remark else outcome


def run_own(exercise: Exercise, function: Any, seed: int | None = None, rounds: int = 1) -> Outcome:
    """Like `run`, but what comes with the course does not count as an answer."""
    if is_of_this_package(function):
        return Outcome(exercise.name, "unusable", _NOT_YOURS, points=exercise.points)
    return run(exercise, function, seed, rounds)


def _remark(exercise: Exercise, function: Callable, report: Report) -> str:
    deserved = (remark.says for remark in exercise.remarks if _deserved(remark, exercise, function, report))
    return next(deserved, "")


def _deserved(remark: Remark, exercise: Exercise, function: Callable, report: Report) -> bool:
    if remark.deserved is not None and any(map(remark.deserved, report.trials)):
        return True
    for probe in remark.probes:
        yours, expected = (exercise.trial(f, probe, remark.observe) for f in (function, exercise.reference))
        if yours.raised or not agree(expected.output, yours.output):
            return True
    return False


def judge(exercise: Exercise, probes: list[tuple], report: Report, diagnose: bool = True) -> Outcome:
    """Judge the report of an answer.

    Parameters
    ----------
    exercise, probes
        What was asked, and on which inputs.
    report
        What the answer did, from `calling.attempt`.
    diagnose
        Whether to look for the known mistake; without it a wrong answer is just 'unknown'.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # known mistakes are many and small
    try:
        with unwatched():
            return _Judge(exercise, probes, report).verdict(diagnose)
    finally:
        torch.set_num_threads(threads)


class _Judge:
    def __init__(self, exercise: Exercise, probes: list[tuple], report: Report):
        self.exercise, self.probes, self.report, self.trials = exercise, probes, report, report.trials
        self.references: dict[int, Trial] = {}
        self.outputs: dict[tuple[Callable, int], Any] = {}

    def verdict(self, diagnose: bool) -> Outcome:
        if self.report.problem:
            return self._outcome("unusable", self.report.problem)
        if self.report.empty or any(trial.raised and trial.raised.stub for trial in self.trials):
            return self._untouched()
        return (
            self._raised()
            or self._nothing()
            or self._differs(diagnose)
            or self._modifies()
            or self._disturbs()
            or self._passed()
        )

    # --- before any value is looked at

    def _untouched(self) -> Outcome:
        return self._outcome("untouched", "Not attempted yet.")

    def _raised(self) -> Outcome | None:
        at = self._first(lambda trial: trial.raised is not None)
        if at is None:
            return None
        raised = self.trials[at].raised
        where = f" in line {raised.line}" if raised.line else ""
        text = f": {raised.text}" if raised.text else ""
        message = f"{raised.type}: {raised.message}" if raised.message else raised.type
        return self._outcome(
            "raised", f"Your code raises {message}", f"It happens{where}{text}" if where else "", at=at
        )

    def _nothing(self) -> Outcome | None:
        finished = [i for i in range(len(self.trials)) if self._reference(i).finished]  # no scripted failure in them
        if not finished or not all(self.trials[i].none and not self._reference(i).none for i in finished):
            return None
        if self.trials[0].printed:
            return self._outcome(
                "nothing", "It prints its result, and returns None.", "Use return in place of print.", 0
            )
        return self._outcome("nothing", "It returns None: a return is missing.", _EVERY_PATH, 0)

    # --- values

    def _differs(self, diagnose: bool) -> Outcome | None:
        at = next((i for i in range(len(self.trials)) if not agree(self._expected(i), self.trials[i].output)), None)
        if at is None:
            return None
        if diagnose:
            known = self._known_as_a_whole(at) or (self._known_in_part() if not self._broken(at) else None)
            if known is not None:
                return known
        if self.trials[at].none:
            says = "It returns None for this input, and a value for others."
            return self._outcome("nothing", says, _EVERY_PATH, at=at)
        return self._modifies() or self._unknown(at)

    def _known_as_a_whole(self, at: int) -> Outcome | None:
        mistakes = self._recognise(at, lambda output: output)
        if mistakes and sorted(wrong.name for wrong in mistakes) == sorted(self.exercise.handed_out):
            return self._untouched()
        costs = sum(wrong.costs for wrong in mistakes)
        return self._known(mistakes, at, self.exercise.points * max(0.0, 1 - costs)) if mistakes else None

    def _known_in_part(self) -> Outcome | None:
        """Where the whole is like no known mistake, one entry of it may be."""
        for key in self._keys():
            different = (i for i in range(len(self.trials)) if not self._agrees(i, key))
            at = next(different, None)
            mistakes = self._recognise(at, lambda output, key=key: _pick(output, key)) if at is not None else ()
            if mistakes:
                return self._known(mistakes, at, 0.0, key)
        return None

    def _keys(self) -> list:
        expected = self._expected(0)
        if isinstance(expected, dict):
            return list(expected)
        return list(range(len(expected))) if isinstance(expected, tuple) else []

    def _recognise(self, at: int, part: Callable[[Any], Any]) -> tuple[Wrong, ...]:
        order = [at, *(i for i in range(len(self.trials)) if i != at)]  # the failing one tells most mistakes apart
        received = [part(trial.output) for trial in self.trials]
        if is_void(received):
            return ()
        for mistakes, function in self.exercise.wrongs:
            if all(agree(part(self._output(function, i)), received[i]) for i in order):
                return mistakes
        return ()

    def _to_show(self, mistakes: tuple[Wrong, ...], at: int, name: str) -> Wrong:
        """Of several mistakes, one that by itself makes a difference to what is shown."""
        alone = {single[0].name: function for single, function in self.exercise.wrongs if len(single) == 1}
        expected = self._expected(at)
        for wrong in mistakes if len(mistakes) > 1 else ():
            output = self._output(alone[wrong.name], at)
            if not agree(expected, output) and first_difference(expected, output, self.exercise.names)[0] == name:
                return wrong
        return mistakes[0]

    def _known(self, mistakes: tuple[Wrong, ...], at: int, earned: float, key: str | int | None = None) -> Outcome:
        name, received = self._what_came(at, key)
        wrong = self._to_show(mistakes, at, name)
        return self._outcome(
            "known",
            self._counted(mistakes, wrong),
            wrong.hint,
            at=at,
            after=[(_yours(name), shown(received))],
            mistakes=tuple(wrong.name for wrong in mistakes),
            earned=max(self._parts(), earned),
        )

    def _counted(self, mistakes: tuple[Wrong, ...], wrong: Wrong) -> str:
        """The sentence about one of several mistakes; in a bug hunt they are old ones or new ones."""
        handed_out = self.exercise.handed_out
        remaining = [mistake.name in handed_out for mistake in mistakes]
        if len(mistakes) > 1:
            new = "new " if handed_out and not any(remaining) else ""
            verb = "remain" if handed_out and all(remaining) else "are in here"
            return f"{_COUNTS[len(mistakes)]} {new}mistakes {verb}. One of them: {wrong.says}"
        if handed_out:
            return f"{'One mistake remains' if all(remaining) else 'There is a new mistake'}: {wrong.says}"
        return wrong.says

    def _what_came(self, at: int, key: str | int | None) -> tuple[str, Any]:
        if key is None:
            name, _, received = first_difference(self._expected(at), self.trials[at].output, self.exercise.names)
            return name, received
        name = self.exercise.names[key] if isinstance(key, int) and self.exercise.names else str(key)
        return name, _pick(self.trials[at].output, key)

    def _unknown(self, at: int) -> Outcome:
        name, expected, received = first_difference(self._expected(at), self.trials[at].output, self.exercise.names)
        says, hint = self._what_is_off(at, name, expected, received)
        if alike(expected, received):
            after = [(_yours(name), shown(received)), ("expected", shown(expected))]
        else:  # the sentence tells the two kinds apart; numbers are all that is left to show
            after = [(_yours(name), shown(received))] if is_small(received) and _has_numbers(received) else []
        return self._outcome("unknown", says, hint, at=at, after=after, earned=self._parts())

    def _what_is_off(self, at: int, name: str, expected: Any, received: Any) -> tuple[str, str]:
        what = name or "the result"
        if has_nan(received) and not has_nan(expected):
            return f"There is NaN in {what}.", _WHENCE_NAN
        default = self._default(at)
        if default:
            return default, ""
        if received is not None and not alike(expected, received):
            return self._of_another_kind(expected, received), f"Look at {_yours(name)}." if name else ""
        broken = self._broken(at)
        if broken:
            return broken, ""
        return f"The values are not right: {what}." if name else "The values are not right.", ""

    def _of_another_kind(self, expected: Any, received: Any) -> str:
        wanted, got = (tuple(getattr(value, "shape", ())) for value in (expected, received))
        if wanted and got and wanted != got:
            transposed = f"It is transposed: {got} for {wanted}."
            return transposed if wanted == got[::-1] else f"The shape is {got} where {wanted} is expected."
        named = isinstance(expected, tuple) and self.exercise.names
        wanted = f"({', '.join(self.exercise.names)})" if named else describe(expected, values=False)
        return f"Expected {wanted}, received {describe(received, values=False)}."

    def _broken(self, at: int) -> str:
        output, probe = self.trials[at].output, self.probes[at]
        return next((rule.says for rule in self.exercise.properties if not _holds(rule.holds, output, probe)), "")

    def _default(self, at: int) -> str:
        left_out = list(self.exercise.signature.parameters.values())[len(self.probes[at]) :]
        for parameter in left_out:
            yours = self.report.defaults.get(parameter.name, parameter.default)
            if yours != parameter.default:
                return f"{parameter.name} has to default to {parameter.default!r}; yours defaults to {yours!r}."
        return ""

    # --- values are right

    def _modifies(self) -> Outcome | None:
        at = self._first_beyond("modified")
        if at is None:
            return None
        says = (
            f"It changes its input {self._beyond(at, 'modified')[0]} in place, so that the caller's own data is gone."
        )
        return self._outcome("side effect", says, "Compute a new value and leave the argument as it came.", at=at)

    def _disturbs(self) -> Outcome | None:
        at = self._first_beyond("state")
        if at is None:
            return None
        says = f"It changes {self._beyond(at, 'state')[0]} for the whole program, and does not give it back."
        return self._outcome("side effect", says, "Whatever runs afterwards would feel it.", at=at)

    def _first_beyond(self, effect: str) -> int | None:
        touched = (i for i, trial in enumerate(self.trials) if getattr(trial, effect))
        return next((i for i in touched if self._beyond(i, effect)), None)

    def _beyond(self, at: int, effect: str) -> list[str]:
        """Side effects that the reference does not have."""
        return [name for name in getattr(self.trials[at], effect) if name not in getattr(self._reference(at), effect)]

    def _passed(self) -> Outcome:
        return self._outcome("pass", "Right.", earned=self.exercise.points)

    # --- helpers

    def _expected(self, at: int) -> Any:
        return self._reference(at).output

    def _reference(self, at: int) -> Trial:
        if at not in self.references:
            self.references[at] = self.exercise.trial(self.exercise.reference, self.probes[at])
        return self.references[at]

    def _output(self, wrong: Callable, at: int) -> Any:
        if (wrong, at) not in self.outputs:
            finished, output = result_of(wrong, self.exercise.observe, self.probes[at])
            self.outputs[wrong, at] = output if finished else FAILED
        return self.outputs[wrong, at]

    def _first(self, test: Callable[[Trial], bool]) -> int | None:
        return next((i for i, trial in enumerate(self.trials) if test(trial)), None)

    def _parts(self) -> float:
        return float(sum(part.points for part in self.exercise.parts if self._earns(part.keys)))

    def _earns(self, keys: tuple) -> bool:
        return all(self._agrees(i, key) for i in range(len(self.trials)) for key in keys)

    def _agrees(self, at: int, key: str | int) -> bool:
        return agree(_pick(self._expected(at), key), _pick(self.trials[at].output, key))

    def _outcome(self, kind: str, says: str, hint: str = "", at: int | None = None, after=(), **more) -> Outcome:
        case = () if at is None else (*self._case(at), *after)
        printed = "" if at is None else self.trials[at].printed
        return Outcome(
            self.exercise.name, kind, says, hint, case=case, printed=printed, points=self.exercise.points, **more
        )

    def _case(self, at: int) -> list[tuple[str, str]]:
        probe = self.probes[at]
        if self.exercise.show is not None:
            items = self.exercise.show(*probe)
        else:
            items = dict(zip(self.exercise.signature.parameters, probe, strict=False))
        return [(name, item if isinstance(item, str) else shown(item)) for name, item in items.items()]


_NOT_YOURS = "This function comes with the course: hand in one that you have written yourself."
_WHENCE_NAN = "Look for a division by zero, a log of something that is not positive, or an exp that overflows."
_EVERY_PATH = "Every way through the function has to end with return and a value."


class _Nothing:
    """Agrees with nothing."""


FAILED = MISSING = _Nothing()


def _pick(output: Any, key: str | int) -> Any:
    if isinstance(output, dict):
        return output.get(key, MISSING)
    items = as_items(output)
    return items[key] if items is not None and isinstance(key, int) and key < len(items) else MISSING


def _holds(holds: Callable[..., bool], output: Any, probe: tuple) -> bool:
    try:
        return bool(holds(output, *probe))
    except Exception:  # too strange an output to be asked
        return True


def _has_numbers(value: Any) -> bool:
    return as_tensor(value) is not None or isinstance(value, list | tuple | dict)


def _yours(name: str) -> str:
    return f"your {name}" if name else "yours"
