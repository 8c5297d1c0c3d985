"""Soft targets against torch's own functions; soft labels that meet their own image."""

import copy
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import data, models, store
from kdlab.distillation import Distill, distillation_loss, soft_labels, soften
from kdlab.errors import KdlabError
from kdlab.training import evaluate, fit, predict


@pytest.fixture(scope="module")
def fashion():
    return data.load(scale="smoke")


@pytest.fixture(scope="module")
def teacher(fashion):
    model = models.build("cnn", width=8)
    fit(model, fashion.train, epochs=8, batch_size=32, keep=False, progress=False)
    return model


def logits(seed: int, n: int = 16, classes: int = 10, dtype=torch.float64) -> torch.Tensor:
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


LABELS = torch.arange(16) % 10


@pytest.mark.parametrize("temperature", [0.5, 1, 4, 50])
@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_loss_equals_its_definition_written_out(temperature, alpha):
    student, teacher = logits(0), logits(1)
    p, q = (torch.exp(z / temperature) / torch.exp(z / temperature).sum(1, keepdim=True) for z in (teacher, student))
    kl = (p * (p / q).log()).sum(1).mean()
    expected = (1 - alpha) * F.cross_entropy(student, LABELS) + alpha * temperature**2 * kl
    found = distillation_loss(student.float(), teacher.float(), LABELS, temperature, alpha)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


def test_no_gradient_reaches_the_teacher_and_the_students_is_the_known_one():
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    distillation_loss(student, teacher, LABELS, temperature=3, alpha=1).backward()
    expected = 3 * (soften(student, 3) - soften(teacher, 3)) / len(student)  # T^2 * (1/T) * difference / N
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-4, atol=1e-6)
    assert teacher.grad is None


def test_soften_is_torchs_softmax_of_scaled_logits():
    torch.testing.assert_close(soften(logits(2), 7.0), nn.Softmax(dim=1)(logits(2) / 7))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"temperature": 0}, "temperature is 0; expected a number above 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"alpha": 1.2}, "alpha is 1.2; expected 0"),
        ({"alpha": -0.1}, "alpha is -0.1"),
        ({"labels": torch.full((16,), 10)}, "labels run from 10 to 10; expected 0 to 9"),
        ({"labels": LABELS[:4]}, r"labels have shape \(4,\); expected \(16,\)"),
        ({"teacher_logits": logits(1)[:, :7]}, r"teacher logits \(16, 7\)"),
        ({"student_logits": logits(0)[0]}, r"expected the same \(N, classes\)"),
    ],
)
def test_bad_arguments_are_one_line_that_says_what_to_do(arguments, says):
    good = {"student_logits": logits(0), "teacher_logits": logits(1), "labels": LABELS}
    with pytest.raises(KdlabError, match=says) as caught:
        distillation_loss(**{**good, **arguments})
    assert "\n" not in str(caught.value)


# ---- soft labels


def test_rows_belong_to_the_index_of_the_sample(fashion, teacher):
    part = fashion.train.sample(100, seed=2)
    table = soft_labels(teacher, part)
    assert table.logits.shape == (600, 10)
    torch.testing.assert_close(table[part.index], predict(teacher, part.images))
    absent = torch.ones(600, dtype=torch.bool).index_fill_(0, part.index, False)
    assert table.logits[absent].isnan().all()
    assert "100 of 600" in repr(table)


def test_they_are_computed_once_and_come_back_from_disk(fashion, teacher, monkeypatch):
    module = importlib.import_module("kdlab.distillation.soft_labels")
    module._RECENT.clear()
    first = soft_labels(teacher, fashion.val)
    module._RECENT.clear()
    monkeypatch.setattr(module, "predict", lambda *a: pytest.fail("asked the teacher a second time"))
    torch.testing.assert_close(soft_labels(teacher, fashion.val).logits, first.logits)
    assert store.usage()[0] == 1


def test_another_teacher_or_other_data_has_other_labels(fashion, teacher):
    other = copy.deepcopy(teacher)
    with torch.no_grad():
        other.head.bias[0] += 5
    assert not torch.equal(soft_labels(other, fashion.val).logits, soft_labels(teacher, fashion.val).logits)


