"""A class of thirty hands one lesson in: how long does nbgrader take to grade it?

Run as ``python benchmarks/classroom.py``. One in ten loops for ever, one in ten fills the memory, one in ten fails at
import, three in ten have a mistake, the rest are right or untouched. The aim is less than six minutes on two cores.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parents[1] / "lessons"))

import build
from _markers import solved_source
from kdlab.classroom import layout

AIM = 360
LOOPS = "while True:\n        pass"
HOARDS = "hoard = []\n    while True:\n        hoard.append(bytearray(10**7))"
KINDS = ("right", "mistaken", "loops", "right", "mistaken", "hoards", "untouched", "mistaken", "cannot import", "right")


def submission(released: nbformat.NotebookNode, lesson: build.Lesson, kind: str, number: int) -> nbformat.NotebookNode:
    """Answer a released notebook; what is wrong is wrong in one exercise, another one for each student."""
    notebook = nbformat.from_dict(released)
    cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in notebook.cells}
    answers = {cell.keys["exercise"]: solved_source(cell.source) for cell in lesson.cells if "exercise" in cell.keys}
    if kind == "untouched":
        return notebook
    for name, answer in answers.items():
        cells[name].source = answer
    wrong = list(answers)[number % len(answers)]
    signature = answers[wrong].split("):")[0] + "):"
    bodies = {"mistaken": "return 3", "loops": LOOPS, "hoards": HOARDS}
    if kind in bodies:
        cells[wrong].source = f"{signature}\n    {bodies[kind]}"
    if kind == "cannot import":
        cells[
            wrong
        ].source = f"import there_is_no_such_module\n\n\n{signature}\n    return there_is_no_such_module.run()"
    return notebook


def main() -> int:
    """Grade a class and print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", default="01", help="number of the lesson")
    parser.add_argument("--students", type=int, default=30)
    options = parser.parse_args()
    (lesson,) = build.HERE.lessons([options.lesson])
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder, "course")
        layout.lay_out(course)
        released = nbformat.read(course / "release" / lesson.name / f"{lesson.name}.ipynb", as_version=4)
        for number in range(options.students):
            kind = KINDS[number % len(KINDS)]
            home = course / "submitted" / f"{number:02}_{kind.replace(' ', '_')}" / lesson.name
            home.mkdir(parents=True)
            nbformat.write(submission(released, lesson, kind, number // len(KINDS)), home / f"{lesson.name}.ipynb")
        began = time.perf_counter()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(
            [sys.executable, "-m", "nbgrader", "autograde", lesson.name],
            **{"cwd": course, "env": {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}},
            **{"check": True, "capture_output": True},
        )
        seconds = time.perf_counter() - began
        graded = len(list(course.glob("autograded/*/*/*.ipynb")))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"lesson {options.lesson}, {graded} of {options.students} submissions graded in {seconds:.0f} s (aim: {AIM} s)"
    )
    print(f"processor time {used.ru_utime + used.ru_stime:.0f} s; largest process {used.ru_maxrss / 1e6:.2f} GB")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    return int(seconds > AIM or graded < options.students)


if __name__ == "__main__":
    sys.exit(main())
