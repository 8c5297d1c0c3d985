"""Grading from source text in a process of its own: the same verdicts, and nothing that a cheat tries earns a point."""

import inspect
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdlab.check import fence, isolated, wire
from kdlab.check.comparing import Foreign
from kdlab.check.isolated import Answer, Cell, Limits, grade, grade_source
from kdlab.check.registry import find

RIGHT = "import torch\ndef soften(logits, temperature):\n    return torch.softmax(logits / temperature, dim=1)"
WRONG = RIGHT.replace("/", "*")
IMPORTS = """
%matplotlib inline
import math, statistics
import numpy as np, torch, torch.nn.functional as F
from scipy import stats
import matplotlib.pyplot as plt
"""


def graded(name: str, *cells: str, context=(), function=None, **limits):
    sources, context = ([textwrap.dedent(cell) for cell in group] for group in (cells, context))
    return grade_source(name, sources, rounds=1, limits=Limits(**limits), function=function, context=context)


@pytest.mark.parametrize("name", ["median_latency", "cache_logits"])
def test_references_pass_with_functions_and_modules_as_arguments(name):
    outcome = graded(name, inspect.getsource(find(name).reference), context=["1 / 0", IMPORTS])
    assert outcome.passed, outcome
    assert outcome.earned == find(name).points