def test_labels_of_other_data_are_refused(fashion, teacher):
    objective = Distill(soft_labels(teacher, fashion.val))
    with pytest.raises(KdlabError, match="made for fashion/smoke/val, not for fashion/smoke/train"):
        fit(models.build("cnn"), fashion.train, objective=objective)
    few = Distill(soft_labels(teacher, fashion.train.sample(100)))
    with pytest.raises(KdlabError, match="500 of 600 samples have no soft label"):
        fit(models.build("cnn"), fashion.train, objective=few)
    with pytest.raises(KdlabError, match="augment=False"):
        fit(models.build("cnn"), fashion.train, objective=Distill(soft_labels(teacher, fashion.train)), augment=True)


# ---- the objective


def test_a_cached_and_an_asked_teacher_teach_the_same(fashion, teacher):
    def student(who):
        model = models.build("cnn", width=4)
        fit(model, fashion.train, objective=Distill(who), epochs=2, keep=False, progress=False)
        return predict(model, fashion.val)

    class Online(Distill):
        def start(self, model, data, **kwargs):
            pass  # nothing is looked up: the teacher is asked in every step

    online = Online(teacher)
    cached = student(soft_labels(teacher, fashion.train))
    torch.testing.assert_close(cached, student(teacher))
    model = models.build("cnn", width=4)
    fit(model, fashion.train, objective=online, epochs=2, keep=False, progress=False)
    torch.testing.assert_close(predict(model, fashion.val), cached, rtol=1e-3, atol=1e-3)


def test_the_teacher_sees_the_same_augmented_views(fashion, teacher):
    seen = {"teacher": [], "student": []}
    spy, student = copy.deepcopy(teacher), models.build("cnn", width=4)
    spy.register_forward_hook(lambda m, args, out: seen["teacher"].append(args[0].clone()))
    student.register_forward_hook(lambda m, args, out: seen["student"].append(args[0].clone()) if m.training else None)
    fit(student, fashion.train, objective=Distill(spy), augment=True, epochs=1, keep=False, progress=False)
    assert len(seen["student"]) == 5
    assert all(torch.equal(a, b) for a, b in zip(seen["teacher"], seen["student"], strict=True))


@pytest.mark.parametrize("augment", [False, True])
def test_the_teacher_is_unchanged_bit_for_bit_even_inside_its_student(fashion, teacher, augment):
    class Both(nn.Module):
        """A student that holds its teacher: train() on the parent reaches the child."""

        def __init__(self):
            super().__init__()
            self.student, self.teacher = models.build("cnn", width=4), copy.deepcopy(teacher)
            self.teacher.requires_grad_(False)

        def forward(self, images):
            return self.student(images)

    both = Both()
    before = {k: v.clone() for k, v in both.teacher.state_dict().items()}
    objective = Distill(both.teacher)
    fit(both, fashion.train, objective=objective, epochs=1, augment=augment, keep=False, progress=False)
    assert all(torch.equal(v, before[k]) for k, v in both.teacher.state_dict().items())


def test_alpha_one_needs_no_labels_and_learns(fashion, teacher):
    student = models.build("cnn", width=4)
    hidden = fashion.train.unlabelled()
    fit(student, hidden, objective=Distill(teacher, alpha=1), epochs=8, batch_size=32, progress=False)
    assert evaluate(student, fashion.val) > 0.55
    with pytest.raises(KdlabError, match="Use alpha=1"):
        fit(student, hidden, objective=Distill(teacher, alpha=0.9))


def test_other_temperature_is_another_run(fashion, teacher):
    runs = [(4, 0.9), (4, 0.9), (2, 0.9), (4, 0.5)]
    recalled = []
    for temperature, alpha in runs:
        model = models.build("cnn", width=4)
        history = fit(model, fashion.train, objective=Distill(teacher, temperature, alpha), epochs=1, progress=False)
        recalled.append(history.recalled)
    assert recalled == [False, True, False, False]


def test_a_student_with_other_classes_is_refused(fashion, teacher):
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(784, 12))
    with pytest.raises(KdlabError, match="Do teacher and student know the same classes"):
        fit(narrow, fashion.train, objective=Distill(teacher), progress=False)
    with pytest.raises(KdlabError, match="teacher is str"):
        Distill("teacher")
