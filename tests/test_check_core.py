"""What a check says about answers that are wrong in ways no bank has to know, and how it behaves under grading."""

import functools
import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from kdlab import check, distillation
from kdlab.check import CheckFailed, UnknownExercise
from kdlab.check.comparing import agree, describe, is_void, shown
from kdlab.check.core import Exercise, Part, Wrong, edit
from kdlab.check.judging import run
from kdlab.check.registry import find, lessons
from kdlab.errors import KdlabError


def right(logits, temperature):
    return torch.softmax(logits / temperature, dim=1)


# --- told by themselves


def test_right_answer_passes():
    outcome = check.soften(right)
    assert outcome.passed
    assert repr(outcome) == "✓ soften: Right."


def test_untouched_stub_and_empty_bodies_are_not_attempted_yet():
    def stub(logits, temperature):
        raise NotImplementedError("Replace this line with your code.")

    def empty(logits, temperature):
        """Softened probabilities."""

    def ellipsis(logits, temperature): ...

    for function in (stub, empty, ellipsis):
        outcome = check.soften(function)
        assert outcome.kind == "untouched"
        assert repr(outcome) == "○ soften: Not attempted yet."


def test_exception_names_the_line_in_the_learners_function_and_no_traceback():
    def soften(logits, temperature):
        scaled = logits / temperature
        return torch.softmax(scaled, dim=5)  # the line

    outcome = check.soften(soften)
    assert outcome.kind == "raised"
    assert "IndexError: Dimension out of range" in outcome.says
    line = soften.__code__.co_firstlineno + 2
    assert outcome.hint == f"It happens in line {line}: return torch.softmax(scaled, dim=5)  # the line"
    assert "kdlab" not in repr(outcome)


def test_not_implemented_by_torch_is_no_stub():
    def soften(logits, temperature):
        return torch.softmax(logits.long(), dim=1)

    outcome = check.soften(soften)
    assert outcome.kind == "raised"
    assert "NotImplementedError" in outcome.says


def test_exit_is_an_exception_like_others_and_an_interrupt_is_not_caught():
    def leaves(logits, temperature):
        sys.exit(0)

    def interrupted(logits, temperature):
        raise KeyboardInterrupt

    assert "SystemExit" in check.soften(leaves).says
    with pytest.raises(KeyboardInterrupt):
        check.soften(interrupted)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (torch.ones(2, 2), "needs the function itself"),
        (None, "needs the function itself"),
        (torch.nn.Softmax, "got the class Softmax"),
        (lambda logits: logits, "has to take (logits, temperature); yours takes (logits)"),
        (lambda logits, temperature, *, power: logits, "yours takes (logits, temperature, *, power)"),
    ],
)
def test_what_cannot_be_called_is_told_so(given, says):
    outcome = check.soften(given)
    assert outcome.kind == "unusable"
    assert says in outcome.says


def test_missing_default_and_wrong_default():
    def without(a, b, confidence):
        return 0, 0, 0

    assert "confidence=0.95" in check.paired_interval(without).says
    reference = find("paired_interval").reference

    def other(a, b, confidence=0.9):
        return reference(a, b, confidence)

    assert check.paired_interval(other).says == "confidence has to default to 0.95; yours defaults to 0.9."


def test_callable_objects_partials_and_renamed_parameters_are_functions_too():
    class Soften:
        def __call__(self, z, t):
            return right(z, t)

    assert check.soften(Soften()).passed
    assert check.soften(functools.partial(right)).passed
    assert check.soften(lambda *both: right(*both)).passed


def test_forgotten_return_print_and_half_a_return():
    def forgot(logits, temperature):
        torch.softmax(logits / temperature, dim=1)

    def printed(logits, temperature):
        print(torch.softmax(logits / temperature, dim=1))

    def sometimes(logits, temperature):
        if len(logits) == 1:
            return right(logits, temperature)

    assert "a return is missing" in check.soften(forgot).says
    assert "prints its result" in check.soften(printed).says
    assert "tensor([[" in repr(check.soften(printed))
    assert "and a value for others" in check.soften(sometimes).says


def test_changed_input_is_named_even_if_the_result_is_right():
    def soften(logits, temperature):
        logits /= temperature
        return torch.softmax(logits, dim=1)

    outcome = check.soften(soften)
    assert outcome.kind == "side effect"
    assert "changes its input logits in place" in outcome.says


