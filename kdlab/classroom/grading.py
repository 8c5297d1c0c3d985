"""The step of autograding that takes the place of running a student's notebook."""

import os
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader import utils
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float, Integer

from kdlab.check import fence, isolated
from kdlab.check.rendering import Outcome, as_html, as_text
from kdlab.classroom.answers import answer_to, call_in

_UNFENCED = (
    "This system cannot fence students' code in (that needs Linux 5.13 or newer): grade in a container or a virtual "
    "machine that holds nothing of value."
)


class GradeAnswers(NbGraderPreprocessor):
    """Grade every exercise of a notebook from its text, in a process that holds no answer and can reach no marks.

    Nothing runs in the process of nbgrader or in a kernel. Each check cell gets the outputs that nbgrader scores.
    """

    seconds = Float(60.0, help="Wall-clock seconds that one answer may take.").tag(config=True)
    cpu_seconds = Integer(10, help="Seconds of processor time that one answer may take.").tag(config=True)
    megabytes = Integer(1024, help="Memory that one answer may use beyond what torch needs.").tag(config=True)
    rounds = Integer(4, help="How many times as many random inputs as a student sees.").tag(config=True)
    workers = Integer(0, help="How many answers are graded at once; 0 for one a core.").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """See the class."""
        if len(fence.kernel_layers()) < 2:
            self.log.warning(_UNFENCED)
        checks = [at for at, cell in enumerate(nb.cells) if cell.cell_type == "code" and utils.is_grade(cell)]
        for at in checks:  # a cell without outputs would be worth full marks
            nb.cells[at].outputs = [_error("This cell belongs to no exercise of the course.")]
        found = {at: answer for at in checks if (answer := answer_to(at, nb.cells))}
        limits = isolated.Limits(self.seconds, self.cpu_seconds, self.megabytes * 2**20, private=(os.getcwd(),))
        outcomes = isolated.grade(list(found.values()), rounds=self.rounds, limits=limits, workers=self.workers or None)
        self.log.info("Graded %d answers, none of them in a kernel", len(outcomes))
        for at, outcome in zip(found, outcomes, strict=True):
            cell = nb.cells[at]
            cell.outputs = outputs(outcome, float(cell.metadata.nbgrader["points"]))
        return nb, resources


class Finished(NbGraderPreprocessor):
    """The last step of autograding: note in the notebook that it came to its end; see `is_finished`."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """See the class."""
        nb.metadata["kdlab"] = {"graded": True}
        return nb, resources


class RefuseOthers(NbGraderPreprocessor):
    """When an assignment is made: refuse a check cell that could not be graded later."""

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        """See the class."""
        if cell.cell_type == "code" and utils.is_grade(cell) and not utils.is_solution(cell):
            call = call_in(cell.source)
            if call is None or f'check.grade("{call.exercise}", {call.function})' not in cell.source:
                name = cell.metadata.nbgrader["grade_id"]
                raise ValueError(
                    f"{Path(resources['unique_key']).name}: the check cell {name} has no hidden test "
                    f'check.grade("EXERCISE", function) for an exercise of the course.'
                )
        return cell, resources


def outputs(outcome: Outcome, points: float) -> list[NotebookNode]:
    """What nbgrader reads the score from: an error is nothing, a number is itself, anything else is full marks."""
    shown = new_output("display_data", {"text/html": as_html(outcome), "text/plain": as_text(outcome)})
    if outcome.passed:
        return [shown]
    share = min(1.0, max(0.0, outcome.earned / outcome.points))
    if not share:
        return [_error(as_text(outcome))]
    return [shown, new_output("execute_result", {"text/plain": repr(share * points)}, execution_count=1)]


def _error(text: str) -> NotebookNode:
    first, *_ = text.splitlines()
    return new_output("error", ename="NotRight", evalue=first, traceback=text.splitlines())
