"""Grading from source text in a process of its own: the same verdicts, and nothing that a cheat tries earns a point."""

import inspect
import textwrap

import numpy as np
import pytest
import torch

from kdlab.check import wire
from kdlab.check.comparing import Foreign
from kdlab.check.isolated import Limits, grade_source
from kdlab.check.registry import find

WRONG = "import torch\ndef soften(logits, temperature):\n    return torch.softmax(logits * temperature, dim=1)"


def graded(name: str, *cells: str, **limits):
    function = limits.pop("function", None)
    sources = [textwrap.dedent(cell) for cell in cells]
    return grade_source(name, sources, rounds=1, limits=Limits(**limits), function=function)


@pytest.mark.parametrize("name", ["median_latency", "cache_logits"])
def test_references_pass_with_functions_and_modules_as_arguments(name):
    reference = inspect.getsource(find(name).reference)
    imports = """
    import math, statistics
    import numpy as np, torch, torch.nn.functional as F
    from scipy import stats
    """
    outcome = graded(name, "1 / 0", "%matplotlib inline\n" + textwrap.dedent(imports), reference)
    assert outcome.passed, outcome
    assert outcome.earned == find(name).points


def test_verdicts_are_those_of_the_check():
    assert graded("soften", WRONG.replace("soften", "my_soften"), function="my_soften").mistakes == ("multiplied",)
    raises = "def soften(logits, temperature):\n    return logits.nothing"
    outcome = graded("soften", raises)
    assert "AttributeError" in outcome.says and "line 2: return logits.nothing" in outcome.hint
    assert graded("soften", "import not_there").says == (
        "There is no function soften. A cell raised ModuleNotFoundError: No module named 'not_there'"
    )


def test_no_way_to_the_reference_is_open():
    outcome = graded(
        "soften",
        """
        import gc, os, pathlib, shutil, subprocess, sys
        import kdlab.check

        folder = pathlib.Path(kdlab.check.__file__).parent / "lesson01"
        def imported():
            from kdlab.check.lesson01.soften import soften
            return soften
        def found():
            return kdlab.check.registry.find("soften").reference
        def read():
            return (folder / "soften.py").read_text()
        def read_under_another_name():
            os.symlink(folder, "here")
            return pathlib.Path("here/soften.py").read_text()
        def copied():
            shutil.move(folder, "there")
        def started():
            return subprocess.check_output(["cat", folder / "soften.py"])
        def shell():
            assert os.system("true") == 0
        def forked():
            assert os.fork() >= 0
        def framed():
            frame = sys._getframe()
            while frame:
                for value in list(frame.f_locals.values()):
                    if hasattr(value, "reference"): return value.reference
                frame = frame.f_back
            raise LookupError
        def collected():
            return gc.get_objects()
        """,
        """
        open_ways = []
        for way in (imported, found, read, read_under_another_name, copied, started, shell, forked, framed, collected):
            try:
                way()
                open_ways.append(way.__name__)
            except Exception:
                pass
        def soften(logits, temperature):
            raise ValueError(f"open: {open_ways}")
        """,
    )
    assert "ValueError: open: []" in outcome.says


def test_replacing_the_judge_and_agreeing_with_everything_earns_nothing():
    outcome = graded(
        "soften",
        """
        import kdlab.check, kdlab.check.judging, kdlab.check.calling, kdlab.check.comparing
        for module in (kdlab.check, kdlab.check.judging, kdlab.check.calling, kdlab.check.comparing):
            for name in ("agree", "same", "judge", "run"):
                setattr(module, name, lambda *a, **k: True)
        class Yes:
            def __eq__(self, other): return True
            shape = property(lambda self: Yes())
        def soften(logits, temperature):
            print("✓ soften: Right.")
            return Yes()
        """,
    )
    assert outcome.kind == "unknown" and outcome.earned == 0
    assert "received a Yes" in outcome.says


def test_leaving_early_with_an_answer_of_its_own_earns_nothing():
    outcome = graded(
        "soften",
        """
        import os, pathlib
        def soften(logits, temperature):
            pathlib.Path("answer").write_text("points: 100")
            os._exit(0)
        """,
    )
    assert outcome.kind == "stopped" and outcome.earned == 0


def test_endless_loop_and_greed_for_memory_are_stopped():
    outcome = graded("soften", "def soften(logits, temperature):\n    while True: pass", cpu_seconds=1, seconds=20)
    assert outcome.kind == "stopped" and "took too long" in outcome.says
    outcome = graded("soften", "def soften(logits, temperature):\n    return bytearray(2**40)")
    assert "MemoryError" in outcome.says


def test_the_grader_keeps_its_secrets_and_its_files(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", "42")
    target = tmp_path / "marks"
    target.write_text("mine")
    cells = f"""
        import os
        def soften(logits, temperature):
            assert "SECRET" not in os.environ
            open({str(target)!r}, "w").write("stolen")
    """
    outcome = graded("soften", cells)
    assert "PermissionError" in outcome.says
    assert target.read_text() == "mine"


def test_plain_data_survives_the_way(tmp_path):
    value = {
        "a": [1, 2.5, None, True, "text", float("inf")],
        1: (torch.tensor([1.0, float("nan")]), torch.ones(2, dtype=torch.bfloat16)),
        "array": np.arange(3, dtype=np.int32),
        "scalar": np.float64(2.0),
        "leaf": torch.ones(2, requires_grad=True),
        "odd": [object, lambda: 0],
    }
    wire.write(tmp_path / "file", value)
    back = wire.read(tmp_path / "file")
    assert back["a"] == value["a"] and back.keys() == value.keys()
    assert torch.equal(back[1][0].nan_to_num(), value[1][0].nan_to_num()) and back[1][1].dtype == torch.bfloat16
    assert isinstance(back["array"], np.ndarray) and back["array"].tolist() == [0, 1, 2]
    assert back["scalar"] == 2.0 and back["leaf"].requires_grad
    assert back["odd"] == [Foreign("a type"), Foreign("a function")]
