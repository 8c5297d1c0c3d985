"""The progress view: which exercises pass, said without running a student's code in this process."""

import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from kdlab.__main__ import main
from kdlab.classroom import progress

ROOT = Path(__file__).parents[1]
NAME = "01_knowledge_distillation.ipynb"


@pytest.fixture
def notebook(tmp_path):
    """A half-done notebook: one exercise right, one wrong, one looks into this process, one untouched."""
    found = nbformat.read(ROOT / "notebooks" / NAME, as_version=4)
    solved = nbformat.read(ROOT / "solutions" / NAME, as_version=4)
    answers = {name_of(cell): cell.source for cell in solved.cells if name_of(cell)}
    for cell in found.cells:
        if name_of(cell) == "soften":
            cell.source = answers["soften"].replace(" / ", " * ")
        if name_of(cell) == "cache_logits":
            cell.source = answers["cache_logits"]
        if name_of(cell) == "distillation_loss":
            cell.source = (
                f"import os\nopen({str(tmp_path / 'was_here')!r}, 'w')\nos._exit({os.getpid()} == os.getpid())"
            )
    path = tmp_path / "anna" / NAME
    path.parent.mkdir()
    nbformat.write(found, path)
    return path


def name_of(cell) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id", "")


def test_it_says_for_each_exercise_where_it_stands(notebook, tmp_path, capsys):
    assert main(["progress", str(tmp_path), "--why"]) == 0
    printed = capsys.readouterr().out
    line, *why = printed.splitlines()
    assert line.startswith(f"{notebook}: 3 of 11 points")
    assert line.endswith("✗ soften  ✓ cache_logits  ✗ distillation_loss  ○ repaired_loss")
    assert "The temperature multiplies the logits" in why[0]
    assert not (tmp_path / "was_here").exists()


def test_the_solutions_pass_and_a_deleted_check_is_missing(tmp_path):
    path = tmp_path / NAME
    shutil.copy(ROOT / "solutions" / NAME, path)
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    cells.remove(next(c for c in cells if c["metadata"].get("nbgrader", {}).get("grade_id") == "check-soften"))
    path.write_text(json.dumps(notebook))
    states = {row.exercise: row.state for row in progress.rows(path)}
    assert states.pop("soften") == "missing" and set(states.values()) == {"passes"}


def test_one_check_cannot_stand_in_for_another(tmp_path):
    text = (
        (ROOT / "solutions" / NAME).read_text().replace("check.repaired_loss(repaired_loss)", "check.soften(my_soften)")
    )
    (tmp_path / NAME).write_text(text)
    assert {row.exercise: row.state for row in progress.rows(tmp_path / NAME)}["repaired_loss"] == "missing"


def test_what_is_no_notebook_is_named(tmp_path, notebook, capsys):
    (tmp_path / "broken.ipynb").write_text("{")
    assert main(["progress", str(tmp_path / "broken.ipynb"), str(notebook)]) == 1
    printed = capsys.readouterr()
    assert "is no notebook" in printed.err and "3 of 11 points" in printed.out
    assert main(["progress", str(tmp_path / "nowhere")]) == 1
    (tmp_path / "empty").mkdir()
    assert main(["progress", str(tmp_path / "empty")]) == 1
