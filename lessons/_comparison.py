"""Are the committed notebooks what the lessons say? Compared in memory, nothing is executed."""

import difflib
import json
from pathlib import Path

import nbformat
from nbformat import NotebookNode

import _notebooks
from _lesson import Lesson

_REMEDY = "run make lessons"


def differences(lesson: Lesson, learner: Path, solution: Path) -> list[str]:
    """Return every difference between a lesson and its two committed notebooks, readable, [] if there is none."""
    found = []
    for path, wanted in (
        (learner, _notebooks.learner_notebook(lesson)),
        (solution, _notebooks.solution_notebook(lesson)),
    ):
        committed = load(path)
        if committed is None:
            found.append(f"{_short(path)}: missing or unreadable; {_REMEDY}")
            continue
        found += [
            f"{_short(path)}, {difference}" for difference in _cells(wanted, committed)
        ]
        if path == learner:
            found += [f"{_short(path)}, {stray}" for stray in _outputs(committed)]
        else:
            found += [
                f"{_short(path)}: {why}; {_REMEDY}" for why in _stale(lesson, committed)
            ]
    return found


def without_lesson(lessons: list[Lesson], *folders: Path) -> list[str]:
    """Return a line for every notebook that no lesson makes."""
    known = {lesson.name for lesson in lessons}
    strays = [
        path
        for folder in folders
        for path in sorted(folder.glob("*.ipynb"))
        if path.stem not in known
    ]
    return [
        f"{_short(path)}: there is no lessons/{path.stem}.py; delete the notebook or restore it"
        for path in strays
    ]


def load(path: Path) -> NotebookNode | None:
    """Return the notebook at `path`, None if there is none that can be read."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError):
        return None


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _cells(wanted: NotebookNode, committed: NotebookNode) -> list[str]:
    found = []
    if len(wanted.cells) != len(committed.cells):
        found.append(
            f"{len(committed.cells)} cells, the lesson makes {len(wanted.cells)}; {_REMEDY}"
        )
    for position, (ours, theirs) in enumerate(
        zip(wanted.cells, committed.cells, strict=False), start=1
    ):
        diff = list(
            difflib.unified_diff(
                _lines(theirs),
                _lines(ours),
                "committed",
                "made of the lesson",
                lineterm="",
                n=2,
            )
        )
        if diff:
            found.append(
                "\n".join(
                    [
                        f"cell {position} ({theirs.get('id', 'no id')}) differs; {_REMEDY}",
                        *diff,
                    ]
                )
            )
    return found


def _lines(cell: NotebookNode) -> list[str]:
    head = {key: cell.get(key) for key in ("cell_type", "id", "metadata")}
    return [
        *json.dumps(head, sort_keys=True, indent=1).split("\n"),
        *cell.source.split("\n"),
    ]


def _outputs(committed: NotebookNode) -> list[str]:
    code = [(n, c) for n, c in enumerate(committed.cells, start=1) if c.cell_type == "code"]
    return [
        f"cell {n} has outputs or a count, which a learner's notebook has not; {_REMEDY}"
        for n, c in code
        if c.outputs or c.execution_count is not None
    ]


def _stale(lesson: Lesson, committed: NotebookNode) -> list[str]:
    stored = committed.metadata.get("kdlab", {})
    found = []
    if stored.get("lesson") != _notebooks.digest(lesson):
        found.append(f"built from another version of {lesson.path.name}")
    if stored.get("scale") != "laptop":
        found.append(f"executed at scale {stored.get('scale')!r}, not 'laptop'")
    return found
