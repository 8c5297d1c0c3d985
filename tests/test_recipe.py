"""Recipes: steps that can be read, refused, kept, resumed, and whose prices are right."""

import pytest
import torch

from kdlab import data, measure, models, recipe
from kdlab import pruning as prune
from kdlab.distillation import Distill, soft_labels
from kdlab.errors import KdlabError
from kdlab.training import evaluate, fit

TEACHER = {"name": "cnn", "width": 6}
STUDENT = {"name": "cnn", "width": 2}


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


@pytest.fixture
def usual(fashion):
    """Steps of the whole recipe, set right, by name."""
    return {
        "teacher": recipe.TrainTeacher(TEACHER, epochs=2),
        "prune": recipe.PruneTeacher(sparsity=0.5, epochs=1, lr=0.05),
        "labels": recipe.MakeSoftLabels(of="pruned teacher"),
        "student": recipe.TrainStudent(STUDENT, epochs=2, temperature=3, alpha=0.7),
        "evaluate": recipe.Evaluate(),
    }


def made(fashion, steps, **settings):
    return recipe.Recipe(*steps, data=fashion.train, val=fashion.val, **settings)


def equal(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_a_recipe_does_what_its_steps_do_by_hand(fashion, usual):
    bench = made(fashion, usual.values()).run(seed=4, progress=False)

    teacher = models.build(**TEACHER, seed=4)
    fit(teacher, fashion.train, epochs=2, seed=4, keep=False)
    assert equal(bench.teacher, teacher)
    fit(teacher, fashion.train, sparsity=prune.Gradual(0.5), epochs=1, lr=0.05, seed=4, keep=False)
    assert equal(bench.pruned_teacher, teacher)
    student = models.build(**STUDENT, seed=4)
    objective = Distill(soft_labels(teacher, fashion.train), 3, 0.7)
    fit(student, fashion.train, objective=objective, epochs=2, seed=4, keep=False)
    assert equal(bench.student, student)


def test_a_row_of_prices_after_every_step(fashion, usual):
    bench = made(fashion, usual.values()).run(progress=False)
    train = len(fashion.train)
    assert [row["examples"] for row in bench.rows] == [2 * train, 3 * train, 3 * train, 5 * train, 5 * train]
    assert [row["network"] for row in bench.rows] == ["teacher", *["pruned teacher"] * 2, "student", "student"]
    for row, network in zip(bench.rows, [bench.teacher, bench.pruned_teacher], strict=False):
        assert row["nonzeros"] == measure.nonzeros(network)
        assert row["packed bytes"] == len(measure.pack(network))
        assert row["MACs"] == measure.macs(network, fashion.val.images)
        assert row["accuracy"] == evaluate(network, fashion.val)
    assert bench.rows[-1]["latency µs"] > 0
    assert list(bench.table["step"]) == [
        "1 train a teacher",
        "2 prune the teacher",
        "3 make soft labels",
        "4 train a student",
        "5 evaluate",
    ]


def test_a_recipe_is_readable(fashion, usual):
    text = repr(made(fashion, usual.values()))
    for words in [
        "3,000 training examples",
        "1 train a teacher: cnn(width=6), 2 epochs",
        "50 % of the weights",
        "3 make soft labels: of the pruned teacher",
        "T=3, alpha=0.7",
        "5 evaluate: the student on val",
    ]:
        assert words in text


def test_a_second_run_trains_nothing(fashion, usual):
    first = made(fashion, usual.values()).run(seed=8, progress=False)
    again = made(fashion, usual.values()).run(seed=8, progress=False)
    assert (first.recalled, again.recalled) == (0, 3)
    assert equal(first.student, again.student)
    assert again.examples == first.examples


def _pressed_stop(step, bench):
    raise KeyboardInterrupt


def test_a_recipe_goes_on_where_it_was_stopped(fashion, usual, monkeypatch):
    """Stopped in the last training, the earlier ones are recalled."""
    whole = made(fashion, usual.values())
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recipe.TrainStudent, "run", _pressed_stop)
        whole.run(seed=9, progress=False)
    assert whole.run(seed=9, progress=False).recalled == 2


def test_steps_do_not_change_what_came_before(fashion, usual):
    """The dense teacher stays dense, and a recipe can be followed with another seed afterwards."""
    whole = made(fashion, usual.values())
    bench = whole.run(seed=1, progress=False)
    assert measure.nonzeros(bench.teacher) > measure.nonzeros(bench.pruned_teacher)
    other = whole.run(seed=2, progress=False)
    assert not equal(bench.student, other.student)
    assert equal(whole.run(seed=1, progress=False).student, bench.student)


def test_soft_labels_made_before_pruning_ignore_the_pruned_teacher(fashion, usual):
    """What the lesson shows: in the recipe as it is usually told, pruning has no influence."""

    def student(sparsity):
        steps = [
            usual["teacher"],
            recipe.MakeSoftLabels(),
            recipe.PruneTeacher(sparsity=sparsity, epochs=1),
            usual["student"],
        ]
        return made(fashion, steps).run(progress=False).student

    assert equal(student(0.3), student(0.9))


