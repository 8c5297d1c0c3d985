"""Laying a course out for nbgrader: from the lessons to folders, a configuration and a page for the teacher."""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kdlab.errors import KdlabError
from kdlab.writing import write_whole

_HERE = Path(__file__).parent
_CONFIG = '''"""nbgrader's settings for this course. Yours to change: this file is written once and then left alone."""

from pathlib import Path

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "kdlab"

try:
    from kdlab.classroom.config import configure

    configure(c, Path(__file__).parent)
except Exception as error:  # nbgrader would go on without these settings, and run students' notebooks
    raise SystemExit(f"{__file__}: {error}") from None

# What one answer may use while it is graded:
# c.GradeAnswers.seconds = 60
# c.GradeAnswers.cpu_seconds = 10
# c.GradeAnswers.megabytes = 1024
'''


@dataclass(frozen=True)
class Assignment:
    """One lesson in a course folder. `state` is 'new', 'unchanged', 'changed' (in the lesson) or 'yours' (edited)."""

    name: str
    text: str
    path: Path
    state: str

    @property
    def course(self) -> Path:
        return self.path.parents[2]

    @property
    def release(self) -> Path:
        return self.course / "release" / self.name / self.path.name

    @property
    def has_submissions(self) -> bool:
        return any(any(folder.rglob("*")) for folder in self.course.glob(f"submitted/*/{self.name}"))


def lay_out(folder: Path, lessons: Path | None = None) -> list[Assignment]:
    """Write or update a course folder.

    Parameters
    ----------
    folder
        New or empty, or a course that was laid out before. What a teacher has changed there stays.
    lessons
        Folder of the lessons and their builder; by default the one beside the package.

    Raises
    ------
    KdlabError
        If there are no lessons, the folder is something else, or a lesson has changed that students have handed in.
    """
    builder = _builder(lessons or _HERE.parents[1] / "lessons")
    folder = Path(folder).resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "nbgrader_config.py").exists():
        raise KdlabError(f"{folder} is not empty and is no course: name a new folder, or a course laid out before.")
    try:
        assignments = [_assignment(folder, lesson, builder) for lesson in builder.HERE.lessons()]
    except builder.BuildError as error:
        raise KdlabError(f"A lesson breaks the form: {error}") from None
    _refuse_to_change_what_was_handed_in(assignments)
    for source, name in ((builder.ROOT / "lessons" / "_markers.py", "kdlab_stubs.py"), (_HERE / "TEACHING.md", "")):
        write_whole(folder / (name or source.name), source.read_text(encoding="utf-8").encode())
    if not (folder / "nbgrader_config.py").exists():
        write_whole(folder / "nbgrader_config.py", _CONFIG.encode())
    for assignment in assignments:
        if assignment.state in ("new", "changed"):
            write_whole(assignment.path, assignment.text.encode())
        if assignment.state != "unchanged" or not assignment.release.exists():
            _generate(folder, assignment)
    return assignments


def report(folder: Path, assignments: list[Assignment]) -> str:
    """What was done, for a person."""
    words = {
        "new": "new",
        "unchanged": "unchanged",
        "changed": "brought up to date with the lesson",
        "yours": "left alone: you have changed its source (delete that to get the lesson's own again)",
    }
    lines = [f"{assignment.name}: {words[assignment.state]}" for assignment in assignments]
    return "\n".join([*lines, f"The course is in {folder}. What to do with it: {Path(folder) / 'TEACHING.md'}"])


def _builder(lessons: Path) -> ModuleType:
    if not (lessons / "build.py").exists():
        raise KdlabError(
            "The lessons are not part of the installed package: clone the course's repository, and run this there."
        )
    sys.path.insert(0, str(lessons))
    try:
        return importlib.import_module("build")
    except ModuleNotFoundError as error:
        raise KdlabError(f"{error.name} is not installed: pip install 'kdlab[lessons]'") from None
    finally:
        sys.path.remove(str(lessons))


def _assignment(folder: Path, lesson: object, builder: ModuleType) -> Assignment:
    notebook = builder.source_notebook(lesson)
    notebook.metadata["kdlab"] = {"digest": _digest(notebook.cells)}
    text = builder._notebooks.serialise(notebook)
    path = folder / "source" / lesson.name / f"{lesson.name}.ipynb"
    return Assignment(lesson.name, text, path, _state(path, notebook.metadata["kdlab"]["digest"]))


def _digest(cells: list[dict]) -> str:
    """Of what an author writes: not of outputs, nor of what JupyterLab notes beside it."""
    plain = [[c["cell_type"], "".join(c["source"]), c["metadata"].get("nbgrader")] for c in cells]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:20]


def _state(path: Path, digest: str) -> str:
    if not path.exists():
        return "new"
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        theirs, written = _digest(notebook["cells"]), notebook["metadata"].get("kdlab", {}).get("digest")
    except (ValueError, LookupError, TypeError):
        return "yours"
    if theirs == digest:
        return "unchanged"
    return "changed" if theirs == written else "yours"


def _refuse_to_change_what_was_handed_in(assignments: list[Assignment]) -> None:
    named = [
        assignment.name for assignment in assignments if assignment.state == "changed" and assignment.has_submissions
    ]
    if named:
        raise KdlabError(
            f"Students have handed in {', '.join(named)}, which has changed since: nothing was written. Lay the course "
            "out in a new folder, or move submitted/ away first."
        )


def _generate(folder: Path, assignment: Assignment) -> None:
    """What `nbgrader generate_assignment NAME` does: release/ and the database of points."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.converters.base import NbGraderException
    from nbgrader.coursedir import CourseDirectory
    from traitlets.config import PyFileConfigLoader

    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.assignment_id = assignment.name
    with _programs_found():
        try:
            GenerateAssignment(coursedir=CourseDirectory(config=config), config=config, force=True).start()
        except NbGraderException as error:
            raise KdlabError(f"nbgrader could not make {assignment.name}: {error}") from None


@contextmanager
def _programs_found() -> Iterator[None]:
    """nbgrader starts alembic by name, which lies beside Python whether or not that is on the PATH."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
