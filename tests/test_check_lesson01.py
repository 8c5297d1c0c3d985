"""Lesson 01's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import check
from kdlab.check.observers.teacher import Teacher
from kdlab.check.registry import find


def soften_with_exponentials(logits, temperature):
    scaled = logits / temperature
    powers = torch.exp(scaled - scaled.max(dim=1, keepdim=True).values)
    return powers / powers.sum(dim=1, keepdim=True)


def soften_row_by_row(z, t):
    rows = []
    for row in z.tolist():
        top = max(row)
        exponentials = [math.exp((x - top) / t) for x in row]
        rows.append([x / sum(exponentials) for x in exponentials])
    return torch.tensor(rows)


def soften_with_a_module(logits, temperature):
    return nn.Softmax(dim=-1)(logits.double().mul(1 / temperature))


def soften_through_logs(logits, temperature):
    return (logits / temperature - torch.logsumexp(logits / temperature, dim=1)[:, None]).exp().numpy()


def distillation_loss_with_probabilities(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    with torch.no_grad():
        target = torch.softmax(teacher_logits / temperature, -1)
    divergence = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(student_logits / temperature, -1), target)
    return alpha * temperature * temperature * divergence + nn.CrossEntropyLoss()(student_logits, labels) * (1 - alpha)


def distillation_loss_from_the_formula(s, t, y, T=4.0, a=0.9):
    p, q = (t.detach() / T).softmax(1), (s / T).softmax(1)
    kl = (p * (p.log() - q.log())).sum() / len(s)
    hard = -s.log_softmax(1)[torch.arange(len(y)), y].mean()
    return torch.lerp(hard, T**2 * kl, a)


def distillation_loss_image_by_image(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    total = 0
    for student, teacher, label in zip(student_logits, teacher_logits, labels, strict=True):
        target = torch.distributions.Categorical(logits=teacher.detach() / temperature)
        soft = torch.distributions.kl_divergence(target, torch.distributions.Categorical(logits=student / temperature))
        hard = torch.logsumexp(student, 0) - student[label]
        total = total + (1 - alpha) * hard + alpha * temperature**2 * soft
    return total / len(labels)


def distillation_loss_by_cross_entropies(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    target = F.softmax(teacher_logits.data / temperature, dim=1)
    entropy = -torch.xlogy(target, target).sum(dim=1).mean()
    soft = F.cross_entropy(student_logits / temperature, target) - entropy
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft * temperature**2


def cache_logits_batch_by_batch(teacher, images, index, size, batch_size=64):
    mode, table = teacher.training, None
    teacher.eval()
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            logits = teacher(images[start : start + batch_size])
            if table is None:
                table = torch.full((size, logits.shape[1]), float("nan"))
            table[index[start : start + batch_size]] = logits
    teacher.train(mode)
    return table


@torch.no_grad()
def cache_logits_with_a_loader(teacher, images, index, size, batch_size=64):
    was = {module: module.training for module in teacher.modules()}
    teacher.train(False)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, index), batch_size)
    rows = {int(i): row for batch, places in loader for i, row in zip(places, teacher(batch), strict=True)}
    for module, training in was.items():
        module.training = training
    empty = torch.full_like(next(iter(rows.values())), torch.nan)
    return torch.stack([rows.get(i, empty) for i in range(size)])


def cache_logits_one_by_one(model, x, places, size, batch_size=64):
    training = model.training
    model.eval()
    try:
        logits = [model(image[None])[0].detach() for image in x]
    finally:
        if training:
            model.train()
    table = torch.empty(size, len(logits[0])).fill_(float("nan"))
    for place, row in zip(places.tolist(), logits, strict=True):
        table[place] = row
    return table


def cache_logits_with_a_copy_and_a_dry_run(teacher, images, index, size, batch_size=64):
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    table = torch.full((size, teacher(images[:1]).shape[1]), torch.nan)
    for rows, places in zip(images.split(batch_size), index.split(batch_size), strict=True):
        table[places] = teacher(rows)
    return table


def cache_logits_by_scatter(teacher, images, index, size, batch_size=64):
    training = teacher.training
    teacher.eval()
    with torch.no_grad():
        logits = torch.cat([teacher(part) for part in torch.chunk(images, -(-len(images) // batch_size))]).double()
    teacher.train(training)
    return logits.new_full((size, logits.shape[1]), math.nan).index_copy(0, index, logits)


def repaired_loss_with_log_targets(student_logits, teacher_logits, temperature):
    student, teacher = (F.log_softmax(z / temperature, dim=1) for z in (student_logits, teacher_logits))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def repaired_loss_by_sum(student_logits, teacher_logits, temperature):
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="sum") / student_logits.shape[0]


def repaired_loss_by_mean(student_logits, teacher_logits, temperature):
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher) * student_logits.shape[1]


RIGHT = {
    "soften": [soften_with_exponentials, soften_row_by_row, soften_with_a_module, soften_through_logs],
    "distillation_loss": [
        distillation_loss_with_probabilities,
        distillation_loss_from_the_formula,
        distillation_loss_image_by_image,
        distillation_loss_by_cross_entropies,
    ],
    "cache_logits": [
        cache_logits_batch_by_batch,
        cache_logits_with_a_loader,
        cache_logits_one_by_one,
        cache_logits_by_scatter,
        cache_logits_with_a_copy_and_a_dry_run,
    ],
    "repaired_loss": [repaired_loss_with_log_targets, repaired_loss_by_sum, repaired_loss_by_mean],
}

_LAST = "the classes are the last of two dimensions"
_IMPLICIT = "torch takes the last of two dimensions by itself, with a warning"


def _softmax_along(line: str, *lines: str) -> dict[str, str]:
    changes = {}
    for whole in (line, *lines):
        changes[f"{whole} => {whole.replace('dim=1', 'dim=-1')}"] = _LAST
        changes[f"{whole} => {whole.replace(', dim=1', '')}"] = _IMPLICIT
    return changes


EQUIVALENT = {
    "soften": {
        "return torch.softmax(logits / temperature, dim=1) => return torch.softmax(logits / temperature, dim=-1)": _LAST
    },
    "distillation_loss": _softmax_along(
        "student = F.log_softmax(student_logits / temperature, dim=1)",
        "teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)",
    ),
    "repaired_loss": _softmax_along(
        "student = F.log_softmax(student_logits / temperature, dim=1)",
        "teacher = F.softmax(teacher_logits / temperature, dim=1)",
    ),
    "cache_logits": {
        "def cache_logits(teacher, images, index, size, batch_size=64): => "
        "def cache_logits(teacher, images, index, size, batch_size=63):": "smaller batches give the same table",
        "table = torch.full((size, logits.shape[1]), math.nan) => "
        "table = torch.full((size, logits.shape[-1]), math.nan)": _LAST,
    },
}


@pytest.mark.parametrize("seed", range(5))
def test_distillation_loss_agrees_with_the_paper_in_float64(seed):
    exercise = find("distillation_loss")
    for student, teacher, labels, *rest in exercise.cases(seed):
        temperature, alpha = [*rest, *(4.0, 0.9)[len(rest) :]]
        s, t = student.double(), teacher.double()
        p, q = (t / temperature).softmax(1), (s / temperature).softmax(1)
        soft = (p * (p / q).log()).sum(1).mean() * temperature**2
        hard = -s.softmax(1).gather(1, labels[:, None]).log().mean()
        loss = exercise.reference(s, t, labels, *rest)
        assert float(loss) == pytest.approx(float((1 - alpha) * hard + alpha * soft), abs=1e-9)
        reference = find("repaired_loss").reference(s, t, temperature)
        assert float(reference) == pytest.approx(float(soft), abs=1e-9)


def test_gradients_are_right_to_second_sight():
    student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    teacher, labels = torch.randn(3, 4, dtype=torch.float64), torch.tensor([0, 3, 1])
    assert torch.autograd.gradcheck(lambda s: find("distillation_loss").reference(s, teacher, labels), student)
    assert torch.autograd.gradcheck(lambda s: find("repaired_loss").reference(s, teacher, 3.0), student)


def test_cached_logits_are_those_of_each_image_alone():
    teacher = Teacher(classes=3, side=4, seed=0).eval()
    images, index = torch.randn(7, 1, 4, 4), torch.tensor([8, 0, 3, 5, 1, 9, 2])
    table = find("cache_logits").reference(teacher, images, index, 10, batch_size=3)
    for image, place in zip(images, index, strict=True):
        torch.testing.assert_close(table[place], teacher(image[None])[0].detach())
    assert table[[4, 6, 7]].isnan().all()


def test_exponentials_that_overflow_pass_with_a_remark():
    def soften(logits, temperature):
        exponentials = (logits / temperature).exp()
        return exponentials / exponentials.sum(dim=1, keepdim=True)

    outcome = check.soften(soften)
    assert outcome.passed
    assert "overflows" in outcome.hint


def test_softmaxes_that_pass_get_a_remark_and_those_that_do_not_a_name():
    def of(function):
        return check.soften(function)

    assert "array" in of(soften_through_logs).hint
    assert "half precision" in of(lambda z, t: torch.softmax(z / t, 1).half()).hint
    assert of(lambda z, t: torch.softmax(z / t, 1)).hint == ""
    assert of(lambda z, t: torch.softmax(z // t, 1)).mistakes == ("rounded_down",)
    assert of(lambda z, t: torch.softmax(z, 1) ** (1 / t)).mistakes == ("power_of_the_softmax",)


def cache_logits_with(loop, without_a_graph=True, last=lambda logits: logits):
    def cache_logits(teacher, images, index, size, batch_size=64):
        training = teacher.training
        teacher.eval()
        with torch.set_grad_enabled(not without_a_graph):
            logits = last(torch.cat([teacher(batch) for batch in loop(images, batch_size)]))
        teacher.train(training)
        table = torch.full((size, logits.shape[1]), torch.nan)
        table[index] = logits
        return table

    return cache_logits


def test_chunks_are_no_batches_even_where_a_learner_does_not_look():
    chunked = cache_logits_with(lambda images, batch_size: images.chunk(batch_size))
    assert check.cache_logits(chunked).mistakes == ("chunk_for_split",)
    for _ in range(3):
        with pytest.raises(check.CheckFailed, match="chunk"):
            check.grade("cache_logits", chunked)


def test_a_table_that_is_right_but_wasteful_passes_with_a_remark():
    split = torch.Tensor.split
    assert check.cache_logits(cache_logits_with(split)).hint == ""
    one_by_one = check.cache_logits(cache_logits_with(lambda images, _: images.split(1)))
    assert one_by_one.passed and "one at a time" in one_by_one.hint
    detached = check.cache_logits(cache_logits_with(split, False, torch.Tensor.detach))
    assert detached.passed and "no_grad()" in detached.hint
    assert check.cache_logits(cache_logits_with_a_copy_and_a_dry_run).hint == ""  # asks for no gradients


def distillation_loss_with(soft=None, hard=None, factor=None):
    def right_soft(s, t, T):
        return F.kl_div(F.log_softmax(s / T, 1), F.softmax(t / T, 1), reduction="batchmean")

    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
        s, t, T = student_logits, teacher_logits.detach(), temperature
        divergence = (soft or right_soft)(s, t, T)
        entropy = hard(s, t, labels, T) if hard else F.cross_entropy(s, labels)
        return alpha * (factor or T**2) * divergence + (1 - alpha) * entropy

    return distillation_loss


def divergence_under_no_grad(s, t, T):
    with torch.no_grad():
        return F.kl_div(F.log_softmax(s / T, 1), F.softmax(t / T, 1), reduction="batchmean")


def divergence_in_numpy(s, t, T):
    p, q = ((z.detach() / T).softmax(1).numpy() for z in (t, s))
    return float((p * np.log(p / q)).sum(1).mean())


def divergence_from_a_double_softmax(s, t, T):
    student = F.log_softmax(F.softmax(s / T, 1), 1)
    return F.kl_div(student, F.softmax(t / T, 1), reduction="batchmean")


@pytest.mark.parametrize(
    ("mistake", "answer"),
    [
        ("soft_part_without_a_gradient", distillation_loss_with(soft=divergence_under_no_grad)),
        ("soft_part_without_a_gradient", distillation_loss_with(soft=divergence_in_numpy)),
        ("student_softmaxed_twice", distillation_loss_with(soft=divergence_from_a_double_softmax)),
        ("nll_loss_on_logits", distillation_loss_with(hard=lambda s, t, y, T: F.nll_loss(s, y))),
        (
            "teacher_in_place_of_the_labels",
            distillation_loss_with(hard=lambda s, t, y, T: F.cross_entropy(s, F.softmax(t / T, 1))),
        ),
        ("square_of_the_default", distillation_loss_with(factor=16)),
    ],
)
def test_likely_mistakes_of_the_distillation_loss_are_named(mistake, answer):
    assert check.distillation_loss(distillation_loss_with()).passed
    assert check.distillation_loss(answer).mistakes == (mistake,)


def test_a_loss_that_is_nan_is_like_no_known_mistake():
    def with_logs_in_the_wrong_place(s, t, T):
        p, q = F.softmax(t / T, 1), F.log_softmax(s / T, 1)
        return (p * (p / q).log()).sum(1).mean()

    def constant(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
        return student_logits.sum() * float("nan")

    for answer in (constant, distillation_loss_with(soft=with_logs_in_the_wrong_place)):
        outcome = check.distillation_loss(answer)
        assert outcome.kind == "unknown" and outcome.says == "There is NaN in loss."

    for answer in (lambda s, t, T: torch.tensor(math.nan), lambda s, t, T: s.sum() * math.nan):
        outcome = check.repaired_loss(answer)
        assert outcome.kind == "unknown" and outcome.says == "There is NaN in loss."


@pytest.mark.parametrize("factor", [lambda T: T**2, lambda T: T, lambda T: 1])
@pytest.mark.parametrize("reduction", ["batchmean", "sum", "mean"])
def test_arguments_of_kl_div_in_the_wrong_order_are_named_although_all_is_nan(factor, reduction):
    def swapped(s, t, T):
        return factor(T) * F.kl_div(F.softmax(t / T, 1), F.log_softmax(s / T, 1), reduction=reduction)

    outcome = check.repaired_loss(swapped)
    assert outcome.mistakes == ("order_swapped",)
    assert ("your loss", "nan") in outcome.case


def test_a_mistake_that_was_not_handed_out_is_called_new():
    def new(student=lambda s, T: F.log_softmax(s / T, 1), teacher=lambda t, T: F.softmax(t / T, 1), reduction=None):
        def repaired_loss(student_logits, teacher_logits, temperature):
            s, t = student(student_logits, temperature), teacher(teacher_logits, temperature)
            return temperature**2 * F.kl_div(s, t, reduction=reduction or "batchmean")

        return repaired_loss

    assert check.repaired_loss(new()).passed
    answers = {
        "summed_over_the_batch": new(reduction="sum"),
        "teacher_not_softened": new(teacher=lambda t, T: F.softmax(t, 1)),
        "student_not_softened": new(student=lambda s, T: F.log_softmax(s, 1)),
        "probabilities_for_log_probabilities": new(student=lambda s, T: F.softmax(s / T, 1)),
    }
    for mistake, answer in answers.items():
        outcome = check.repaired_loss(answer)
        assert outcome.mistakes == (mistake,)
        assert outcome.says.startswith("There is a new mistake: ")
    both_new = check.repaired_loss(new(student=lambda s, T: F.log_softmax(s, 1), reduction="sum"))
    assert both_new.says.startswith("Two new mistakes are in here. One of them: ")
    one_new = check.repaired_loss(new(teacher=lambda t, T: F.softmax(t.softmax(1) / T, 1), reduction="sum"))
    assert one_new.says.startswith("Two mistakes are in here. One of them: ")


def test_the_body_handed_out_is_not_attempted_and_each_repair_is_counted():
    def handed_out(student_logits, teacher_logits, temperature):
        student = F.log_softmax(student_logits / temperature, dim=1)
        teacher = F.softmax(teacher_logits.softmax(dim=1) / temperature, dim=1)
        return F.kl_div(student, teacher)

    def one_repaired(student_logits, teacher_logits, temperature):
        return temperature**2 * handed_out(student_logits, teacher_logits, temperature)

    def two_repaired(student_logits, teacher_logits, temperature):
        return one_repaired(student_logits, teacher_logits, temperature) * student_logits.shape[1]

    assert check.repaired_loss(handed_out).kind == "untouched"
    one, two = check.repaired_loss(one_repaired), check.repaired_loss(two_repaired)
    assert one.says.startswith("Two mistakes remain.") and set(one.mistakes) == {
        "softened_probabilities",
        "default_reduction",
    }
    assert two.says.startswith("One mistake remains:") and two.mistakes == ("softened_probabilities",)
    assert one.earned == pytest.approx(1) and two.earned == pytest.approx(2)


def test_two_mistakes_at_once_are_both_known():
    def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
        student = F.log_softmax(student_logits / temperature, dim=1)
        teacher = F.softmax(teacher_logits.detach() / temperature, dim=1)
        return alpha * F.cross_entropy(student_logits, labels) + (1 - alpha) * F.kl_div(
            student, teacher, reduction="sum"
        )

    assert check.distillation_loss(distillation_loss).kind == "unknown"  # three at once: refused, not named

    def two_of_them(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
        return distillation_loss(student_logits, teacher_logits, labels, temperature, 1 - alpha)

    outcome = check.distillation_loss(two_of_them)
    assert outcome.mistakes == ("no_square", "summed_over_the_batch")
    assert outcome.says.startswith("Two mistakes are in here. One of them: The soft part fades")


def test_a_pair_of_mistakes_shows_one_that_its_input_shows():
    def cache_logits(teacher, images, index, size, batch_size=64):
        teacher.eval()
        table = torch.full((size, teacher(images[:1]).shape[1]), torch.nan)
        table[index] = torch.cat([teacher(batch) for batch in images.split(batch_size)])
        return table

    outcome = check.cache_logits(cache_logits)
    assert set(outcome.mistakes) == {"left_in_evaluation_mode", "gradient_kept"}
    assert "hangs on the teacher's graph" in outcome.says
    assert outcome.case[-1] == ("your table carries a gradient", "True")


def test_part_of_the_points_for_a_table_from_a_teacher_left_in_the_wrong_mode():
    def cache_logits(teacher, images, index, size, batch_size=64):
        teacher.eval()
        logits = torch.cat([teacher(batch) for batch in images.split(batch_size)]).detach()
        table = torch.full((size, logits.shape[1]), torch.nan)
        table[index] = logits
        return table

    outcome = check.cache_logits(cache_logits)
    assert outcome.mistakes == ("left_in_evaluation_mode",)
    assert outcome.earned == 2
