"""Build notebooks/ and solutions/ from the lessons, or check that they are what the lessons say.

python lessons/build.py            build all; only what changed is executed again
python lessons/build.py 01 --warm  build one, with the trained models that this machine already has
python lessons/build.py --check    execute nothing, list every difference, exit 1 if there is one
"""

import argparse
import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

import _comparison
import _digests
import _notebooks
from _execution import ExecutionError, execute
from _lesson import BuildError, Lesson, read
from _notebooks import learner_notebook, solution_notebook, source_notebook
from kdlab.writing import write_whole

__all__ = [
    "BuildError",
    "Course",
    "build",
    "check",
    "learner_notebook",
    "main",
    "read",
    "solution_notebook",
]
__all__ += ["source_notebook"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Course:
    """Where the lessons and what is built of them lie."""

    root: Path = ROOT

    @property
    def notebooks(self) -> Path:
        """Folder of the learners' notebooks."""
        return self.root / "notebooks"

    @property
    def solutions(self) -> Path:
        """Folder of the solved notebooks."""
        return self.root / "solutions"

    def paths(self) -> list[Path]:
        """Return the lesson files in order."""
        return sorted((self.root / "lessons").glob("[0-9][0-9]_*.py"))

    def lessons(self, numbers: Sequence[str] = ()) -> list[Lesson]:
        """Read the lessons with these numbers, all if none is given.

        Raises
        ------
        BuildError
            If there is no such lesson, or one breaks the form.
        """
        chosen = [p for p in self.paths() if not numbers or p.name[:2] in numbers]
        missing = sorted(set(numbers) - {p.name[:2] for p in chosen})
        if missing:
            raise BuildError(
                f"no lesson {', '.join(missing)}; there are {', '.join(p.name for p in self.paths())}"
            )
        return [read(path) for path in chosen]


HERE = Course()


def check(course: Course = HERE) -> list[str]:
    """Return every difference between the lessons and the committed notebooks; [] if there is none."""
    lessons = course.lessons()
    found = _comparison.without_lesson(lessons, course.notebooks, course.solutions)
    for lesson in lessons:
        name = f"{lesson.name}.ipynb"
        found += _comparison.differences(
            lesson, course.notebooks / name, course.solutions / name
        )
    return found


def build(
    lesson: Lesson,
    course: Course,
    *,
    force: bool = False,
    warm: bool = False,
    scale: str = "laptop",
) -> float:
    """Write both notebooks of a lesson; returns the seconds its execution took, 0 if none was needed.

    Raises
    ------
    BuildError
        If a cell fails; the notebooks stay as they were.
    """
    name = f"{lesson.name}.ipynb"
    learner, solved = learner_notebook(lesson), solution_notebook(lesson)
    facts = {
        "lesson": _notebooks.digest(lesson),
        "code": _digests.of_code(lesson),
        "scale": scale,
    }
    seconds = 0.0
    if force or not _keep_outputs(solved, _comparison.load(course.solutions / name), facts):
        course.solutions.mkdir(exist_ok=True)
        try:
            seconds = execute(solved, course.solutions, scale, warm)
        except ExecutionError as error:
            line = _lesson_line(lesson, error.index)
            raise BuildError(
                f"{lesson.path}:{line}: cell {error.index + 1} failed: {error}"
            ) from None
    solved.metadata["kdlab"] = facts
    _write(course.notebooks / name, _notebooks.serialise(learner))
    _write(course.solutions / name, _notebooks.serialise(solved))
    _export_figure(solved, course.root / "assets" / f"{lesson.name}.png")
    return seconds


def _export_figure(solved: NotebookNode, path: Path) -> None:
    """Write the picture of the cell tagged ``readme``, if there is one, so that the README shows what the lesson does."""
    for cell in solved.cells:
        if "readme" in cell.metadata.get("tags", []):
            pictures = [
                o.data["image/png"]
                for o in cell.outputs
                if "image/png" in o.get("data", {})
            ]
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(base64.b64decode(pictures[0]))


def _keep_outputs(solved: NotebookNode, old: NotebookNode | None, facts: dict) -> bool:
    """Take the outputs of the old notebook over if running it again could not change them."""
    if old is None or any(
        old.metadata.get("kdlab", {}).get(key) != facts[key] for key in ("code", "scale")
    ):
        return False
    ours, theirs = ([c for c in n.cells if c.cell_type == "code"] for n in (solved, old))
    if [(c.source, c.metadata) for c in ours] != [(c.source, c.metadata) for c in theirs]:
        return False
    for new, cell in zip(ours, theirs, strict=True):
        new.outputs, new.execution_count = cell.outputs, cell.execution_count
    return True


def _lesson_line(lesson: Lesson, index: int) -> int:
    """The solved notebook has the lesson's cells in the lesson's order."""
    return lesson.cells[index].line


def _write(path: Path, text: str) -> None:
    """Write a notebook as a whole; the same text is left alone."""
    if path.exists() and path.read_bytes() == text.encode():
        return
    write_whole(path, text.encode())


def main(arguments: Sequence[str] | None = None, course: Course = HERE) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "lessons", nargs="*", metavar="NN", help="numbers of lessons (default: all)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare with the committed notebooks, write nothing",
    )
    parser.add_argument(
        "--force", action="store_true", help="execute even what did not change"
    )
    parser.add_argument(
        "--warm", action="store_true", help="use this machine's store of trained models"
    )
    parser.add_argument(
        "--scale", default="laptop", help="a draft at another scale, which --check refuses"
    )
    options = parser.parse_args(arguments)
    try:
        return _check(course) if options.check else _build(course, options)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1


def _check(course: Course) -> int:
    found = check(course)
    print(
        "\n".join(found)
        if found
        else f"{len(course.paths())} lessons: notebooks/ and solutions/ are up to date"
    )
    return 1 if found else 0


def _build(course: Course, options: argparse.Namespace) -> int:
    failures = 0
    for lesson in course.lessons([n.zfill(2) for n in options.lessons]):
        try:
            seconds = build(
                lesson, course, force=options.force, warm=options.warm, scale=options.scale
            )
        except BuildError as error:
            print(error, file=sys.stderr)
            failures += 1
            continue
        size = (course.solutions / f"{lesson.name}.ipynb").stat().st_size / 1000
        ran = (
            f"executed in {seconds:.0f} s"
            if seconds
            else "not executed: nothing changed that could matter"
        )
        print(f"{lesson.name}: {ran}; solution {size:.0f} kB", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