def test_global_state_is_named_and_given_back():
    def threads():
        torch.set_num_threads(torch.get_num_threads() + 1)

    changes = {
        "the number of torch threads": threads,
        "torch's gradient mode": lambda: torch.set_grad_enabled(False),
        "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
        "torch's random seed": lambda: torch.manual_seed(3),
        "Python's random seed": lambda: random.seed(3),
        "NumPy's random seed": lambda: np.random.seed(3),
    }
    for setting, change in changes.items():

        def soften(logits, temperature, change=change):
            change()
            return right(logits, temperature)

        before = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state(), np.random.get_state()[1]
        outcome = check.soften(soften)
        after = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state(), np.random.get_state()[1]
        assert outcome.kind == "side effect", setting
        assert setting in outcome.says
        assert torch.is_grad_enabled()
        assert before[:2] == after[:2] and torch.equal(before[2], after[2]) and (before[3] == after[3]).all()


def test_drawing_random_numbers_is_allowed():
    def soften(logits, temperature):
        torch.rand(1), random.random(), np.random.rand()
        return right(logits, temperature)

    assert check.soften(soften).passed


def test_nan_type_shape_property_and_values_are_told_apart():
    says = {
        "There is NaN": lambda z, t: right(z, t) / (z > 0) * (z > 0),
        "received a list of 1 item.": lambda z, t: right(z, t).tolist(),
        "received a dictionary with 1 item (p).": lambda z, t: {"p": right(z, t)},
        "The shape is (2,) where (1, 2) is expected.": lambda z, t: right(z, t)[0],
        "It is transposed: (2, 1) for (1, 2).": lambda z, t: right(z, t).T,
        "Expected a (1, 2) float32 tensor, received a (1, 2) int64 tensor": lambda z, t: right(z, t).long(),
        "received a builtin_function_or_method": lambda z, t: z.tolist,
        "Each row has to sum to one.": lambda z, t: right(z, t) ** 1.1,
        "The values are not right.": lambda z, t: right(z, t) * 0.9 + 0.1 / z.shape[1],
    }
    for sentence, function in says.items():
        outcome = check.soften(function)
        assert outcome.kind == "unknown"
        assert sentence in outcome.says, outcome
    case = dict(outcome.case)
    assert {"logits", "temperature", "yours", "expected"} <= case.keys()


def test_what_the_sentence_says_is_not_repeated_below():
    for answer in (lambda z, t: right, lambda z, t: "text", lambda z, t: torch.zeros(100, 100)):
        outcome = check.soften(answer)
        assert outcome.kind == "unknown"
        assert [name for name, _ in outcome.case] == ["logits", "temperature"]
        assert outcome.hint == ""
    outcome = check.soften(lambda z, t: right(z, t).tolist())
    assert outcome.case[-1][0] == "yours" and outcome.case[-1][1].startswith("[[0.")


def test_a_list_that_holds_itself_is_just_wrong():
    def soften(logits, temperature):
        rows = []
        rows.append(rows)
        return rows

    outcome = check.soften(soften)
    assert outcome.kind == "unknown" and not outcome.passed
    assert repr(outcome)


def test_another_kind_is_told_by_the_name_of_what_is_meant():
    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
        return student_logits.sum(), teacher_logits.sum()

    outcome = check.distillation_loss(distillation_loss)
    assert outcome.says == "Expected a single-number float32 tensor, received a tuple of 2 items."
    assert outcome.hint == "Look at your loss."
    assert "expected" not in dict(outcome.case)


def test_functions_of_the_library_are_nobodys_answer():
    theirs = find("soften").reference
    for function in (distillation.soften, theirs, functools.partial(theirs)):
        outcome = check.soften(function)
        assert outcome.kind == "unusable" and outcome.earned == 0
        assert "comes with the course" in outcome.says
        with pytest.raises(CheckFailed, match="comes with the course"):
            check.grade("soften", function)
    assert check.soften(lambda z, t: theirs(z, t)).passed  # a teacher's eye has to find this one


def test_warnings_are_noted_and_told_only_where_a_remark_wants_them():
    def guessing(logits, temperature):
        return torch.nn.functional.softmax(logits / temperature)

    def chatty(logits, temperature):
        warnings.warn("of something else", stacklevel=1)
        return right(logits, temperature)

    assert check.soften(guessing).hint.startswith("A softmax has no dim")
    assert check.soften(chatty).hint == ""


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types_pass(dtype):
    assert check.soften(lambda z, t: right(z, t).to(dtype)).passed


def test_warnings_and_prints_of_the_learner_are_held_back(capfd, recwarn):
    def soften(logits, temperature):
        print("looking at", logits.shape)
        print("to stderr", file=sys.stderr)
        return torch.nn.functional.softmax(logits / temperature)  # warns: no dim

    assert check.soften(soften).passed
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert not recwarn.list


# --- how it looks


