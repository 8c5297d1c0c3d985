"""Every exercise of every lesson has what a class needs: a bank, other right answers, a check that can be graded."""

import importlib

import pytest

import build
from kdlab.check.registry import find, lessons
from kdlab.classroom.answers import call_in

LESSONS = build.HERE.lessons()
EXERCISES = [(lesson, cell) for lesson in LESSONS for cell in lesson.cells if "exercise" in cell.keys]
NAMES = [cell.keys["exercise"] for _, cell in EXERCISES]


def test_there_are_lessons_with_exercises():
    assert len(EXERCISES) >= 3 * len(LESSONS) > 0


@pytest.mark.parametrize(("lesson", "cell"), EXERCISES, ids=NAMES)
def test_it_has_an_exercise_with_a_bank_and_right_answers(lesson, cell):
    name = cell.keys["exercise"]
    folder = f"lesson{lesson.name[:2]}"
    assert lessons().get(name) == folder  # so that tests/test_check_bank.py tries its mutants and its wrong answers
    assert find(name).bank
    tests = importlib.import_module(f"test_check_{folder}")
    assert len(tests.RIGHT[name]) >= 3


@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.name for lesson in LESSONS])
def test_its_check_ends_with_a_hidden_test_that_can_be_graded(lesson):
    for check in (cell for cell in lesson.cells if "check" in cell.keys):
        visible, *hidden = check.source.splitlines()
        call = call_in(visible)
        assert call is not None and call.exercise == check.keys["check"]
        expected = [
            "### BEGIN HIDDEN TESTS",
            f'check.grade("{call.exercise}", {call.function})',
            "### END HIDDEN TESTS",
        ]
        assert hidden == expected
