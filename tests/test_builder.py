"""From a lesson to its notebooks, and everything that the builder refuses."""

import base64
import io
import re
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import _digests
import build
from _execution import light_png
from _lesson import BuildError, read

FIXTURE = Path(__file__).parent / "fixtures" / "small_lesson.py"
EXERCISE = '# %% exercise="a"\ndef f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n'
CHECK = '# %% check="a" points=1\nassert f() == 1\n\n'


def course_with(folder: Path, text: str) -> build.Course:
    (folder / "lessons").mkdir(parents=True, exist_ok=True)
    (folder / "lessons" / "01_small.py").write_text(text)
    return build.Course(folder)


def edit(course: build.Course, old: str, new: str) -> None:
    path = course.paths()[0]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def products(course: build.Course) -> list[bytes]:
    return [(folder / "01_small.ipynb").read_bytes() for folder in (course.notebooks, course.solutions)]


def load(folder: Path):
    return nbformat.read(folder / "01_small.ipynb", as_version=4)


def cell_of(notebook, text: str):
    return next(cell for cell in notebook.cells if text in cell.source)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    course = course_with(tmp_path_factory.mktemp("course"), FIXTURE.read_text())
    assert build.main([], course) == 0
    return course


@pytest.fixture
def course(built, tmp_path):
    """A copy of the built course that a test may spoil."""
    copy = course_with(tmp_path, built.paths()[0].read_text())
    for theirs, ours in ((built.notebooks, copy.notebooks), (built.solutions, copy.solutions)):
        ours.mkdir()
        (ours / "01_small.ipynb").write_bytes((theirs / "01_small.ipynb").read_bytes())
    return copy


@pytest.fixture
def no_kernel(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a notebook was executed")

    monkeypatch.setattr(build, "execute", refuse)


# What a learner gets


def test_region_becomes_one_line(built):
    soften = cell_of(load(built.notebooks), "def soften").source.split("\n")
    assert soften[2:] == ['    raise NotImplementedError("Replace this line with your code.")']


def test_stub_region_is_uncommented(built):
    learner = load(built.notebooks)
    assert cell_of(learner, "def entropy").source.split("\n")[1:] == [
        "    total = 0.0",
        '    raise NotImplementedError("Add the terms up.")',
    ]
    repair = cell_of(learner, "def cross_entropy").source
    assert "q * math.log(p)" in repair and "return sum(terms)" in repair and "# terms" not in repair


def test_learner_gets_no_answer_and_no_output(built):
    learner = load(built.notebooks)
    text = (built.notebooks / "01_small.ipynb").read_text()
    for secret in ("SOLUTION", "STUB", "HIDDEN TESTS", "secret probe", "p * math.log(q)", "**Why.**"):
        assert secret not in text
    for cell in learner.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None)


def test_nbgrader_metadata_is_complete(built):
    learner = load(built.notebooks)
    assert cell_of(learner, "def soften(").metadata.nbgrader == {
        "schema_version": 3,
        "grade_id": "soften",
        "grade": False,
        "solution": True,
        "locked": False,
        "task": False,
    }
    check = cell_of(learner, "def softens").metadata
    assert check.nbgrader == {
        "schema_version": 3,
        "grade_id": "check-soften",
        "grade": True,
        "solution": False,
        "locked": True,
        "task": False,
        "points": 2,
    }
    assert check.editable is False and check.deletable is False
    assert cell_of(learner, "## Soften").metadata == {}
    assert cell_of(learner, "on purpose").metadata == {"tags": ["raises-exception"]}


def test_source_notebook_has_everything_for_grading(built):
    source = build.source_notebook(read(built.paths()[0]))
    text = "\n".join(cell.source for cell in source.cells)
    assert "### BEGIN SOLUTION" in text and "secret probe" in text and "**Why.**" not in text


# What the solution holds


def test_solution_is_solved_and_explained(built):
    solution = load(built.solutions)
    text = "\n".join(cell.source for cell in solution.cells)
    assert "p * math.log(q)" in text and "**Why.**" in text
    assert "###" not in text.replace("## ", "") and "q * math.log(p)" not in text and "secret probe" not in text
    for check in ("def softens", "def adds_up", "def is_repaired"):
        assert cell_of(solution, check).outputs[0].text == "right\n"


