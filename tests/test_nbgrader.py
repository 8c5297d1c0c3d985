"""The builder's notebooks under nbgrader as it comes, which runs them in a kernel; a class is in test_classroom.py."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook

import build

ROOT = Path(__file__).parents[1]
FIXTURE = Path(__file__).parent / "fixtures" / "small_lesson.py"
CONFIG = f"""
import sys
sys.path.insert(0, {str(ROOT / "lessons")!r})
from _markers import ClearStubs
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearSolutions

c = get_config()
c.CourseDirectory.course_id = "course"
c.GenerateAssignment.preprocessors = [
    ClearStubs if step is ClearSolutions else step for step in GenerateAssignment.preprocessors.default_args[0]
]
c.Execute.timeout = 120
"""


def with_answer(notebook: nbformat.NotebookNode, exercise: str, source: str) -> nbformat.NotebookNode:
    copy = nbformat.from_dict(notebook)
    cell = next(c for c in copy.cells if c.metadata.get("nbgrader", {}).get("grade_id") == exercise)
    cell.source = source
    return copy


class Classroom:
    """A course folder with one assignment, ``work``, that holds one notebook."""

    def __init__(self, root: Path, lesson: build.Lesson) -> None:
        self.root, self.lesson = root, lesson
        (root / "nbgrader_config.py").write_text(CONFIG)
        self._put(root / "source" / "work", build.source_notebook(lesson))
        self.nbgrader("generate_assignment", "work")

    @property
    def released(self) -> nbformat.NotebookNode:
        return nbformat.read(self.root / "release" / "work" / f"{self.lesson.name}.ipynb", as_version=4)

    def scores(self, **submissions: nbformat.NotebookNode) -> dict[str, dict[str, float]]:
        """Hand in one notebook a student; returns the points of every check."""
        for student, notebook in submissions.items():
            self._put(self.root / "submitted" / student / "work", notebook)
        self.nbgrader("autograde", "work", "--create")
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}") as book:
            graded = {s: book.find_submission_notebook(self.lesson.name, "work", s) for s in submissions}
            return {s: {grade.name: grade.score for grade in notebook.grades} for s, notebook in graded.items()}

    def nbgrader(self, *arguments: str) -> None:
        here = Path(sys.executable).parent
        environment = {
            **os.environ,
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",  # nbgrader calls alembic
            "KDLAB_SCALE": "smoke",
            "KDLAB_HOME": str(self.root / "store"),
        }
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    def _put(self, folder: Path, notebook: nbformat.NotebookNode) -> None:
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{self.lesson.name}.ipynb")


@pytest.fixture(scope="module")
def classroom(tmp_path_factory):
    return Classroom(tmp_path_factory.mktemp("course"), build.read(FIXTURE))


@pytest.fixture(scope="module")
def scores(classroom):
    reference, untouched = build.solution_notebook(classroom.lesson), build.learner_notebook(classroom.lesson)
    guesser = with_answer(reference, "soften", "soften = lambda logits, temperature: [0.5, 0.5]")
    return classroom.scores(reference=reference, untouched=untouched, guesser=guesser)


def test_release_is_the_learners_notebook(classroom):
    ours = build.learner_notebook(classroom.lesson)
    assert [c.source.rstrip() for c in classroom.released.cells] == [c.source for c in ours.cells]


def test_reference_gets_full_marks(classroom, scores):
    points = {f"check-{c.keys['check']}": c.keys["points"] for c in classroom.lesson.cells if "check" in c.keys}
    assert points and scores["reference"] == points


def test_untouched_notebook_gets_nothing(scores):
    assert set(scores["untouched"].values()) == {0.0}


def test_hidden_tests_count(scores):
    assert scores["guesser"] == scores["reference"] | {"check-soften": 0.0}