@pytest.mark.parametrize("start", ["widths of the pruned teacher", "pruned teacher", "teacher"])
def test_where_a_student_may_start(fashion, usual, start):
    steps = [usual["teacher"], usual["prune"], usual["labels"], recipe.TrainStudent(start, epochs=1)]
    bench = made(fashion, steps).run(progress=False)
    zeros = prune.sparsity_of({n: w != 0 for n, w in prune.weights(bench.student).items()})
    expected = {"widths of the pruned teacher": 0, "pruned teacher": 0.5, "teacher": 0}[start]
    assert zeros == pytest.approx(expected, abs=0.01)
    if start == "widths of the pruned teacher":
        assert models.settings_of(bench.student) == prune.student_settings(bench.pruned_teacher)


def test_channels_student_pruning_and_fine_tuning(fashion, usual):
    steps = [
        usual["teacher"],
        recipe.MakeSoftLabels(),
        recipe.PruneTeacher(channels=0.5, epochs=1),
        recipe.TrainStudent("pruned teacher", epochs=1),
        recipe.PruneStudent(sparsity=0.4, epochs=1, alpha=0.9),
        recipe.Finetune(epochs=1, alpha=1.0),
        recipe.Evaluate(fashion.test, final=True),
    ]
    bench = made(fashion, steps).run(progress=False)
    assert models.settings_of(bench.pruned_teacher)["width"] == (3, 6, 12)
    masks = {name: weight != 0 for name, weight in prune.weights(bench.student).items()}
    assert prune.sparsity_of(masks) == pytest.approx(0.4, abs=0.01)
    assert bench.rows[-1]["accuracy"] == pytest.approx(evaluate(bench.student, fashion.test, final=True))


def test_blocks_are_taken_out_and_the_rest_recovers_from_the_teacher(fashion):
    steps = [
        recipe.TrainTeacher({"name": "resnet", "width": 4, "blocks": 2}, epochs=1),
        recipe.MakeSoftLabels(),
        recipe.PruneTeacher(blocks=["stages.1"], epochs=1, alpha=0.9),
        recipe.TrainStudent("pruned teacher", epochs=1),
    ]
    whole = made(fashion, steps)
    assert "without stages.1" in repr(whole)
    bench = whole.run(progress=False)
    assert isinstance(bench.student.stages[1], torch.nn.Identity)
    assert not isinstance(bench.teacher.stages[1], torch.nn.Identity)


@pytest.mark.parametrize(
    ("order", "needed"),
    [
        (["labels", "teacher"], "pruned teacher"),
        (["teacher", "labels", "prune"], "pruned teacher"),
        (["prune"], "a teacher"),
        (["teacher", "student"], "soft labels"),
        (["teacher", "evaluate"], "a student"),
    ],
)
def test_an_order_that_cannot_be_followed_is_refused_before_training(fashion, usual, order, needed):
    with pytest.raises(KdlabError, match=rf"needs (a )?{needed}.*before it"):
        made(fashion, [usual[name] for name in order])


def test_a_student_larger_than_its_teacher_is_refused_before_training(fashion, usual):
    large = recipe.TrainStudent({"name": "cnn", "width": 7}, epochs=1)
    with pytest.raises(KdlabError, match="its teacher"):
        made(fashion, [usual["teacher"], usual["prune"], usual["labels"], large])


@pytest.mark.parametrize("epochs", [0, -1, 1.5, None, True])
def test_an_empty_budget_is_refused(epochs):
    with pytest.raises(KdlabError, match="empty budget"):
        recipe.TrainTeacher(TEACHER, epochs=epochs)


def test_more_training_than_the_budget_is_refused(fashion, usual):
    needed = 5 * len(fashion.train)
    assert made(fashion, usual.values(), budget=needed).examples == needed
    with pytest.raises(KdlabError, match="budget is 2,999"):
        made(fashion, usual.values(), budget=needed - 1)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: recipe.TrainTeacher(TEACHER, epochs=1, learning_rate=0.1),
        lambda: recipe.TrainTeacher({"width": 3}, epochs=1),
        lambda: recipe.TrainTeacher({"name": "vgg"}, epochs=1),
        lambda: recipe.TrainStudent("the smallest", epochs=1),
        lambda: recipe.MakeSoftLabels(of="student"),
        lambda: recipe.PruneTeacher(epochs=1),
        lambda: recipe.PruneTeacher(sparsity=0.5, channels=0.5, epochs=1),
        lambda: recipe.PruneTeacher(sparsity=1.0, epochs=1),
        lambda: recipe.Finetune("nobody", epochs=1),
    ],
)
def test_settings_that_no_step_takes(wrong):
    with pytest.raises(KdlabError, match=r"expected|takes|There is no"):
        wrong()


def test_a_recipe_needs_steps_and_open_data(fashion, usual):
    with pytest.raises(KdlabError, match="no steps"):
        made(fashion, [])
    with pytest.raises(KdlabError, match="expected steps"):
        made(fashion, [usual["teacher"], "evaluate"])
    with pytest.raises(KdlabError, match="test data"):
        recipe.Recipe(usual["teacher"], data=fashion.train, val=fashion.test)
    with pytest.raises(KdlabError, match="expected a split"):
        recipe.Recipe(usual["teacher"], data=None, val=fashion.val)