def test_outputs_are_light_and_anonymous(built):
    text = (built.solutions / "01_small.ipynb").read_text()
    solution = load(built.solutions)
    outputs = cell_of(solution, "plt.plot").outputs
    assert {kind for output in outputs for kind in output.get("data", {})} == {"image/png", "text/plain"}
    figure = next(output.data["image/png"] for output in outputs if "data" in output)
    assert Image.open(io.BytesIO(base64.b64decode(figure))).mode == "P"
    assert "scale laptop, store $KDLAB_HOME" in text and "shown on purpose, in $KDLAB/solutions" in text
    assert str(built.root) not in text and "widget-view" not in text and "stderr" not in text
    assert set(solution.metadata) == {"kdlab", "kernelspec", "language_info"}
    assert "version" not in solution.metadata.language_info


def test_light_png_is_kept_only_when_smaller():
    def encoded(image, **options):
        raw = io.BytesIO()
        image.save(raw, "PNG", **options)
        return base64.b64encode(raw.getvalue()).decode()

    bilevel = encoded(Image.new("1", (8, 8)), optimize=True)
    assert light_png(bilevel) == bilevel
    colourful = encoded(Image.radial_gradient("L").convert("RGBA"), compress_level=0)
    assert len(light_png(colourful)) < len(colourful) / 2


# Rebuilding


def test_same_lesson_same_bytes(course, no_kernel):
    before = products(course)
    assert build.main([], course) == 0
    assert products(course) == before


def test_ids_are_unique_and_follow_the_content(built):
    learner, solution = load(built.notebooks), load(built.solutions)
    for notebook in (learner, solution):
        assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert cell_of(learner, "## Soften").id == cell_of(solution, "## Soften").id
    assert cell_of(learner, "def soften(").id != cell_of(solution, "def soften(").id


def test_equal_cells_get_different_ids(tmp_path):
    lesson = course_with(tmp_path, "# %%\nx = 1\n\n# %%\nx = 1\n").lessons()[0]
    first, second = build.learner_notebook(lesson).cells
    assert first.source == second.source and first.id != second.id


def test_new_text_keeps_the_outputs(course, no_kernel):
    outputs = cell_of(load(course.solutions), "plt.plot").outputs
    edit(course, "## A figure and a widget", "## A widget and a figure")
    assert build.main([], course) == 0
    assert cell_of(load(course.solutions), "## A widget and a figure")
    assert cell_of(load(course.solutions), "plt.plot").outputs == outputs


@pytest.mark.parametrize("change", ["code", "package", "force"])
def test_what_can_change_a_result_is_executed_again(change, course, monkeypatch):
    executed = []
    monkeypatch.setattr(build, "execute", lambda *arguments: executed.append(arguments) or 1.0)
    if change == "code":
        edit(course, "A straight line", "A line")
    if change == "package":
        monkeypatch.setattr(build._digests, "of_code", lambda lesson: "another version of kdlab")
    assert build.main(["--force"] if change == "force" else [], course) == 0
    assert len(executed) == 1


def test_failing_cell_is_named_and_nothing_is_written(course, capsys):
    before = products(course)
    edit(course, "plt.plot([0, 1], [0, 1])", "plt.plot([0, 1], [0, 1, 2])")
    line = next(n for n, text in enumerate(course.paths()[0].read_text().split("\n"), 1) if "plt.plot" in text)
    assert build.main([], course) == 1
    assert re.search(rf"01_small\.py:{line}: cell \d+ failed: ValueError: x and y", capsys.readouterr().err)
    assert products(course) == before
    assert [path.name for path in course.solutions.iterdir()] == ["01_small.ipynb"]


# The check


def test_untouched_course_passes(course, no_kernel, capsys):
    assert build.main(["--check"], course) == 0
    assert "up to date" in capsys.readouterr().out


