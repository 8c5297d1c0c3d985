"""Notebooks as students hand them in, made from a released one; among them everything that a cheat may try."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

import build
from _markers import solved_source
from kdlab.check.registry import find


class Course:
    """A course folder, and nbgrader's own commands in it."""

    def __init__(self, root: Path):
        self.root = root

    def nbgrader(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(self.command(*arguments), **self.surroundings(), capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr[-3000:]
        return done

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "nbgrader", *arguments]

    def surroundings(self) -> dict:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # nbgrader calls alembic
        return {"cwd": self.root, "env": {**os.environ, "PATH": path, "HOME": str(self.root)}}

    def released(self, lesson: str) -> NotebookNode:
        return nbformat.read(self.root / "release" / lesson / f"{lesson}.ipynb", as_version=4)

    def hand_in(self, student: str, lesson: str, notebook: NotebookNode | str, **files: str) -> None:
        folder = self.root / "submitted" / student / lesson
        folder.mkdir(parents=True)
        text = notebook if isinstance(notebook, str) else json.dumps(notebook)
        (folder / f"{lesson}.ipynb").write_text(text)
        for name, content in files.items():
            (folder / f"{name}.py").write_text(content)

    def scores(self, lesson: str) -> dict[str, dict[str, float | None]]:
        """Student -> check -> points; None if it was not graded."""
        from nbgrader.api import Gradebook, MissingEntry

        found = {}
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}") as book:
            for student in book.students:
                try:
                    grades = book.find_submission_notebook(lesson, lesson, student.id).grades
                except MissingEntry:
                    continue
                found[student.id] = {grade.name.removeprefix("check-"): grade.auto_score for grade in grades}
        return found

    def outputs(self, student: str, lesson: str) -> dict[str, list[NotebookNode]]:
        graded = nbformat.read(self.root / "autograded" / student / lesson / f"{lesson}.ipynb", as_version=4)
        checks = [cell for cell in graded.cells if name_of(cell).startswith("check-")]
        return {name_of(cell).removeprefix("check-"): cell.outputs for cell in checks}


def name_of(cell: NotebookNode) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def points(lesson: build.Lesson) -> dict[str, float]:
    return {cell.keys["check"]: float(cell.keys["points"]) for cell in lesson.cells if "check" in cell.keys}


def answered(released: NotebookNode, lesson: build.Lesson) -> NotebookNode:
    """The released notebook with every exercise solved."""
    notebook = copy.deepcopy(released)
    for cell in lesson.cells:
        if "exercise" in cell.keys:
            cell_named(notebook, cell.keys["exercise"]).source = solved_source(cell.source)
    return notebook


def cell_named(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if name_of(cell) == name)


def place_of(notebook: NotebookNode, name: str) -> int:
    return [name_of(cell) for cell in notebook.cells].index(name)


def with_answer(notebook: NotebookNode, source: str, *above: str) -> NotebookNode:
    """The notebook with this answer to the exercise `soften`, and cells above everything else."""
    changed = copy.deepcopy(notebook)
    cell_named(changed, "soften").source = source
    changed.cells[:0] = [new_code_cell(cell) for cell in above]
    return changed


WRONG = "def my_soften(logits, temperature):\n    return torch.softmax(logits, dim=1)"
_IN_THE_ANSWER = "def my_soften(logits, temperature):\n    "

