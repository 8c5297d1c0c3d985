"""What is to be graded in a notebook: the answers, found by the ids of their cells. Nothing in the notebook runs."""

import re
from typing import NamedTuple

from kdlab.check.definitions import Cell
from kdlab.check.isolated import Answer
from kdlab.check.registry import lessons

CHECK = "check-"  # a check cell's id is this and the id of its exercise
_CALL = re.compile(r"check\.(?:grade\(\s*[\"'](?P<graded>\w+)[\"']\s*,|(?P<checked>\w+)\()\s*(?P<function>\w+)\s*\)")


class Call(NamedTuple):
    """`check.NAME(function)` or `check.grade("NAME", function)`."""

    exercise: str
    function: str


def call_in(source: str) -> Call | None:
    """The last such call in a check cell that names an exercise of the course; None if there is none."""
    calls = [Call(found["graded"] or found["checked"], found["function"]) for found in _CALL.finditer(source)]
    known = [call for call in calls if call.exercise in lessons()]
    return known[-1] if known else None


def grade_id(cell: dict) -> str:
    """A cell's id among nbgrader's; '' if it has none."""
    metadata = cell.get("metadata", {}).get("nbgrader", {})
    found = metadata.get("grade_id", "") if isinstance(metadata, dict) else ""
    return found if isinstance(found, str) else ""


def answer_to(check: int, cells: list[dict]) -> Answer | None:
    """The answer that the check cell at this place is about; None if it calls no check of the course.

    That is every code cell above the check, and above the exercise wherever that is.
    """
    call = call_in(_source(cells[check]))
    if call is None:
        return None
    exercise = grade_id(cells[check]).removeprefix(CHECK)
    at = [place for place, cell in enumerate(cells) if grade_id(cell) == exercise]
    above = range(max([check, *(place + 1 for place in at)]))
    taken = [
        Cell(_source(cells[place]), whole=place in at)
        for place in above
        if cells[place].get("cell_type") == "code" and not grade_id(cells[place]).startswith(CHECK)
    ]
    return Answer(call.exercise, tuple(taken), call.function)


def _source(cell: dict) -> str:
    source = cell.get("source", "")
    return "".join(map(str, source)) if isinstance(source, list) else str(source)
