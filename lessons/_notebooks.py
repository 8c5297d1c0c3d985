"""The three notebooks made of a lesson: nbgrader's source, the learner's, and the solved one."""

import hashlib
import json
from collections import Counter

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.preprocessors import ClearHiddenTests, LockCells

from _lesson import Cell, Lesson
from _markers import ClearStubs, solved_source

METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    # nothing that a newer Python would write differently
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
    },
}


def source_notebook(lesson: Lesson) -> NotebookNode:
    """Return what nbgrader starts from: solved, with hidden tests, points and the complete metadata."""
    return _notebook(
        [_expand(cell) for cell in lesson.cells if "solution" not in cell.keys]
    )


def learner_notebook(lesson: Lesson) -> NotebookNode:
    """Return what a learner opens: stubs, no hidden tests, no outputs."""
    notebook = source_notebook(lesson)
    for preprocessor in (ClearStubs(), ClearHiddenTests(), LockCells()):
        notebook, _ = preprocessor.preprocess(notebook, {})
    return _with_ids(notebook)


def solution_notebook(lesson: Lesson) -> NotebookNode:
    """Return the solved notebook, not yet executed: answers with their reasons, no hidden tests."""
    notebook = _notebook([_expand(cell) for cell in lesson.cells])
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source = solved_source(cell.source)
    notebook, _ = LockCells().preprocess(notebook, {})
    return _with_ids(notebook)


def serialise(notebook: NotebookNode) -> str:
    """Return the one text of a notebook: sorted keys, fixed indentation, a newline at the end."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def digest(lesson: Lesson) -> str:
    """Return the digest of everything an author writes, hidden tests included."""
    cells = [[cell.kind, cell.source, cell.keys] for cell in lesson.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()[:20]


def _notebook(cells: list[NotebookNode]) -> NotebookNode:
    notebook = new_notebook(cells=cells, metadata=json.loads(json.dumps(METADATA)))
    notebook.nbformat_minor = 5
    return _with_ids(notebook)


def _expand(cell: Cell) -> NotebookNode:
    new = new_code_cell if cell.kind == "code" else new_markdown_cell
    metadata = {"tags": list(cell.keys["tags"])} if "tags" in cell.keys else {}
    if "exercise" in cell.keys:
        metadata["nbgrader"] = _nbgrader(cell.keys["exercise"], solution=True)
    if "check" in cell.keys:
        points = cell.keys["points"]
        metadata["nbgrader"] = _nbgrader(
            f"check-{cell.keys['check']}", grade=True, locked=True, points=points
        )
    return new(cell.source, metadata=metadata)


def _nbgrader(grade_id: str, **flags) -> dict:
    return {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": False,
        "solution": False,
        "locked": False,
    } | {
        "task": False,
        **flags,
    }


def _with_ids(notebook: NotebookNode) -> NotebookNode:
    """Name every cell by its content, so that the same lesson always gives the same bytes."""
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        cell.source = cell.source.rstrip()
        content = f"{cell.cell_type}\n{cell.source}"
        cell.id = hashlib.sha256(f"{content}\n{seen[content]}".encode()).hexdigest()[:12]
        seen[content] += 1
    return notebook