def test_html_is_escaped_and_sets_no_background():
    def soften(logits, temperature):
        raise ValueError("<b>bold</b> & more")

    page = check.soften(soften)._repr_html_()
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; more" in page
    assert "background:transparent" in page and "color:inherit" in page
    assert "background:#" not in page


def test_known_mistake_shows_input_and_answer_but_not_the_expected_value():
    outcome = check.soften(lambda z, t: right(z * t, 1))
    assert [name for name, _ in outcome.case] == ["logits", "temperature", "yours"]
    assert repr(outcome).startswith("✗ soften: The temperature multiplies the logits")


def test_the_smallest_failing_input_is_shown():
    def soften(logits, temperature):
        return right(logits, temperature) if len(logits) < 3 else right(logits, 2 * temperature)

    (_, logits), *_ = check.soften(soften).case
    assert logits.count("[") == 1 + 3


# --- finding exercises


def test_exercises_are_attributes_and_unknown_names_get_the_nearest():
    assert {"soften", "conv_cost", "grade", "CheckFailed"} <= set(dir(check))
    with pytest.raises(UnknownExercise, match=r"did you mean check\.soften\?"):
        _ = check.sofen
    with pytest.raises(AttributeError):
        _ = check.zzz
    assert not hasattr(check, "zzz")
    assert UnknownExercise("x")._render_traceback_() == ["UnknownExercise: x"]


def test_exercise_names_are_not_names_of_modules_or_functions_of_the_package():
    import kdlab.check.core

    taken = {name for name in vars(kdlab.check) if not isinstance(getattr(kdlab.check, name), kdlab.check.Check)}
    assert not taken & set(lessons())


def test_importing_the_check_imports_no_lesson_and_nothing_heavy():
    code = (
        "import sys; from kdlab import check; dir(check); "
        "heavy = 'scipy', 'pandas', 'matplotlib', 'torchvision', 'IPython';"
        "print([name for name in sys.modules if 'lesson' in name or name in heavy])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- grading


@pytest.fixture
def grading(monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")


def test_grading_raises_one_line_for_anything_but_a_pass(grading, capsys):
    def stub(logits, temperature):
        raise NotImplementedError

    for answer in (stub, lambda z, t: z, lambda z: z, 3, lambda z, t: None, lambda z, t: 1 / 0):
        with pytest.raises(CheckFailed) as caught:
            check.soften(answer)
        assert isinstance(caught.value, AssertionError)
        (line,) = caught.value._render_traceback_()
        assert line.startswith("CheckFailed: soften: ") and "\n" not in line
    assert check.soften(right) is None
    assert check.grade("soften", right) is None
    assert capsys.readouterr().out == ""


def test_grading_gives_part_of_the_points(grading, capsys):
    def conv_cost(in_channels, out_channels, kernel, height, width, stride=1, padding=0, groups=1, bias=True):
        return in_channels // groups * out_channels * kernel**2 + bias * out_channels, 0

    for earned in (check.conv_cost(conv_cost), check.grade("conv_cost", conv_cost)):
        assert earned == 1.0 and type(earned) is float
    assert "MACs" in capsys.readouterr().out
    assert check.points("conv_cost") == 2


def test_grade_raises_outside_of_grading_too_and_uses_other_inputs_each_time():
    seen = []

    def soften(logits, temperature):
        seen.append(logits.clone())
        return right(logits, temperature)

    assert check.grade("soften", soften).passed
    first, seen = seen, []
    check.grade("soften", soften)
    assert len(seen) == len(first) > len(find("soften").cases())
    assert not all(torch.equal(a, b) for a, b in zip(first, seen, strict=True))
    with pytest.raises(CheckFailed):
        check.grade("soften", lambda z, t: z)


def test_answers_that_know_the_visible_inputs_fail_the_hidden_ones():
    known = [(logits, t, right(logits, t)) for logits, t in find("soften").cases()]

    def soften(logits, temperature):
        for z, t, answer in known:
            if z.shape == logits.shape and torch.equal(z, logits) and t == temperature:
                return answer
        return logits

    assert check.soften(soften).passed
    with pytest.raises(CheckFailed):
        check.grade("soften", soften)


def test_a_real_kernel_under_nbgrader_scores_full_part_and_nothing():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    determine_grade = pytest.importorskip("nbgrader.utils").determine_grade
    sources = {
        "import torch, warnings\nfrom kdlab import check": None,
        "check.soften(lambda z, t: torch.nn.functional.softmax(z / t))": 2,  # torch warns; stderr would cost the points
        "check.conv_cost(lambda ci, co, k, h, w, s=1, p=0, g=1, b=True: (ci // g * co * k * k + co * b, 0))": 1,
        "check.soften(lambda z, t: z)": 0,
        "def soften(z, t):\n    return z.nothing\ncheck.soften(soften)": 0,
        "def soften(z, t):\n    raise NotImplementedError\ncheck.grade('soften', soften)": 0,
    }
    notebook = nbformat.v4.new_notebook()
    for source in sources:
        about = {"nbgrader": {"grade": True, "solution": False, "points": 2}}
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata=about))
    environment = {**os.environ, "NBGRADER_EXECUTION": "autograde", "OMP_NUM_THREADS": "1"}
    nbclient.NotebookClient(notebook, allow_errors=True, timeout=60).execute(env=environment)
    grades = [determine_grade(cell)[0] for cell in notebook.cells[1:]]
    assert grades == list(sources.values())[1:]
    assert "".join(notebook.cells[3].outputs[0].traceback).startswith("CheckFailed: soften: ")
    assert "in line 2: return z.nothing" in "".join(notebook.cells[4].outputs[0].traceback)


