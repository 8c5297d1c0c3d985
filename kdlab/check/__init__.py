"""Checks under the exercises: `check.soften(soften)` says whether the answer is right, or what the mistake is.

Under nbgrader (which sets NBGRADER_EXECUTION) the same call raises `CheckFailed` for anything but a pass, or returns
the points earned where an exercise has parts.

`check.challenge` is of another kind: it takes a network, and asks what it costs and what it gets right.
"""

import importlib
import os
from typing import Any

from kdlab.check.grading import CheckFailed, graded, grading
from kdlab.check.judging import run_own
from kdlab.check.registry import UnknownExercise, find, lessons
from kdlab.check.rendering import Outcome

__all__ = ["CheckFailed", "UnknownExercise", "grade", "points"]

_HIDDEN_ROUNDS = 4
_OTHER_CHECKS = {"challenge": "kdlab.check.contest"}  # of no exercise: imported when they are asked for


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
        return graded(outcome) if grading() else outcome

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
    if grading():
        return graded(outcome)
    if not outcome.passed:
        raise CheckFailed(outcome)
    return outcome


def points(name: str) -> float:
    """The points that an exercise is worth; its check cell has to carry the same number."""
    return find(name).points


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    if name in _OTHER_CHECKS:
        return getattr(importlib.import_module(_OTHER_CHECKS[name]), name)
    find(name)
    return Check(name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_OTHER_CHECKS, *lessons()])
