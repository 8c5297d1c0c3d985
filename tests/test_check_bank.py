"""Every exercise: its reference passes, every known mistake is named, every mutant of the reference is refused.

Right answers in other styles and the mutants that are no mistakes stand in the lesson's own file, test_check_lessonNN.
"""

import importlib
import inspect
import math

import pytest
import torch
from mutation import TookTooLong, mutants, time_limit

from kdlab.check.calling import attempt
from kdlab.check.comparing import ABSOLUTE, RELATIVE, agree
from kdlab.check.judging import judge, run
from kdlab.check.registry import find, lessons

NAMES = list(lessons())


def of_lesson(name: str, table: str) -> dict:
    module = importlib.import_module(f"test_check_{lessons()[name]}")
    return getattr(module, table, {}).get(name, {})


def passes(exercise, function) -> bool:
    """Whether a function is right on all the probes; stops at the first on which it is not."""
    for probe in exercise.cases():
        report = attempt(function, exercise.observe, exercise.signature, [probe], exercise.name)
        if not judge(exercise, [probe], report, diagnose=False).passed:
            return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_reference_passes_on_visible_and_on_fresh_probes(name):
    exercise = find(name)
    assert exercise.name == name
    for seed in (None, 1, 2, 3):
        outcome = run(exercise, exercise.reference, seed=seed, rounds=2)
        assert outcome.passed, outcome
        assert outcome.earned == exercise.points
        assert not outcome.hint


@pytest.mark.parametrize("name", NAMES)
def test_at_least_three_other_right_answers_pass(name):
    exercise, answers = find(name), of_lesson(name, "RIGHT")
    assert len(answers) >= 3
    for answer in answers:
        for seed in (None, 5):
            outcome = run(exercise, answer, seed=seed)
            assert outcome.passed, f"{inspect.getsource(answer)}\n{outcome}"


@pytest.mark.parametrize("name", NAMES)
def test_each_known_wrong_answer_is_told_its_own_mistake(name):
    exercise = find(name)
    assert len({wrong.name for wrong in exercise.bank}) == len(exercise.bank) >= 8
    for (wrong,), function in exercise.wrongs[: len(exercise.bank)]:
        for seed in (None, 6):
            outcome = run(exercise, function, seed=seed)
            assert outcome.mistakes == (wrong.name,), f"{wrong.name}: {outcome}"
            assert wrong.says in outcome.says
            assert outcome.hint == wrong.hint
            assert outcome.case


@pytest.mark.parametrize("name", NAMES)
def test_most_pairs_of_mistakes_are_recognised_as_that_pair(name):
    """Some pairs hide one another, or look like a third mistake; none of them passes unless it is right."""
    exercise = find(name)
    pairs = exercise.wrongs[len(exercise.bank) :]
    pairs = pairs[:: max(1, len(pairs) // 10)]
    recognised = 0
    for mistakes, function in pairs:
        outcome = run(exercise, function)
        recognised += outcome.mistakes == tuple(wrong.name for wrong in mistakes)
        assert not outcome.passed or passes(exercise, function)
    assert recognised >= 0.6 * len(pairs)


@pytest.mark.parametrize("name", NAMES)
def test_known_mistakes_are_far_beyond_float_noise(name):
    """Each stays a mistake when the tolerance is ten times as wide."""
    exercise = find(name)
    expected = [exercise.trial(exercise.reference, probe).output for probe in exercise.cases()]
    for (wrong,), function in exercise.wrongs[: len(exercise.bank)]:
        received = [exercise.trial(function, probe).output for probe in exercise.cases()]
        wide = [agree(e, r, 10 * RELATIVE, 10 * ABSOLUTE) for e, r in zip(expected, received, strict=True)]
        assert wide.count(False) >= 1, wrong.name


@pytest.mark.parametrize("name", NAMES)
def test_sentences_are_short_and_hints_do_not_give_the_answer(name):
    exercise = find(name)
    source = "".join(inspect.getsource(exercise.reference).split())
    for wrong in exercise.bank:
        assert wrong.says.endswith((".", "?")) and wrong.hint.endswith((".", "?")), wrong.name
        assert len(wrong.says) <= 200 and len(wrong.hint) <= 200, wrong.name
        for sentence in (wrong.says, wrong.hint):
            words = "".join(sentence.split())
            assert not any(words[i : i + 14] in source for i in range(len(words) - 14)), sentence


@pytest.mark.parametrize("name", NAMES)
def test_float_noise_passes(name):
    exercise = find(name)

    def noisy(*arguments):
        return _noisy(exercise.reference(*arguments))

    noisy.__signature__ = exercise.signature
    outcome = run(exercise, noisy)
    assert outcome.passed, outcome


def _noisy(value):
    if isinstance(value, tuple):
        return tuple(map(_noisy, value))
    if isinstance(value, torch.Tensor):
        return value * (1 + 1e-6) if value.is_floating_point() else value
    return value * (1 + 1e-6) if isinstance(value, float) and not math.isinf(value) else value


@pytest.mark.parametrize("name", NAMES)
def test_probes_are_plain_small_and_differ_between_seeds(name):
    from kdlab.check.calling import is_plain

    exercise = find(name)
    assert all(is_plain(value) for probe in exercise.cases() for value in probe)
    assert len(exercise.cases(1, rounds=3)) == 3 * len(exercise.cases(1))
    assert repr(exercise.cases(1)) != repr(exercise.cases(2))
    assert repr(exercise.cases(1)) == repr(exercise.cases(1))


@pytest.mark.parametrize("name", NAMES)
def test_every_mutant_of_the_reference_is_refused(name, record_property):
    exercise, equivalent = find(name), of_lesson(name, "EQUIVALENT")
    survivors, count = [], 0
    for change, function in mutants(exercise.reference):
        count += 1
        try:
            with time_limit(3):
                if passes(exercise, function):
                    survivors.append(change)
        except TookTooLong:
            continue
    unexpected = [change for change in survivors if change not in equivalent]
    stale = [change for change in equivalent if change not in survivors]
    real = count - len(survivors) + len(unexpected)
    rate = (count - len(survivors)) / real
    record_property("kill rate", f"{name}: {rate:.1%} of {real} mutants refused; {count - real} more are no mistakes")
    assert not unexpected, "no probe shows these:\n" + "\n".join(unexpected)
    assert not stale, "no longer survivors:\n" + "\n".join(stale)
