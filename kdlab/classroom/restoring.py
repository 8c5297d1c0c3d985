"""A submitted notebook's cells as nbgrader's database knows them, whatever a student did to them."""

from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor

from kdlab.classroom.answers import CHECK, grade_id

_SCHEMA = 3


class RestoreCells(NbGraderPreprocessor):
    """Give known cells the metadata they were released with, drop all other, put deleted check cells back.

    The first step of autograding. Without it one notebook with metadata of an older nbgrader ends the grading of the
    whole class, a check cell that calls itself a solution is not graded, and a deleted one is not restored.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """See the class."""
        where = resources["nbgrader"]
        with Gradebook(where["db_url"]) as book:
            known = _released(book.find_notebook(where["notebook"], where["assignment"]))
        nb.metadata.pop("kdlab", None)
        last = {grade_id(cell): place for place, cell in enumerate(nb.cells)}
        nb.cells = [_restored(cell, known, last[grade_id(cell)] == place) for place, cell in enumerate(nb.cells)]
        _put_back(nb, known)
        return nb, resources


def _released(notebook: Any) -> dict[str, NotebookNode]:
    grades = {cell.name: float(cell.max_score) for cell in notebook.grade_cells}
    solutions = {cell.name for cell in notebook.solution_cells}
    tasks = {cell.name for cell in notebook.task_cells}
    cells = {}
    for source in notebook.source_cells:
        flags = {"grade": source.name in grades, "solution": source.name in solutions, "task": source.name in tasks}
        points = {"points": grades[source.name]} if source.name in grades else {}
        facts = {"grade_id": source.name, "locked": bool(source.locked), "schema_version": _SCHEMA, **flags, **points}
        facts |= {"checksum": source.checksum, "cell_type": source.cell_type}
        new = new_code_cell if source.cell_type == "code" else new_markdown_cell
        cells[source.name] = new(source.source or "", metadata={"nbgrader": facts})
    return cells


def _restored(cell: NotebookNode, known: dict[str, NotebookNode], is_last: bool) -> NotebookNode:
    """The released cell with the student's text, or the cell without a claim to be one."""
    name = grade_id(cell)
    if name in known and is_last:
        released = NotebookNode(known[name])
        keeps_text = not known[name].metadata.nbgrader.locked
        return (
            NotebookNode({**released, "source": cell.source, "id": cell.get("id", released.id)})
            if keeps_text
            else released
        )
    if isinstance(cell.get("metadata"), dict):
        cell.metadata.pop("nbgrader", None)
    else:
        cell.metadata = NotebookNode()
    return cell


def _put_back(nb: NotebookNode, known: dict[str, NotebookNode]) -> None:
    """Every check cell that is missing, right after its exercise, or at the end if that is missing too."""
    for name, cell in known.items():
        names = [grade_id(other) for other in nb.cells]
        if name.startswith(CHECK) and name not in names:
            exercise = name.removeprefix(CHECK)
            nb.cells.insert(names.index(exercise) + 1 if exercise in names else len(names), cell)