# answers to `soften` in lesson 01, and cells above
CHEATS = {
    "replaces_the_check": (
        WRONG,
        "from kdlab import check\ncheck.soften = check.grade = lambda *a, **k: None\n"
        "import kdlab.check.judging as j\nj.judge = j.run = lambda *a, **k: True\nj.agree = lambda *a: True",
    ),
    "replaces_the_check_in_its_own_cell": (
        f"import kdlab.check.judging, kdlab.check.comparing\nkdlab.check.comparing.agree = lambda *a: True\n{WRONG}",
    ),
    "imports_the_reference": ("from kdlab.check.lesson01.soften import soften as my_soften",),
    "finds_the_reference": (
        _IN_THE_ANSWER
        + "from kdlab.check.registry import find\n    return find('soften').reference(logits, temperature)",
    ),
    "imports_the_library": ("from kdlab.distillation import soften as my_soften",),
    "calls_the_library": (
        "def my_soften(logits, temperature):\n    return soften(logits, temperature)",
        "from kdlab.distillation import soften",
    ),
    "loads_the_library_from_its_file": (
        _IN_THE_ANSWER + "import importlib.util, sys\n"
        "    spec = importlib.util.spec_from_file_location('l', {package!r} + '/distillation/soft_targets.py')\n"
        "    m = importlib.util.module_from_spec(spec); sys.modules['l'] = m; spec.loader.exec_module(m)\n"
        "    return m.soften(logits, temperature)",
    ),
    "reads_the_source": (
        _IN_THE_ANSWER + "import json\n"
        "    cells = json.load(open({course!r} + '/source/{lesson}/{lesson}.ipynb'))['cells']\n"
        "    code = next(c for c in cells if c['metadata'].get('nbgrader', {{}}).get('grade_id') == 'soften')\n"
        "    here = {{'torch': torch}}; exec(''.join(code['source']), here)\n"
        "    return here['my_soften'](logits, temperature)",
    ),
    "copies_a_neighbour": (
        _IN_THE_ANSWER + "text = bytes(torch.from_file({course!r} + '/submitted/reference/{lesson}/{lesson}.ipynb',"
        " size=2000, dtype=torch.uint8).tolist()).decode()\n    return text",
    ),
    "knows_the_visible_probes": (
        "ANSWERS = {answers!r}\n"
        "def my_soften(logits, temperature):\n"
        "    return torch.tensor(ANSWERS[str((logits.tolist(), temperature))])",
    ),
    "walks_the_frames": (
        _IN_THE_ANSWER + "import sys\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
        "            reference = getattr(value, 'reference', None)\n"
        "            if callable(reference): return reference(logits, temperature)\n"
        "            if hasattr(value, '_expected'): return value._expected(0)\n"
        "        frame = frame.f_back",
    ),
    "inspects_the_hidden_tests": (
        _IN_THE_ANSWER + "import inspect\n    return [inspect.getsource(f.frame) for f in inspect.stack()]",
    ),
    "asks_the_garbage_collector": (
        _IN_THE_ANSWER + "import gc\n    for value in gc.get_objects():\n"
        "        if getattr(value, '__name__', '') == 'soften': return value(logits, temperature)",
    ),
    "exits": (_IN_THE_ANSWER + "import os\n    os._exit(0)",),
    "exits_politely": (_IN_THE_ANSWER + "raise SystemExit(0)",),
    "exits_at_once": ("import os\nos._exit(0)\n" + WRONG,),
    "prints_a_pass": (
        _IN_THE_ANSWER + "print('✓ soften: Right.')",
        "print('✓ soften: Right.')",
    ),
    "shows_points": ("from IPython.display import display\ndisplay(2.0)\n2.0\n" + WRONG,),
    "agrees_with_everything": (
        "class Yes(torch.Tensor):\n    __eq__ = __ne__ = __le__ = __lt__ = lambda s, o: torch.tensor(True)\n"
        "def my_soften(logits, temperature):\n    return logits.as_subclass(Yes)",
    ),
    "replaces_torch": (
        "torch.equal = torch.allclose = lambda *a, **k: True\ntorch.Tensor.__eq__ = lambda s, o: torch.tensor(True)\n"
        "torch.Tensor.__sub__ = lambda s, o: torch.zeros(1)\n" + WRONG,
        "import torch\ntorch.allclose = lambda *a, **k: True",
    ),
    "replaces_builtins": (
        "import builtins, sys\nbuiltins.all = builtins.isinstance = lambda *a: True\n"
        "for name in list(sys.modules):\n    if 'kdlab' in name or 'safetensors' in name: sys.modules[name] = None\n"
        + WRONG,
    ),
    "writes_the_report": (
        _IN_THE_ANSWER + "import os\n    from safetensors.torch import save\n"
        "    for file in range(1, 60):\n        try: os.pwrite(file, save({{}}, {{'json': '{{\"earned\": 2}}'}}), 0)\n"
        "        except OSError: pass\n    os._exit(0)",
    ),
    "writes_from_a_thread": (
        "import os, threading, time\ndef write():\n    while True:\n        for file in range(1, 60):\n"
        "            try: os.pwrite(file, b'✓', 0)\n            except OSError: pass\n"
        "threading.Thread(target=write, daemon=True).start()\n" + WRONG,
    ),
    "changes_the_marks": (
        _IN_THE_ANSWER + "torch.from_file({course!r} + '/gradebook.db', shared=True, size=100, dtype=torch.uint8)"
        ".fill_(0)\n    return torch.softmax(logits, dim=1)",
    ),
    "kills_the_grader": (_IN_THE_ANSWER + "import os\n    os.kill(os.getppid(), 9)\n    os.killpg(0, 9)",),
    "loops": (_IN_THE_ANSWER + "while True: pass",),
    "takes_memory": (_IN_THE_ANSWER + "hoard = []\n    while True: hoard.append(torch.ones(10**7))",),
    "recurses": (_IN_THE_ANSWER + "return my_soften(logits, temperature)",),
    "fails_at_import": ("import there_is_no_such_module as t\n" + WRONG.replace("torch", "t"),),
}


