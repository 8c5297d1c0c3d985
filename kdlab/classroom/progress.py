"""Which exercises of which notebooks pass, fail or are untouched. No student's code runs in this process."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdlab.check import isolated
from kdlab.check.registry import find, lessons
from kdlab.check.rendering import Outcome, as_text
from kdlab.classroom.answers import CHECK, answer_to, call_in, grade_id
from kdlab.errors import KdlabError

_WORDS = {"pass": "passes", "untouched": "untouched"}
_MARKS = {"passes": "✓", "fails": "✗", "untouched": "○", "missing": "?"}


@dataclass(frozen=True)
class Row:
    """One exercise of one notebook: 'passes', 'fails', 'untouched', or 'missing' if its check cell was deleted."""

    exercise: str
    state: str
    outcome: Outcome | None = None

    @property
    def earned(self) -> float:
        return self.outcome.earned if self.outcome else 0.0


def notebooks(paths: Sequence[Path]) -> list[Path]:
    """The notebooks that are named, and those in the folders that are named.

    Raises
    ------
    KdlabError
        If there are none, or a path does not exist.
    """
    found = [notebook for path in paths for notebook in _at(Path(path))]
    if not found:
        raise KdlabError(f"There is no notebook in {', '.join(map(str, paths))}.")
    return found


def _at(path: Path) -> Iterator[Path]:
    if not path.exists():
        raise KdlabError(f"There is no {path}.")
    if path.is_file():
        yield path
    else:
        yield from sorted(p for p in path.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def rows(path: Path, limits: isolated.Limits | None = None) -> list[Row]:
    """Grade every exercise of a notebook, on inputs that its author has not seen.

    Raises
    ------
    KdlabError
        If the file is no notebook.
    """
    cells = _cells(path)
    checks = [at for at, cell in enumerate(cells) if _checks_its_exercise(cell)]
    answers = {at: answer_to(at, cells) for at in checks}
    outcomes = dict(zip(checks, isolated.grade(list(answers.values()), limits=limits), strict=True)) if checks else {}
    found = [Row(outcome.exercise, _WORDS.get(outcome.kind, "fails"), outcome) for outcome in outcomes.values()]
    checked = {row.exercise for row in found}
    missing = [grade_id(cell) for cell in cells if grade_id(cell) in lessons() and grade_id(cell) not in checked]
    return [*found, *(Row(name, "missing") for name in missing)]


def report(path: Path, found: Sequence[Row], why: bool = False) -> str:
    """One line about a notebook, and with `why` what is wrong with each exercise that fails."""
    if not found:
        return f"{path}: no exercises"
    points = sum(find(row.exercise).points for row in found)
    earned = sum(row.earned for row in found)
    states = "  ".join(f"{_MARKS[row.state]} {row.exercise}" for row in found)
    lines = [f"{path}: {earned:g} of {points:g} points   {states}"]
    if why:
        lines += ["    " + line for row in found if row.state == "fails" for line in as_text(row.outcome).splitlines()]
    return "\n".join(lines)


def _cells(path: Path) -> list[dict]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if isinstance(cell, dict)]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise KdlabError(f"{path} is no notebook of format 4: open it in JupyterLab and save it again.") from None


def _checks_its_exercise(cell: dict) -> bool:
    """Whether it is a check cell, and calls the check that it was handed out with."""
    call = call_in("".join(map(str, cell.get("source", ""))))
    return call is not None and grade_id(cell) == CHECK + call.exercise