def test_hand_edited_notebook_is_found(course, no_kernel, capsys):
    path = course.notebooks / "01_small.ipynb"
    path.write_text(path.read_text().replace("## Soften", "## Harden"))
    assert build.main(["--check"], course) == 1
    report = capsys.readouterr().out
    assert "notebooks/01_small.ipynb, cell 3" in report and "run make lessons" in report
    assert "-## Harden" in report and "+## Soften" in report


def test_changed_metadata_is_found(course):
    path = course.solutions / "01_small.ipynb"
    path.write_text(path.read_text().replace('"points": 2', '"points": 3'))
    (difference,) = build.check(course)
    assert "solutions/01_small.ipynb" in difference and '"points": 2' in difference


def test_changed_hidden_test_is_found(course):
    edit(course, "> 0.9", "> 0.99")
    (difference,) = build.check(course)
    assert "built from another version" in difference


def test_stored_output_of_a_learner_is_found(course):
    learner = load(course.notebooks)
    learner.cells[1].execution_count = 1
    nbformat.write(learner, course.notebooks / "01_small.ipynb")
    assert "has outputs or a count" in build.check(course)[0]


def test_missing_and_stray_notebooks_are_found(course):
    (course.solutions / "01_small.ipynb").rename(course.solutions / "02_gone.ipynb")
    report = "\n".join(build.check(course))
    assert "solutions/01_small.ipynb: missing" in report and "no lessons/02_gone.py" in report


def test_draft_at_another_scale_is_found(course):
    path = course.solutions / "01_small.ipynb"
    path.write_text(path.read_text().replace('"scale": "laptop"', '"scale": "smoke"'))
    assert "executed at scale 'smoke'" in build.check(course)[0]


# What is refused, and where

SHORT = "    ### BEGIN STUB\n    # return 2\n    ### END STUB\n"
REFUSED = {
    "unknown check": (CHECK, 1, "unknown exercise 'a'"),
    "duplicated exercise": (EXERCISE + CHECK + EXERCISE + CHECK, 10, "exercise 'a' occurs twice"),
    "duplicated check": (EXERCISE + CHECK + CHECK, 10, "check 'a' occurs twice"),
    "exercise without check": (EXERCISE + "# %% [markdown]\n# text\n", 1, "no check right after it"),
    "exercise at the end": (EXERCISE, 1, "no check right after it"),
    "check without points": (EXERCISE + CHECK.replace(" points=1", ""), 7, "without points"),
    "check worth nothing": (EXERCISE + CHECK.replace("=1", "=0"), 7, "without points"),
    "unknown key": ("# %% excercise='a'\nx = 1\n", 1, "unknown cell key excercise"),
    "points elsewhere": ("# %% points=2\nx = 1\n", 1, "points= belongs on a check"),
    "answer to nothing": ('# %% [markdown] solution="b"\n# text\n', 1, "unknown exercise 'b'"),
    "two roles": ('# %% exercise="a" check="a"\nx = 1\n', 1, "not exercise and check"),
    "exercise in text": ('# %% [markdown] exercise="a"\n# text\n', 1, "belongs on a code cell"),
    "no id": ('# %% exercise="a b"\nx = 1\n', 1, "'a b' is no id"),
    "no end": (EXERCISE.replace("    ### END SOLUTION\n", "") + CHECK, 3, "without its ### END SOLUTION"),
    "no begin": (EXERCISE.replace("    ### BEGIN SOLUTION\n", "") + CHECK, 4, "without its ### BEGIN SOLUTION"),
    "nested": (EXERCISE.replace("return 1", "### BEGIN SOLUTION") + CHECK, 4, "has not ended"),
    "misspelt": (EXERCISE.replace("### BEGIN", "# BEGIN") + CHECK, 3, "expected a marker alone"),
    "no solution": ('# %% exercise="a"\ndef f(): ...\n\n' + CHECK, 1, "has no ### BEGIN SOLUTION"),
    "solution elsewhere": ("# %%\nx = 1\n### BEGIN SOLUTION\n### END SOLUTION\n", 3, "outside an exercise"),
    "solution in text": ("# %% [markdown]\n# ### BEGIN SOLUTION\n# ### END SOLUTION\n", 2, "outside an exercise"),
    "hidden tests elsewhere": ("# %%\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS\n", 2, "outside a check"),
    "does not compile": ("# %%\nx = 1\n\n# %%\ny = x +* 2\n", 5, "does not compile"),
    "stub does not compile": (
        EXERCISE.replace("    ### BEGIN", SHORT.replace("return", "return +*") + "    ### BEGIN").replace(
            '"a"', '"a" bug=true'
        )
        + CHECK,
        1,
        "does not compile as a stub",
    ),
    "stub line not in the solution": (
        EXERCISE.replace("    ### BEGIN", SHORT + "    ### BEGIN") + CHECK,
        4,
        "stub line does not occur in its solution: 'return 2'",
    ),
    "stub that never raises": (
        EXERCISE.replace("    ### BEGIN", SHORT.replace("2", "1") + "    ### BEGIN") + CHECK,
        1,
        "never raises NotImplementedError",
    ),
    "stub without solution": (
        EXERCISE.replace("    ### END SOLUTION\n", "    ### END SOLUTION\n" + SHORT) + CHECK,
        6,
        "f",
    ),
    "stub that is code": (
        EXERCISE.replace("    ### BEGIN", SHORT.replace("# return", "return") + "    ### BEGIN") + CHECK,
        4,
        "a stub line is a comment",
    ),
    "raise at once": (
        '# %% exercise="a"\n### BEGIN SOLUTION\nf = int\n### END SOLUTION\n\n' + CHECK,
        1,
        "raises as soon as its cell runs",
    ),
    "text before the first cell": ("x = 1\n\n# %%\ny = 1\n", 1, "start with '# %%'"),
}