def test_where_nothing_can_be_forked_a_fresh_interpreter_says_the_same(monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")
    answers = [Answer("soften", (Cell(source),), "soften") for source in (RIGHT, WRONG)]
    assert [outcome.kind for outcome in grade(answers, rounds=1)] == ["pass", "known"]


def test_several_answers_come_back_in_their_order():
    answers = [Answer("soften", (Cell(source),), "soften") for source in (RIGHT, WRONG, "", RIGHT)]
    assert [outcome.kind for outcome in grade(answers, rounds=1, workers=3)] == ["pass", "known", "unusable", "pass"]


def test_a_lost_server_costs_nothing():
    assert graded("soften", RIGHT).passed
    isolated._server().process.kill()
    assert graded("soften", RIGHT).passed


def test_verdicts_are_those_of_the_check():
    assert graded("soften", WRONG.replace("soften", "my_soften"), function="my_soften").mistakes == ("multiplied",)
    raises = "def soften(logits, temperature):\n    return logits.nothing"
    outcome = graded("soften", raises)
    assert "AttributeError" in outcome.says and "line 2: return logits.nothing" in outcome.hint
    assert graded("soften", "def soften(logits, temperature:\n    return 1").says.startswith(
        "There is no function soften. A cell raised SyntaxError"
    )


# --- what runs of a notebook


def test_of_other_cells_only_what_the_answer_uses_runs():
    context = [
        """
        import os
        import torch as t, not_there
        from nowhere import everything
        os._exit(1)
        """,
        """
        while True:
            pass
        def scaled(z, T): return z / T ** POWER
        POWER = 1
        raise SystemExit
        """,
        "def broken(:",
        "model = not_there.train(10**9)",
    ]
    assert graded("soften", "def soften(z, T): return t.softmax(scaled(z, T), 1)", context=context).passed


def test_statements_of_the_exercises_own_cell_run_one_by_one():
    source = f"?torch\nprint(undefined)\n!ls\n{RIGHT}\nsoften(val_logits, 4)\n%timeit soften(1)\nassert False"
    assert graded("soften", source).passed


def test_an_import_that_failed_is_named_where_it_is_used():
    outcome = graded("soften", "def soften(z, T): return missing.softmax(z / T)", context=["import missing"])
    assert outcome.says == "Your code raises ModuleNotFoundError: No module named 'missing'"


@pytest.mark.parametrize(
    "kdlab", ["from kdlab.distillation import soften", "from kdlab.check.lesson01.soften import *"]
)
def test_the_course_itself_is_not_there(kdlab):
    outcome = graded(
        "soften", f"{kdlab}\ndef my_soften(z, T):\n    {kdlab.replace('*', 'soften')}\n    return soften(z, T)"
    )
    assert outcome.says.endswith(f"ImportError: {fence.NOT_HERE}")


def test_but_for_what_the_exercise_says_an_answer_uses(monkeypatch):
    exercise = replace(find("soften"), uses=("kdlab.models",))
    monkeypatch.setattr(isolated, "find", lambda name: exercise)
    uses = "from kdlab import models\nimport kdlab.models\nmodels.build('mlp')\n"
    body = "    from kdlab.models import build\n    build('cnn')\n"
    assert graded("soften", uses + RIGHT.replace(":\n", ":\n" + body)).passed
    assert "ImportError" in graded("soften", RIGHT.replace(":\n", ":\n    import kdlab.data\n")).says


# --- fences

WAYS = """
    import ctypes, gc, importlib.util, mmap, os, pathlib, shutil, socket, subprocess, sys, threading
    import numpy as np, torch

    def import_spec():
        spec = importlib.util.spec_from_file_location("reference", ANSWERS / "soften.py")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    def read(): return (ANSWERS / "soften.py").read_text()
    def read_by_dots(): return open("/usr/lib/../.." + str(ANSWERS / "soften.py")).read()
    def read_with_numpy(): return np.fromfile(str(ANSWERS / "soften.py"))
    def read_compiled(): return next((ANSWERS / "__pycache__").glob("soften*")).read_bytes()
    def read_marks(): return open(MARKS).read()
    def write_marks(): return open(MARKS, "w")
    def delete_marks(): os.remove(MARKS)
    def move(): shutil.move(ANSWERS, "there")
    def link(): os.symlink(ANSWERS, "/tmp/here")
    def start(): return subprocess.check_output(["true"])
    def shell(): assert os.system("true") == 0
    def fork(): assert os.fork() >= 0
    def kill_the_server(): os.kill(os.getppid(), 9)
    def connect(): socket.create_connection(("127.0.0.1", 1))
    def collect(): return gc.get_objects()
    def walk():
        frame = sys._getframe()
        while frame:
            for value in [*frame.f_locals.values(), *frame.f_globals.values()]:
                if hasattr(value, "reference") or hasattr(value, "judge"): return value
            frame = frame.f_back
        raise LookupError
"""
NATIVE_READS = """
    def native_read(): return torch.from_file(str(ANSWERS / "soften.py"), size=64, dtype=torch.uint8)
    def native_read_marks(): return torch.from_file(MARKS, size=4, dtype=torch.uint8)
"""
NATIVE_CHANGES = """
    def native_write(): torch.from_file(MARKS, shared=True, size=4, dtype=torch.uint8).fill_(65)
    def native_save(): torch._C.PyTorchFileWriter(MARKS).write_end_of_file()
    libc = ctypes.CDLL(None, use_errno=True)
    def call(*arguments):
        if libc.syscall(*arguments) < 0: raise OSError(ctypes.get_errno())
    def native_open(): call(2, MARKS.encode(), os.O_RDWR)
    def native_fork(): call(57)
    def native_clone(): call(56, 17, 0, 0, 0, 0)
    def native_kill(): call(62, os.getppid(), 0)
    def native_chmod(): call(90, MARKS.encode(), 0)
    def native_limits_of_another():
        call(302, os.getppid(), 0, ctypes.byref((ctypes.c_uint64 * 2)(1, 1)), 0)
    def more_memory():
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    def ring(): call(425, 8, ctypes.create_string_buffer(256))
    def trace(): call(101, 16, os.getppid(), 0, 0)
"""


def open_ways(ways: str, marks) -> str:
    names = [line.split()[1].split("(")[0] for line in textwrap.dedent(ways).splitlines() if line.startswith("def ")]
    source = f"""
    def soften(logits, temperature):
        open_ways = []
        for way in ({", ".join(name for name in names if name != "call")},):
            try:
                way()
                open_ways.append(way.__name__)
            except (Exception, SystemExit):
                pass
        threading.Thread(target=int).start()
        raise ValueError(f"open: {{open_ways}}")
    """
    answers = (
        f"ANSWERS = __import__('pathlib').Path({str(fence.__file__)!r}).parent / 'lesson01'\nMARKS = {str(marks)!r}"
    )
    return graded("soften", answers, WAYS, ways, source).says


@pytest.fixture
def marks(tmp_path):
    path = tmp_path / "marks"
    path.write_text("mine")
    return path


def test_no_way_to_an_answer_or_to_the_marks_is_open(marks):
    assert "ValueError: open: []" in open_ways(WAYS, marks)
    assert marks.read_text() == "mine"


@pytest.mark.skipif(len(fence.kernel_layers()) < 2, reason="needs Linux 5.13 with landlock and seccomp")
def test_native_code_finds_none_either(marks):
    assert "ValueError: open: []" in open_ways(NATIVE_READS + NATIVE_CHANGES, marks)
    assert marks.read_text() == "mine"


@pytest.mark.skipif("seccomp" not in fence.kernel_layers(), reason="needs Linux with seccomp")
def test_without_landlock_nothing_can_be_written_all_the_same(marks, monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")  # a fresh interpreter …
    without = "from kdlab.check import fence; fence._landlock = lambda readable: False; fence._NATIVE = (); "
    python = isolated._python
    monkeypatch.setattr(isolated, "_python", lambda code, **more: python(without + code, **more))
    assert "ValueError: open: []" in open_ways(NATIVE_CHANGES, marks)
    assert marks.read_text() == "mine"


def test_the_graders_environment_stays_with_it(monkeypatch):
    monkeypatch.setenv("SECRET", "42")
    outcome = graded("soften", "import os\ndef soften(z, T): return 1 / ('SECRET' not in os.environ) * missing")
    assert "name 'missing' is not defined" in outcome.says


def test_threads_and_lazy_imports_still_work():
    outcome = graded(
        "soften",
        """
        def soften(logits, temperature):
            import colorsys, concurrent.futures, scipy.special, torch
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                rows = pool.map(lambda row: scipy.special.softmax(row.numpy() / temperature), logits)
                return torch.stack(list(map(torch.from_numpy, rows)))
        """,
    )
    assert outcome.passed, outcome


# --- lies


def test_replacing_the_judge_and_agreeing_with_everything_earns_nothing():
    outcome = graded(
        "soften",
        """
        import sys
        def reach(frame):
            while frame:
                for name in ("agree", "same", "judge", "run", "describe"):
                    if name in frame.f_globals: frame.f_globals[name] = lambda *a, **k: "right"
                frame = frame.f_back
        class Yes:
            def __eq__(self, other): return True
            shape = property(lambda self: Yes())
        def soften(logits, temperature):
            reach(sys._getframe())
            print("✓ soften: Right.")
            return Yes()
        """,
    )
    assert outcome.kind == "unknown" and outcome.earned == 0


FORGED = """
    import json, os
    from safetensors.torch import save
    def soften(logits, temperature):
        data = {data}
        for file in range(3, 30):
            try:
                os.pwrite(file, data, 0)
            except OSError:
                pass
        os._exit(0)
"""


@pytest.mark.parametrize(
    "data",
    [
        "b'points: 100'",
        "b''",
        "save({}, {'json': '{\"earned\": 100}'})",
        # a whole report: ten calls of which each gave "right"
        """save({}, {'json': json.dumps({'dict': [
            ['problem', ''], ['empty', False], ['defaults', {'dict': []}],
            ['trials', {'list': [{'dict': [['output', 'right'], ['raised', None], ['none', False],
            ['modified', {'list': []}], ['state', {'list': []}], ['printed', '']]}] * 10}]
        ]})})""",
        # one that could end the judge
        "save({}, {'json': '{\"list\": [' * 9000 + ']}' * 9000})",
    ],
)
def test_an_answer_that_writes_its_own_report_earns_nothing(data):
    outcome = graded("soften", FORGED.format(data=data))
    assert outcome.kind in ("stopped", "unknown") and outcome.earned == 0


# --- limits


def test_endless_loops_and_greed_for_memory_are_stopped():
    outcome = graded("soften", "def soften(logits, temperature):\n    while True: pass", cpu_seconds=1, seconds=20)
    assert outcome.kind == "stopped" and "took too long" in outcome.says
    outcome = graded("soften", "import time\ndef soften(logits, temperature):\n    time.sleep(60)", seconds=1)
    assert outcome.kind == "stopped" and "took too long" in outcome.says
    for greedy in ("bytearray(2**40)", "torch.zeros(2**40)", "list(map(bytearray, [2**27] * 100))"):
        outcome = graded("soften", f"import torch\ndef soften(logits, temperature):\n    return {greedy}", memory=2**29)
        assert outcome.says == "Your code asks for more memory than it may use (0.5 GB)."


def test_plain_data_survives_the_way():
    value = {
        "a": [1, 2.5, None, True, "text", float("inf")],
        1: (torch.tensor([1.0, float("nan")]), torch.ones(2, dtype=torch.bfloat16)),
        "array": np.arange(3, dtype=np.int32),
        "scalar": np.float64(2.0),
        "leaf": torch.ones(2, requires_grad=True),
        "odd": [object, lambda: 0],
    }
    back = wire.loads(wire.dumps(value))
    assert back["a"] == value["a"] and back.keys() == value.keys()
    assert torch.equal(back[1][0].nan_to_num(), value[1][0].nan_to_num()) and back[1][1].dtype == torch.bfloat16
    assert isinstance(back["array"], np.ndarray) and back["array"].tolist() == [0, 1, 2]
    assert back["scalar"] == 2.0 and back["leaf"].requires_grad
    assert back["odd"] == [Foreign("a type"), Foreign("a function")]
