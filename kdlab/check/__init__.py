"""Checks under the exercises: `check.soften(soften)` says whether the answer is right, or what the mistake is.

Under nbgrader (which sets NBGRADER_EXECUTION) the same call raises `CheckFailed` for anything but a pass, or returns
the points earned where an exercise has parts.
"""

import os
from typing import Any

from kdlab.check.judging import run_own
from kdlab.check.registry import UnknownExercise, find, lessons
from kdlab.check.rendering import Outcome, as_line, as_text

__all__ = ["CheckFailed", "UnknownExercise", "grade", "points"]

_HIDDEN_ROUNDS = 4


class CheckFailed(AssertionError):
    """The answer did not pass, under grading. A notebook shows the message alone."""

    def __init__(self, outcome: Outcome):
        super().__init__(as_line(outcome))
        self.outcome = outcome

    def _render_traceback_(self) -> list[str]:  # IPython asks the exception itself
        return [f"{type(self).__name__}: {self}"]


class Check:
    """The check of one exercise: call it with your function."""

    def __init__(self, name: str):
        self.__name__ = name
        self.__doc__ = f"Check your answer to the exercise {name}: check.{name}({name})."

    def __call__(self, function: Any, seed: int | None = None) -> Outcome | float | None:
        """Say whether the function is right, and if not, what the mistake is.

        Parameters
        ----------
        function
            Your function itself, not its result.
        seed
            Which random inputs; None for the usual ones.
        """
        outcome = run_own(find(self.__name__), function, seed)
        return _graded(outcome) if _grading() else outcome

    def __repr__(self) -> str:
        return f"check.{self.__name__}({self.__name__}) checks your answer."


def grade(name: str, function: Any) -> Outcome | float | None:
    """Check on fresh random inputs, more of them than a learner sees: for hidden tests.

    Returns
    -------
    Outcome, float or None
        Under nbgrader None for a pass and the points for a part of it; otherwise the outcome of a pass.

    Raises
    ------
    CheckFailed
        If it did not pass; under nbgrader, if nothing was earned.
    """
    outcome = run_own(find(name), function, seed=int.from_bytes(os.urandom(7)), rounds=_HIDDEN_ROUNDS)
    if _grading():
        return _graded(outcome)
    if not outcome.passed:
        raise CheckFailed(outcome)
    return outcome


def points(name: str) -> float:
    """The points that an exercise is worth; its check cell has to carry the same number."""
    return find(name).points


def _grading() -> bool:
    return bool(os.environ.get("NBGRADER_EXECUTION"))


def _graded(outcome: Outcome) -> float | None:
    if outcome.passed:
        return None  # full marks, whatever the cell is worth
    if not outcome.earned:
        raise CheckFailed(outcome)
    print(as_text(outcome))
    return outcome.earned


def __getattr__(name: str) -> Check:
    if name.startswith("_"):
        raise AttributeError(name)
    find(name)
    return Check(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *lessons()])