@pytest.mark.parametrize(("text", "line", "why"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_line(text, line, why, tmp_path):
    course = course_with(tmp_path, text)
    with pytest.raises(BuildError) as refused:
        course.lessons()
    assert str(refused.value).startswith(f"{course.paths()[0]}:{line}: "), refused.value
    assert why in str(refused.value)


def test_cell_marker_inside_a_string_is_none(tmp_path):
    (cell,) = course_with(tmp_path, '# %%\ntext = """\n# %% no cell\n"""\n').lessons()[0].cells
    assert "no cell" in cell.source


def test_bug_need_not_occur_in_its_solution(tmp_path):
    text = EXERCISE.replace('"a"', '"a" bug=true').replace("    ### BEGIN", SHORT + "    ### BEGIN") + CHECK
    lesson = course_with(tmp_path, text).lessons()[0]
    assert build.learner_notebook(lesson).cells[0].source == "def f():\n    return 2"
    assert build.solution_notebook(lesson).cells[0].source == "def f():\n    return 1"


def test_unknown_number_is_refused(course, capsys):
    assert build.main(["7"], course) == 1
    assert "no lesson 07" in capsys.readouterr().err


# What an execution depends on


@pytest.fixture
def package(tmp_path):
    files = {
        "__init__.py": "",
        "used.py": '"""Text."""\nfrom . import deeper\nvalue = 1\n',
        "deeper.py": "value = 2\n",
        "unused.py": "value = 3\n",
        "check/__init__.py": "import importlib\n",
        "check/lesson01/soften.py": "from pack.check import probes\nvalue = 4\n",
        "check/lesson02/hint.py": "value = 5\n",
        "check/probes.py": "value = 6\n",
    }
    for name, text in files.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pack"


@pytest.mark.parametrize(
    ("name", "text", "matters"),
    [
        ("used.py", '"""Other text."""\nfrom . import deeper\n\n# why\nvalue = 1\n', False),
        ("used.py", "from . import deeper\nvalue = 10\n", True),
        ("deeper.py", "value = 20\n", True),
        ("unused.py", "value = 30\n", False),
        ("check/lesson01/soften.py", "from pack.check import probes\nvalue = 40\n", True),
        ("check/lesson02/hint.py", "value = 50\n", False),
        ("check/probes.py", "value = 60\n", True),
    ],
)
def test_only_reached_code_matters(name, text, matters, package, tmp_path):
    lesson = course_with(tmp_path, "# %%\nfrom pack import check, used\n").lessons()[0]
    before = _digests.of_code(lesson, package)
    (package / name).write_text(text)
    assert (_digests.of_code(lesson, package) != before) is matters
