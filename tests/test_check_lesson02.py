"""Lesson 02's exercises: right answers in other styles, mutants that are no mistakes, oracles from elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdlab import check, distillation, measure
from kdlab.check.registry import find


def attention_map_by_hand(feature):
    energy = (feature**2).sum(1).reshape(len(feature), -1)
    return energy / energy.pow(2).sum(1, keepdim=True).sqrt()


def attention_map_by_einsum(a):
    energy = torch.einsum("nchw,nchw->nhw", a, a).flatten(1)
    return energy / torch.linalg.vector_norm(energy, dim=1)[:, None]


def attention_map_image_by_image(feature):
    maps = []
    for image in feature.double():
        energy = sum(channel.pow(2) for channel in image).flatten()
        maps.append(energy / energy.norm())
    return torch.stack(maps)


def attention_map_in_numpy(feature):
    energy = (feature.numpy() ** 2).mean(axis=1).reshape(feature.shape[0], -1)
    return energy / (energy**2).sum(axis=1, keepdims=True) ** 0.5


def decouple_with_log_probabilities(student_logits, teacher_logits, labels, temperature=4.0):
    parts = []
    mask = torch.arange(student_logits.shape[1]) == labels[:, None]
    for target in (True, False):
        sides = []
        for logits in (student_logits / temperature, teacher_logits / temperature):
            rest = logits[~mask].reshape(len(logits), -1)
            if target:
                rest = torch.stack([logits[mask], rest.logsumexp(1)], dim=1)
            sides.append(rest.log_softmax(1))
        parts.append(F.kl_div(*sides, log_target=True, reduction="none").sum(1))
    return tuple(parts)


def decouple_image_by_image(s, t, y, T=4.0):
    tckd, nckd = [], []
    for student, teacher, label in zip(s.double() / T, t.double() / T, y.tolist(), strict=True):
        p, q = teacher.softmax(0), student.softmax(0)
        two_p, two_q = (torch.stack([x[label], 1 - x[label]]) for x in (p, q))
        tckd.append((two_p * (two_p / two_q).log()).sum())
        others = [c for c in range(len(p)) if c != label]
        rest_p, rest_q = teacher[others].softmax(0), student[others].softmax(0)
        nckd.append((rest_p * (rest_p.log() - rest_q.log())).sum())
    return torch.stack(tckd), torch.stack(nckd)


def decouple_with_the_target_at_minus_infinity(student_logits, teacher_logits, labels, temperature=4.0):
    target = F.one_hot(labels, student_logits.shape[1])
    p, q = (torch.softmax(z / temperature, -1) for z in (teacher_logits, student_logits))
    p, q = (torch.stack([(x * target).sum(1), (x * (1 - target)).sum(1)], 1) for x in (p, q))
    rest = [torch.log_softmax(z / temperature - 1e6 * target, -1) for z in (student_logits, teacher_logits)]
    nckd = (rest[1].exp() * (rest[1] - rest[0])).sum(1)
    return [(p * p.log() - p * q.log()).sum(1), nckd]


def decouple_by_the_identity(student_logits, teacher_logits, labels, temperature=4.0):
    p = F.softmax(teacher_logits.double() / temperature, 1)
    q = F.softmax(student_logits.double() / temperature, 1)
    whole = (p * (p / q).log()).sum(1)
    a, b = (x.gather(1, labels[:, None])[:, 0] for x in (p, q))
    tckd = a * (a / b).log() + (1 - a) * torch.log((1 - a) / (1 - b))
    return tckd, (whole - tckd) / (1 - a)


def agreement_with_lists(student, teacher, other):
    triples = list(zip(*(z.argmax(1).tolist() for z in (student, teacher, other)), strict=True))
    apart = [a == b for a, b, c in triples if b != c]
    n = len(triples)
    return sum(a == b for a, b, _ in triples) / n, sum(a == c for a, _, c in triples) / n, sum(apart) / len(apart)


def agreement_as_tensors(student, teacher, other):
    a, b, c = (z.softmax(-1).max(-1).indices for z in (student, teacher, other))
    apart = b.ne(c)
    return (a == b).double().mean(), (a == c).double().mean(), (a.eq(b) & apart).sum() / apart.sum()


def agreement_in_numpy(student, teacher, other):
    a, b, c = (z.numpy().argmax(axis=1) for z in (student, teacher, other))
    return (a == b).mean(), (a == c).mean(), (a == b)[b != c].mean()


def hints_with_each_its_mode(student, teacher, regressor, batches, lr):
    student.train()
    regressor.train()
    teacher.eval()
    optimizer = torch.optim.SGD(list(student.parameters()) + list(regressor.parameters()), lr=lr)
    losses = []
    for images in batches:
        loss = (regressor(student(images)) - teacher(images).detach()).square().mean()
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def hints_with_a_parent_that_keeps_the_teacher(student, teacher, regressor, batches, lr):
    learners = nn.Sequential(student, regressor).train()
    teacher.requires_grad_(False).eval()
    optimizer = torch.optim.SGD(learners.parameters(), lr)
    losses = torch.zeros(len(batches))
    for step, images in enumerate(batches):
        loss = nn.MSELoss()(learners(images), teacher(images))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses[step] = loss.detach()
    return losses


def hints_with_answers_made_before(student, teacher, regressor, batches, lr):
    teacher.eval()
    with torch.no_grad():
        answers = [teacher(images) for images in batches]
    learning = [*student.train().parameters(), *regressor.train().parameters()]
    losses = []
    for images, answer in zip(batches, answers, strict=True):
        loss = F.mse_loss(regressor(student(images)), answer)
        gradients = torch.autograd.grad(loss, learning)
        with torch.no_grad():
            for parameter, gradient in zip(learning, gradients, strict=True):
                parameter -= lr * gradient
        losses.append(loss.item())
    return losses


RIGHT = {
    "attention_map": [
        attention_map_by_hand,
        attention_map_by_einsum,
        attention_map_image_by_image,
        attention_map_in_numpy,
    ],
    "decouple": [
        decouple_with_log_probabilities,
        decouple_image_by_image,
        decouple_with_the_target_at_minus_infinity,
        decouple_by_the_identity,
    ],
    "agreement_with_control": [agreement_with_lists, agreement_as_tensors, agreement_in_numpy],
    "train_with_hints": [
        hints_with_each_its_mode,
        hints_with_a_parent_that_keeps_the_teacher,
        hints_with_answers_made_before,
    ],
}


def _changed(line: str, old: str, new: str, at: int = 0) -> str:
    """`line => line` with the occurrence number `at` of `old` replaced."""
    parts = line.split(old)
    return f"{line} => {old.join(parts[: at + 1])}{new}{old.join(parts[at + 1 :])}"


_LAST = "the classes, or the positions, are the last of two dimensions"
_IMPLICIT = "torch takes that dimension by itself"
_ROWS = "everything has one row an image"
_NUMBER = "a tensor of one number is a number"
_MODES = "what is left out of the parent, or comes twice, is in the right mode anyway"

_ENERGY = "energy = feature.square().mean(dim=1).flatten(start_dim=1)"
_UNIT = "return F.normalize(energy, dim=1)"
_TARGET = "target = F.one_hot(labels, student_logits.shape[1]).bool()"
_SOFT = "p, q = (F.softmax(teacher_logits / temperature, dim=1), F.softmax(student_logits / temperature, dim=1))"
_NCKD = "nckd = (p_rest * (p_rest / q_rest).log()).sum(dim=1)"
_P_REST = "p_rest = p[~target].reshape(len(labels), -1) / (1 - p_target)[:, None]"
_Q_REST = "q_rest = q[~target].reshape(len(labels), -1) / (1 - q_target)[:, None]"
_ROW_BY_ROW = ("student_logits", "teacher_logits", "target", "tckd", "p", "q", "p_target", "q_target")
_ANSWERS = "answer, own, foreign = (student.argmax(dim=1), teacher.argmax(dim=1), other.argmax(dim=1))"
_RETURN = (
    "return (agrees.mean().item(), (answer == foreign).float().mean().item(), agrees[own != foreign].mean().item())"
)
_PARENT = "model = nn.ModuleList([student, teacher, regressor])"
_PARENTS = (
    "teacher, student, regressor",
    "student, regressor, teacher",
    "student, regressor",
    "student, teacher",
    "student, student, regressor",
    "student, regressor, regressor",
    "student, teacher, student",
    "student, teacher, teacher",
)
_LEARNING = "optimizer = torch.optim.SGD([*student.parameters(), *regressor.parameters()], lr)"

EQUIVALENT = {
    "attention_map": {
        _changed(_ENERGY, "mean", "sum"): "the normalisation removes the factor",
        _changed(_UNIT, "dim=1", "dim=-1"): _LAST,
        _changed(_UNIT, ", dim=1", ""): _IMPLICIT,
    },
    "decouple": {
        _changed(_TARGET, "[1]", "[-1]"): _LAST,
        _changed(_TARGET, "student", "teacher"): "both know the same classes",
        **{_changed(_SOFT, "dim=1", "dim=-1", at): _LAST for at in (0, 1)},
        **{_changed(_SOFT, ", dim=1", "", at): _IMPLICIT for at in (0, 1)},
        _changed(_NCKD, "dim=1", "dim=-1"): _LAST,
        **{_changed(_P_REST, "labels", name): _ROWS for name in _ROW_BY_ROW},
        **{_changed(_Q_REST, "labels", name): _ROWS for name in (*_ROW_BY_ROW, "p_rest")},
    },
    "agreement_with_control": {
        **{_changed(_ANSWERS, "dim=1", "dim=-1", at): _LAST for at in range(3)},
        **{_changed(_RETURN, ".item()", "", at): _NUMBER for at in range(3)},
    },
    "train_with_hints": {
        **{_changed(_PARENT, "student, teacher, regressor", names): _MODES for names in _PARENTS},
        _changed(_LEARNING, "*student.parameters(), *regressor", "*regressor.parameters(), *student"): "a set of both",
        "with torch.no_grad():; wanted = teacher(images) => wanted = teacher(images)": "the optimiser has no teacher",
        "with torch.no_grad(): => with torch.enable_grad():": "the optimiser has no teacher",
        "loss = F.mse_loss(regressor(student(images)), wanted) => "
        "loss = F.mse_loss(wanted, regressor(student(images)))": "a square has no direction",
        "losses.append(loss.item()) => losses.append(loss)": _NUMBER,
        "model.train() => student.train()": "the regressor has nothing that depends on its mode",
        "optimizer.zero_grad() => model.zero_grad()": "the teacher has no gradients",
    },
}


@pytest.mark.parametrize("seed", range(3))
def test_attention_map_agrees_with_the_library(seed):
    for (feature,) in find("attention_map").cases(seed):
        torch.testing.assert_close(find("attention_map").reference(feature), distillation.attention_map(feature))


@pytest.mark.parametrize("seed", range(3))
def test_decouple_agrees_with_the_library_and_with_the_identity(seed):
    exercise = find("decouple")
    for student, teacher, labels, *rest in exercise.cases(seed):
        s, t, temperature = student.double(), teacher.double(), *(rest or [4.0])
        tckd, nckd = exercise.reference(s, t, labels, temperature)
        for ours, theirs in zip((tckd, nckd), distillation.decouple(s, t, labels, temperature), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
        p = (t / temperature).softmax(1)
        whole = torch.distributions.kl_divergence(
            torch.distributions.Categorical(p), torch.distributions.Categorical(logits=s / temperature)
        )
        rest_of_it = 1 - p.gather(1, labels[:, None])[:, 0]
        torch.testing.assert_close(tckd + rest_of_it * nckd, whole, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_agreement_agrees_with_the_library_and_the_difference_is_made_where_teachers_differ(seed):
    exercise = find("agreement_with_control")
    for student, teacher, other in exercise.cases(seed):
        own, control, sided = exercise.reference(student, teacher, other)
        assert own == pytest.approx(measure.agreement(student, teacher))
        assert control == pytest.approx(measure.agreement(student, other))
        apart = teacher.argmax(1) != other.argmax(1)
        with_other = (student.argmax(1) == other.argmax(1))[apart].float().mean().item()
        assert own - control == pytest.approx(apart.float().mean().item() * (sided - with_other), abs=1e-6)


def test_the_body_handed_out_is_not_attempted_and_each_repair_is_counted():
    def handed_out(student, teacher, regressor, batches, lr, learning=None, keep=False):
        model = nn.ModuleList([student, teacher, regressor])
        teacher.eval()
        optimizer = torch.optim.SGD(learning or student.parameters(), lr)
        losses = []
        for images in batches:
            model.train()
            if keep:
                teacher.eval()
            with torch.no_grad():
                wanted = teacher(images)
            loss = F.mse_loss(regressor(student(images)), wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    def as_it_was(student, teacher, regressor, batches, lr):
        return handed_out(student, teacher, regressor, batches, lr)

    def regressor_added(student, teacher, regressor, batches, lr):
        return handed_out(student, teacher, regressor, batches, lr, [*student.parameters(), *regressor.parameters()])

    def teacher_kept(student, teacher, regressor, batches, lr):
        return handed_out(student, teacher, regressor, batches, lr, keep=True)

    assert check.train_with_hints(as_it_was).kind == "untouched"
    one, other = check.train_with_hints(regressor_added), check.train_with_hints(teacher_kept)
    assert one.says.startswith("One mistake remains:") and one.mistakes == ("teacher_follows_its_parent",)
    assert other.says.startswith("One mistake remains:") and other.mistakes == ("regressor_left_out",)
    assert one.earned == pytest.approx(1) and other.earned == pytest.approx(1)