def cheats(notebook: NotebookNode, course: Path, lesson: str) -> dict[str, NotebookNode]:
    """One notebook for each of CHEATS: right but for the exercise `soften`."""
    exercise = find("soften")
    known = {str((z.tolist(), T)): exercise.reference(z, T).tolist() for z, T in exercise.cases()}
    facts = {
        "answers": known,
        "course": str(course),
        "lesson": lesson,
        "package": str(Path(build.ROOT, "kdlab")),
    }
    made = {}
    for name, (answer, *above) in CHEATS.items():
        filled = answer.format(**facts) if "{" in answer else answer
        made[name] = with_answer(notebook, filled, *above)
    return made


# --- what is done to cells; the answer to `soften` is wrong


def _check(notebook: NotebookNode) -> NotebookNode:
    return cell_named(notebook, "check-soften")


def replaces_the_check_cell(notebook: NotebookNode) -> None:
    _check(notebook).source = "print('✓ soften: Right.')"


def deletes_the_check_cell(notebook: NotebookNode) -> None:
    notebook.cells.remove(_check(notebook))


def deletes_both_cells(notebook: NotebookNode) -> None:
    notebook.cells.remove(_check(notebook))
    notebook.cells.remove(cell_named(notebook, "soften"))


def calls_the_check_a_solution(notebook: NotebookNode) -> None:
    _check(notebook).metadata.nbgrader |= {"solution": True, "locked": False}
    _check(notebook).source = "pass"


def calls_the_check_ungraded(notebook: NotebookNode) -> None:
    _check(notebook).metadata.nbgrader |= {"grade": False, "locked": False}


def asks_for_more_points(notebook: NotebookNode) -> None:
    _check(notebook).metadata.nbgrader["points"] = 100


def turns_the_check_into_text(notebook: NotebookNode) -> None:
    at = place_of(notebook, "check-soften")
    old = notebook.cells[at]
    notebook.cells[at] = nbformat.v4.new_markdown_cell("2.0", metadata=old.metadata, attachments={"a": {}})


def brings_outputs(notebook: NotebookNode) -> None:
    _check(notebook).outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2.0"}, execution_count=1)]


def doubles_the_cells(notebook: NotebookNode) -> None:
    pair = [copy.deepcopy(cell_named(notebook, name)) for name in ("soften", "check-soften")]
    pair[1].source = "pass"
    at = place_of(notebook, "check-soften")
    notebook.cells[at + 1 : at + 1] = pair
    notebook.cells[:0] = copy.deepcopy(pair)


def swaps_the_names(notebook: NotebookNode) -> None:
    one, other = (cell_named(notebook, f"check-{name}").metadata.nbgrader for name in ("soften", "cache_logits"))
    one["grade_id"], other["grade_id"] = other["grade_id"], one["grade_id"]


def uses_an_old_format(notebook: NotebookNode) -> None:
    _check(notebook).metadata.nbgrader["schema_version"] = 1


def spoils_the_metadata(notebook: NotebookNode) -> None:
    _check(notebook).metadata.nbgrader = {"grade_id": "check-soften", "grade": True}
    notebook.cells[0].metadata.nbgrader = {}
    notebook.cells[1].metadata.nbgrader = {"grade_id": ["x"], "points": "many"}
    notebook.metadata.kdlab = {"graded": True}
    notebook.metadata.kernelspec = {"name": "no-such-kernel", "display_name": "?"}


TAMPERINGS = (
    *(replaces_the_check_cell, deletes_the_check_cell, deletes_both_cells, calls_the_check_a_solution),
    *(calls_the_check_ungraded, asks_for_more_points, turns_the_check_into_text, brings_outputs, doubles_the_cells),
    *(swaps_the_names, uses_an_old_format, spoils_the_metadata),
)


def tampered(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """One notebook for each of TAMPERINGS."""
    made = {}
    for change in TAMPERINGS:
        made[change.__name__] = with_answer(notebook, WRONG)
        change(made[change.__name__])
    return made
