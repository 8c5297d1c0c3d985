"""What nbgrader is told: nothing for a pass, points for a part, an error for anything else."""

import os

from kdlab.check.rendering import Outcome, as_line, as_text


class CheckFailed(AssertionError):
    """The answer did not pass, under grading. A notebook shows the message alone."""

    def __init__(self, outcome: Outcome):
        super().__init__(as_line(outcome))
        self.outcome = outcome

    def _render_traceback_(self) -> list[str]:  # IPython asks the exception itself
        return [f"{type(self).__name__}: {self}"]


def grading() -> bool:
    """Say whether nbgrader runs this notebook."""
    return bool(os.environ.get("NBGRADER_EXECUTION"))


def graded(outcome: Outcome) -> float | None:
    """Return None for a pass and the points for a part of it; raises `CheckFailed` if nothing was earned."""
    if outcome.passed:
        return None  # full marks, whatever the cell is worth
    if not outcome.earned:
        raise CheckFailed(outcome)
    print(as_text(outcome))
    return outcome.earned
