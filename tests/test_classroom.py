"""A class of students and the real nbgrader: everybody gets the marks that his answers earn, and no others."""

import subprocess
import time

import nbformat
import pytest
from classroom_submissions import (
    CHEATS,
    TAMPERINGS,
    Course,
    answered,
    cell_named,
    cheats,
    place_of,
    points,
    tampered,
    with_answer,
)
from nbformat.v4 import new_code_cell
from traitlets.config import PyFileConfigLoader

import build
from kdlab.classroom import layout

LESSONS = {lesson.name: lesson for lesson in build.HERE.lessons()}
LESSON = next(name for name in LESSONS if name.startswith("01_"))
FULL = points(LESSONS[LESSON])
TEST_LIMITS = "c.GradeAnswers.cpu_seconds, c.GradeAnswers.megabytes, c.GradeAnswers.rounds = 3, 600, 1\n"


@pytest.fixture(scope="module", autouse=True)
def lessons_as_they_are_now():
    """They may be edited while this runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build.Course, "lessons", lambda self, numbers=(): list(LESSONS.values()))
        yield


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Course:
    root = tmp_path_factory.mktemp("class") / "course"
    layout.lay_out(root)
    Course(root).nbgrader("generate_assignment", LESSON, "--force")
    with (root / "nbgrader_config.py").open("a") as config:
        config.write(TEST_LIMITS)
    return Course(root)


@pytest.fixture(scope="module")
def reference(course):
    return answered(course.released(LESSON), LESSONS[LESSON])


@pytest.fixture(scope="module")
def graded(course, reference) -> Course:
    """Everybody hands in by folder, one run of autograding grades them all."""
    for name, lesson in LESSONS.items():
        course.hand_in("reference", name, answered(course.released(name), lesson))
        course.hand_in("untouched", name, course.released(name))
    notebooks = {**cheats(reference, course.root, LESSON), **tampered(reference), **honest(reference)}
    for student, notebook in notebooks.items():
        course.hand_in(student, LESSON, notebook)
    trap = "softmax = lambda *a, **k: 1 / 0\nraise SystemExit"
    course.hand_in("brings_a_torch", LESSON, reference, torch=trap, sitecustomize=trap, kdlab=trap)
    course.hand_in("unreadable", LESSON, "{'cells': [")
    course.log = course.nbgrader("autograde", "*", check=False).stderr
    return course


def honest(reference) -> dict[str, nbformat.NotebookNode]:
    """What is no cheating; `half` finds one of two ways to lose points."""
    untidy = with_answer(reference, cell_named(reference, "soften").source, "import not_there\n1 / 0", "while True: 1")
    untidy.cells.insert(0, new_code_cell("import os\nos._exit(1)"))
    deleted = with_answer(reference, cell_named(reference, "soften").source)
    deleted.cells.pop(place_of(deleted, "check-soften"))
    elsewhere = with_answer(reference, "def my_soften(logits, temperature):\n    raise NotImplementedError")
    own = "def helper(z):\n    return F.softmax(z, -1)\n\ndef my_soften(logits, T):\n    return helper(logits / T)"
    elsewhere.cells.insert(place_of(elsewhere, "check-soften"), new_code_cell(own))
    half = with_answer(reference, cell_named(reference, "soften").source)
    cell = cell_named(half, "repaired_loss")
    cell.source = cell.source.replace("batchmean", "mean")
    return {"untidy": untidy, "lost_the_check": deleted, "wrote_elsewhere": elsewhere, "half": half}


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_reference_gets_full_marks_and_an_untouched_notebook_none(graded, lesson):
    full = points(LESSONS[lesson])
    assert full and graded.scores(lesson)["reference"] == full
    assert graded.scores(lesson)["untouched"] == dict.fromkeys(full, 0.0)


@pytest.mark.parametrize("cheat", [*CHEATS, *(change.__name__ for change in TAMPERINGS)])
def test_a_cheat_gets_nothing_for_that_exercise_and_changes_no_other_mark(graded, cheat):
    scores = graded.scores(LESSON)[cheat]
    assert scores == {**FULL, "soften": 0.0}


@pytest.mark.parametrize("student", ["untidy", "lost_the_check", "wrote_elsewhere", "brings_a_torch"])
def test_what_does_not_concern_an_answer_costs_nothing(graded, student):
    assert graded.scores(LESSON)[student] == FULL


def test_a_part_earns_a_part(graded):
    scores = graded.scores(LESSON)["half"]
    assert 0 < scores["repaired_loss"] < FULL["repaired_loss"]
    assert scores == {**FULL, "repaired_loss": scores["repaired_loss"]}


def test_what_is_no_notebook_is_named_and_stops_nobody(graded):
    assert graded.log.count("There was an error processing assignment") == 2  # at once, and again in the end
    assert f"assignment '{LESSON}' for student 'unreadable'" in graded.log
    others = {name: scores for name, scores in graded.scores(LESSON).items() if name != "unreadable"}
    assert len(others) == len(CHEATS) + len(TAMPERINGS) + 7
    assert None not in [score for scores in others.values() for score in scores.values()]


def test_feedback_says_what_is_wrong_without_a_traceback(graded):
    graded.nbgrader("generate_feedback", LESSON, "--student=shows_points")
    page = (graded.root / "feedback" / "shows_points" / LESSON / f"{LESSON}.html").read_text()
    assert "The temperature has no effect: this is the plain softmax." in page
    assert "Try the function with temperature 1 and with temperature 100" in page
    assert "logits = [[" in page and "Score: 0.0 / 2.0" in page and "Score: 3.0 / 3.0" in page
    assert "Traceback (most" not in page and "kdlab/check" not in page
    (output,) = graded.outputs("untouched", LESSON)["soften"]
    assert output.traceback == ["○ soften: Not attempted yet."]


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ("loops", "Your code took too long and was stopped"),
        ("takes_memory", "Your code asks for more memory than it may use (0.6 GB)."),
        ("exits", "Your code ended the program before it could be checked"),
        ("calls_the_library", "kdlab is not there while an answer is graded"),
        ("fails_at_import", "No module named 'there_is_no_such_module'"),
    ],
)
def test_a_student_reads_why(graded, student, sentence):
    (output,) = graded.outputs(student, LESSON)["soften"]
    assert sentence in "\n".join(output.traceback)


def test_a_killed_run_resumes(graded, reference):
    sleepy = with_answer(reference, cell_named(reference, "soften").source + "\nimport time\ntime.sleep(3)")
    for student in ("a_first", "b_sleepy", "c_last"):
        graded.hand_in(student, LESSON, sleepy if student == "b_sleepy" else reference)
    exclude = "--CourseDirectory.student_id_exclude=unreadable"
    done = graded.root / "autograded" / "reference" / LESSON / f"{LESSON}.ipynb"
    before = done.stat().st_mtime_ns
    with subprocess.Popen(
        graded.command("autograde", LESSON, exclude), **graded.surroundings(), stderr=subprocess.DEVNULL
    ) as running:
        half_written = graded.root / "autograded" / "b_sleepy" / LESSON / f"{LESSON}.ipynb"
        while not half_written.exists():
            time.sleep(0.02)
            assert running.poll() is None
        running.kill()
    scores = graded.scores(LESSON)
    assert scores["a_first"] == FULL and set(scores["b_sleepy"].values()) == {None} and "c_last" not in scores
    graded.nbgrader("autograde", LESSON, exclude)
    scores = graded.scores(LESSON)
    assert scores["b_sleepy"] == scores["c_last"] == FULL
    assert done.stat().st_mtime_ns == before  # what was graded is not graded again


# --- the folder


def test_source_has_the_answers_and_release_has_not(course):
    for name, lesson in LESSONS.items():
        source = (course.root / "source" / name / f"{name}.ipynb").read_text()
        release = (course.root / "release" / name / f"{name}.ipynb").read_text()
        assert "HIDDEN TESTS" in source and "BEGIN SOLUTION" in source
        for secret in ("HIDDEN TESTS", "check.grade", "SOLUTION", "STUB"):
            assert secret not in release
        ours = build.learner_notebook(lesson)
        assert [cell.source.rstrip() for cell in course.released(name).cells] == [cell.source for cell in ours.cells]
    assert "autograde" in (course.root / "TEACHING.md").read_text()


def test_a_course_is_brought_up_to_date_but_not_against_its_teacher(course):
    states = {assignment.name: assignment.state for assignment in layout.lay_out(course.root)}
    assert set(states.values()) == {"unchanged"}
    assert TEST_LIMITS in (course.root / "nbgrader_config.py").read_text()
    other = next(name for name in LESSONS if name != LESSON)
    path = course.root / "source" / other / f"{other}.ipynb"
    original, notebook = path.read_text(), nbformat.read(path, as_version=4)
    notebook.cells[0].source += "\n\nWelcome to our class."
    nbformat.write(notebook, path)
    states = {assignment.name: assignment.state for assignment in layout.lay_out(course.root)}
    assert states[other] == "yours" and "Welcome to our class." in path.read_text()
    path.write_text(original)


def test_a_changed_lesson_that_was_handed_in_is_refused(course, graded, monkeypatch):
    source = course.root / "source" / LESSON / f"{LESSON}.ipynb"
    before = source.read_text()
    original = build.source_notebook

    def changed(lesson):
        notebook = original(lesson)
        notebook.cells[0].source += "\n\nA new sentence."
        return notebook

    monkeypatch.setattr(build, "source_notebook", changed)
    with pytest.raises(layout.KdlabError, match=f"handed in .*{LESSON}"):
        layout.lay_out(course.root)
    assert source.read_text() == before


def test_without_its_settings_nothing_is_graded(course, tmp_path):
    (tmp_path / "nbgrader_config.py").write_text((course.root / "nbgrader_config.py").read_text())
    with pytest.raises(SystemExit, match=r"kdlab_stubs\.py is missing: run python -m kdlab classroom"):
        PyFileConfigLoader("nbgrader_config.py", path=str(tmp_path)).load_config()


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(layout.KdlabError, match="is not empty and is no course"):
        layout.lay_out(tmp_path)
    with pytest.raises(layout.KdlabError, match="clone the course's repository"):
        layout.lay_out(tmp_path / "new", lessons=tmp_path / "site-packages" / "lessons")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_check_that_could_not_be_graded_is_refused_when_the_assignment_is_made(course):
    from kdlab.classroom.grading import RefuseOthers

    refuse, resources = RefuseOthers(), {"unique_key": LESSON}
    check = cell_named(nbformat.read(course.root / "source" / LESSON / f"{LESSON}.ipynb", as_version=4), "check-soften")
    assert refuse.preprocess_cell(check, resources, 0) == (check, resources)
    for source in ("assert my_soften", "check.soften(my_soften)", 'check.grade("softe", my_soften)'):
        check.source = source
        with pytest.raises(ValueError, match=r"01_.*: the check cell check-soften has no hidden test"):
            refuse.preprocess_cell(check, resources, 0)
