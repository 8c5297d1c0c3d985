"""A run of autograding that was killed goes on where it was.

nbgrader takes every submission as graded that has a folder in autograded/. It makes that folder first, so the one that
it was at when it was killed would never be graded. There is no setting for this; so its one decision is preceded here.
"""

import json
from functools import wraps
from pathlib import Path

from nbgrader.converters import Autograde
from nbgrader.utils import rmtree


def install() -> None:
    """From now on nbgrader grades a submission again whose grading did not come to its end."""
    original = Autograde.init_destination
    if getattr(original, "resumes", False):
        return

    @wraps(original)
    def init_destination(self: Autograde, assignment_id: str, student_id: str) -> bool:
        graded = Path(self._format_dest(assignment_id, student_id))
        if graded.is_dir() and not is_finished(graded):
            self.log.warning("Its grading did not come to its end: removing %s", graded)
            rmtree(str(graded))
        return original(self, assignment_id, student_id)

    init_destination.resumes = True
    Autograde.init_destination = init_destination


def is_finished(folder: Path) -> bool:
    """Whether every notebook in a folder of autograded/ says that it was graded to its end, and there is one."""
    return all(map(_says_so, folder.glob("*.ipynb"))) and any(folder.glob("*.ipynb"))


def _says_so(notebook: Path) -> bool:
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["kdlab"] == {"graded": True}
    except (ValueError, LookupError, TypeError):
        return False
