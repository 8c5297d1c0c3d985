"""The committed notebooks: what they must be, and that they run without a network."""

import json
import runpy
from pathlib import Path

import nbformat
import pytest

import build
from _execution import execute
from kdlab import check

ROOT = Path(__file__).parents[1]
FIXTURES = Path(__file__).parent / "fixtures"
LESSONS = build.Course().paths()
NAMES = [path.stem for path in LESSONS]

TRIES_THE_NETWORK = """
import socket, subprocess, sys, urllib.request

def reach(probe):
    try:
        probe()
    except OSError as error:
        return str(error)
    return "reached"

by_address = reach(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1))
by_name = reach(lambda: urllib.request.urlopen("http://example.org", timeout=1))
assert "blocked: 192.0.2.1" in by_address, by_address
assert "blocked: example.org" in by_name, by_name

listening = socket.create_server(("127.0.0.1", 0))
assert reach(lambda: socket.create_connection(listening.getsockname(), timeout=5)) == "reached"

child = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
assert "blocked" in subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stderr
print("no network")
"""
USES_THE_DATA = """
from kdlab import data
print(len(data.load("fashion", scale="smoke").train))
"""


def notebook(folder: str, name: str):
    return nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)


def code_cells(folder: str, name: str):
    return [cell for cell in notebook(folder, name).cells if cell.cell_type == "code"]


def test_committed_notebooks_are_what_the_lessons_say():
    differences = build.check()
    assert not differences, "\n".join(differences)


def test_every_notebook_has_its_twin():
    folders = [{p.name for p in (ROOT / folder).glob("*.ipynb")} for folder in ("notebooks", "solutions")]
    assert folders[0] == folders[1] == {f"{name}.ipynb" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_learners_notebook_is_blank(name):
    for cell in code_cells("notebooks", name):
        assert cell.outputs == [] and cell.execution_count is None
        assert "SOLUTION" not in cell.source and "HIDDEN TESTS" not in cell.source


@pytest.mark.parametrize("name", NAMES)
def test_solution_was_executed_without_an_error(name):
    cells = [cell for cell in code_cells("solutions", name) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        expected = "raises-exception" in cell.metadata.get("tags", [])
        assert expected or not [output for output in cell.outputs if output.output_type == "error"]


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_light(name):
    sizes = {folder: (ROOT / folder / f"{name}.ipynb").stat().st_size for folder in ("notebooks", "solutions")}
    assert sizes["notebooks"] < 200_000 and sizes["solutions"] < 1_000_000
    assert "widgets" not in notebook("solutions", name).metadata


@pytest.mark.parametrize("path", LESSONS, ids=NAMES)
def test_every_check_cell_is_worth_what_its_check_says(path):
    for cell in build.read(path).cells:
        if "check" in cell.keys:
            name = cell.keys["check"]
            assert (name, cell.keys["points"]) == (name, check.points(name))


def test_outputs_that_differ_between_machines_are_never_compared():
    settings = runpy.run_path(str(ROOT / "conftest.py"))
    collector = type("Collector", (), {"skip_compare": ("image/png",)})()
    settings["pytest_collectstart"](collector)
    assert set(collector.skip_compare) == {"image/png", "image/svg+xml", "stderr"}


def test_a_lesson_runs_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FIXTURES / "no_network"))
    path = LESSONS[0] if LESSONS else FIXTURES / "small_lesson.py"
    offline = build.solution_notebook(build.read(path))
    probes = [nbformat.v4.new_code_cell(source) for source in (TRIES_THE_NETWORK, USES_THE_DATA)]
    offline.cells[:0] = probes
    execute(offline, tmp_path, scale="smoke")
    printed = json.dumps([cell.outputs for cell in probes])
    assert "no network" in printed and "600" in printed
