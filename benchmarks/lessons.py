"""How long a lesson takes the first time, and how long the second.

Run as ``PYTHONPATH=lessons python benchmarks/lessons.py [NN …]``: each lesson is executed at laptop scale with an empty
store, then again with what the first time has left there. The aims on two cores: at most four minutes the first time,
and for lesson 06 at most ten seconds the second, the start of the kernel included.
"""

import os
import sys
import tempfile

import build
from _execution import execute
from _notebooks import solution_notebook
from kdlab import scale


def seconds_twice(lesson) -> tuple[float, float]:
    """Return the seconds with an empty store, and with a full one."""
    with tempfile.TemporaryDirectory(prefix="kdlab-lessons-") as home:
        os.environ["KDLAB_HOME"] = home
        return tuple(
            execute(solution_notebook(lesson), build.HERE.solutions, scale.current(), warm=True) for _ in range(2)
        )


def main() -> None:
    wanted = sys.argv[1:]
    for lesson in build.HERE.lessons():
        if wanted and lesson.name[:2] not in wanted:
            continue
        first, second = seconds_twice(lesson)
        print(f"{lesson.name}: {first:.1f} s, then {second:.1f} s ({first / second:.1f} times faster)", flush=True)


if __name__ == "__main__":
    main()