# --- authoring


def double(x):
    return 2 * x


def test_edits_that_do_not_fit_the_reference_are_refused():
    exercise = Exercise(double, lambda generator: [(1,)], (Wrong("no", edit("3 * x", "x"), "s.", "h."),))
    with pytest.raises(KdlabError, match="does not stand once"):
        _ = exercise.wrongs


def test_parts_have_to_sum_to_the_points():
    with pytest.raises(KdlabError, match="not worth"):
        Exercise(double, lambda generator: [(1,)], (), points=3, parts=(Part("a", 1, (0,)),))


def test_known_mistakes_leave_no_trace_in_the_interpreter():
    def careless(x):
        print("careless")
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(5)
        return 3 * x

    exercise = Exercise(double, lambda generator: [(1,), (4,)], (Wrong("careless", careless, "s.", "h."),))
    before = torch.get_default_dtype(), torch.get_rng_state()
    assert run(exercise, lambda x: 3 * x).mistakes == ("careless",)
    assert torch.get_default_dtype() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert torch.is_grad_enabled()


def test_known_mistakes_see_the_same_random_numbers_as_the_answer():
    def noisy(x):
        return 2 * x + float(torch.rand(1))

    def also_noisy(x):
        return float(torch.rand(1)) + x + x

    exercise = Exercise(double, lambda generator: [(1.0,), (4.0,)], (Wrong("noisy", noisy, "s.", "h."),))
    assert run(exercise, also_noisy).mistakes == ("noisy",)


# --- comparing


def test_agreement_of_containers_and_numbers():
    assert agree((1, 2.0), [1, np.float32(2)]) and agree((1.0, 2.0), torch.tensor([1.0, 2.0]))
    assert agree(3.0, torch.tensor(3)) and agree(3, 3.0) and not agree(3, 3.001)
    assert not agree((1, 2), (1, 2, 3)) and not agree(1.0, torch.tensor([1.0]))
    assert agree(float("nan"), np.nan) and not agree(1.0, float("nan"))
    assert not agree(True, 1.0) and agree(True, np.True_) and not agree(1, True)
    assert not agree(torch.ones(2, dtype=torch.bool), torch.ones(2))
    assert agree(10**30, 10**30) and not agree(4, 10**5000)
    assert not agree({"a": 1}, {"b": 1}) and not agree("a", 1) and not agree(None, 0)


def test_values_are_shown_small():
    assert shown(torch.tensor([[0.123456, 1.0]])) == "[[0.1235, 1.0]]"
    assert shown(torch.zeros(100)) == "a (100,) float32 tensor, values 0.0 to 0.0"
    assert shown(10**5000) == "an integer of more than 15 digits"
    assert describe(torch.tensor([1.0, float("nan")])) == "a (2,) float32 tensor, values 1.0 to 1.0, some NaN"
    assert describe([1, 2]) == "a list of 2 items" and describe([[]]) == "a list of 1 item"
    assert describe({"a": 1, "b": 2}) == "a dictionary with 2 items (a, b)"
    assert describe(torch.tensor(0.375)) == "a single-number float32 tensor, value 0.375"
    assert describe(torch.tensor(0.375), values=False) == "a single-number float32 tensor"


def test_answers_without_a_finite_float_tell_nothing():
    nan, inf = float("nan"), float("inf")
    assert is_void(nan) and is_void((nan, inf)) and is_void({"loss": torch.tensor([nan, nan]), "flag": False})
    assert not is_void((nan, 1.0)) and not is_void(torch.tensor([nan, 0.0])) and not is_void(np.array([1.0, nan]))
    assert not is_void(3) and not is_void(None) and not is_void("text") and not is_void(torch.zeros(0))
