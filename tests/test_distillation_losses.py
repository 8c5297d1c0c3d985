"""Every loss against a slow version written from the paper's equation, and its gradient against finite differences."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from kdlab.distillation import (
    angle_loss,
    attention_loss,
    attention_map,
    decouple,
    decoupled_loss,
    distance_loss,
    distillation_loss,
    hint_loss,
    logit_loss,
)
from kdlab.distillation.soft_targets import soft_loss
from kdlab.errors import KdlabError

N, CLASSES = 6, 5
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def logits(seed: int) -> torch.Tensor:
    return random(N, CLASSES, seed=seed, scale=3)


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(z / temperature) for z in row]
    return [power / sum(powers) for power in powers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def huber(x: float, y: float) -> float:
    return (x - y) ** 2 / 2 if abs(x - y) <= 1 else abs(x - y) - 1 / 2


def agree(found: torch.Tensor, expected: float) -> None:
    assert found.item() == pytest.approx(expected, abs=1e-6, rel=1e-6)


# ---- logits


@pytest.mark.parametrize("temperature", [0.7, 1, 4])
def test_soft_targets(temperature):
    student, teacher = logits(0), logits(1)
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    divergence = sum(kl(softmax(t, temperature), softmax(s, temperature)) for s, t in rows) / N
    agree(soft_loss(student, teacher, temperature), temperature**2 * divergence)
    hard = F.nll_loss(F.log_softmax(student, dim=1), LABELS).item()
    mixed = 0.3 * hard + 0.7 * temperature**2 * divergence
    agree(distillation_loss(student, teacher, LABELS, temperature, alpha=0.7), mixed)


def test_logit_matching_is_torchs_mean_squared_error_and_the_papers_up_to_its_factor():
    student, teacher = logits(0), logits(1)
    agree(logit_loss(student, teacher), torch.nn.MSELoss()(student, teacher).item())
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    squares = [sum((g - z) ** 2 for g, z in zip(*row, strict=True)) for row in rows]
    agree(logit_loss(student, teacher) * CLASSES / 2, sum(squares) / (2 * N))


def test_soft_targets_tend_to_matching_centred_logits():
    student, teacher = (z - z.mean(1, keepdim=True) for z in (logits(0), logits(1)))
    limit = logit_loss(student, teacher).item() / 2  # Hinton 2015, equation 4
    assert soft_loss(student, teacher, 1e4).item() == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("temperature", [1, 4])
def test_decoupled(temperature):
    student, teacher = logits(0), logits(1)
    tckd, nckd, undivided = [], [], []
    for s, t, target in zip(student.tolist(), teacher.tolist(), LABELS.tolist(), strict=True):
        q, p = softmax(s, temperature), softmax(t, temperature)
        tckd.append(kl([p[target], 1 - p[target]], [q[target], 1 - q[target]]))
        others = [c for c in range(CLASSES) if c != target]
        nckd.append(kl([p[c] / (1 - p[target]) for c in others], [q[c] / (1 - q[target]) for c in others]))
        undivided.append(tckd[-1] + (1 - p[target]) * nckd[-1])
    first, second = decouple(student, teacher, LABELS, temperature)
    torch.testing.assert_close(first, torch.tensor(tckd, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(second, torch.tensor(nckd, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    agree(soft_loss(student, teacher, temperature), temperature**2 * sum(undivided) / N)  # equation 7
    expected = temperature**2 * (0.5 * sum(tckd) + 8 * sum(nckd)) / N
    agree(decoupled_loss(student, teacher, LABELS, temperature, alpha=0.5, beta=8), expected)


def test_decoupled_stays_finite_where_a_probability_is_zero_in_float32():
    student = torch.tensor([[200.0, -200, 0]], requires_grad=True)
    loss = decoupled_loss(student, -student.detach(), torch.tensor([0]), temperature=1)
    loss.backward()
    assert loss.isfinite() and student.grad.isfinite().all()


# ---- features


def test_hints():
    guess, feature = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    pairs = list(zip(guess.flatten().tolist(), feature.flatten().tolist(), strict=True))
    agree(hint_loss(guess, feature), sum((u - r) ** 2 for u, r in pairs) / len(pairs))


def slow_map(feature: torch.Tensor) -> list[float]:
    channels, height, width = feature.shape
    energy = [
        sum(feature[c, y, x].item() ** 2 for c in range(channels)) / channels
        for y, x in itertools.product(range(height), range(width))
    ]
    length = math.sqrt(sum(e**2 for e in energy))
    return [e / length for e in energy]


def test_attention():
    student, teacher = random(3, 4, 2, 3), random(3, 7, 2, 3, seed=1)
    maps = [(slow_map(s), slow_map(t)) for s, t in zip(student, teacher, strict=True)]
    torch.testing.assert_close(attention_map(student), torch.tensor([s for s, _ in maps], dtype=torch.float64))
    distances = [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) for s, t in maps]
    agree(attention_loss(student, teacher), sum(distances) / 3)


def test_attention_ignores_scale_and_channels_and_averages_the_larger_map():
    feature = random(3, 4, 2, 3)
    agree(attention_loss(5 * feature, feature[:, [3, 1, 0, 2, 3, 1, 0, 2]]), 0)
    enlarged = feature.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    agree(attention_loss(enlarged, feature), 0)
    agree(attention_loss(feature, enlarged), 0)


def test_attention_of_a_dead_layer_has_a_gradient_without_nan():
    dead = torch.zeros(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    attention_loss(dead, random(2, 3, 4, 4)).backward()
    assert dead.grad.isfinite().all()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.sqrt(((a - b) ** 2).sum().item())


def test_relational_distances():
    student, teacher = random(N, 3), random(N, 8, seed=1)
    pairs = list(itertools.permutations(range(N), 2))
    relative = []
    for points in (student, teacher):
        lengths = [distance(points[i], points[j]) for i, j in pairs]
        relative.append([length / (sum(lengths) / len(lengths)) for length in lengths])
    agree(distance_loss(student, teacher), sum(map(huber, *relative)) / len(pairs))


def test_relational_angles():
    student, teacher = random(N, 3), random(N, 8, seed=1)
    triples = list(itertools.permutations(range(N), 3))
    cosines = []
    for points in (student, teacher):
        found = []
        for i, j, k in triples:
            arms = (points[i] - points[j]) @ (points[k] - points[j])
            found.append(arms.item() / (distance(points[i], points[j]) * distance(points[k], points[j])))
        cosines.append(found)
    agree(angle_loss(student, teacher), sum(map(huber, *cosines)) / len(triples))


def test_relations_survive_shift_scale_and_rotation():
    points = random(N, 4)
    turned = 3 * points @ torch.linalg.qr(random(4, 4, seed=2)).Q + 7
    agree(distance_loss(turned, points), 0)
    agree(angle_loss(turned, points), 0)


def test_two_equal_images_leave_relational_gradients_finite():
    points = random(N, 4)
    points[3] = points[1]
    points.requires_grad_()
    (distance_loss(points, random(N, 4, seed=1)) + angle_loss(points, random(N, 4, seed=1))).backward()
    assert points.grad.abs().max() < 100


# ---- all of them


def with_labels(loss):
    return lambda student, teacher: loss(student, teacher, LABELS)


LOSSES = {
    "soft": (lambda s, t: soft_loss(s, t, 3.0), (N, CLASSES), (N, CLASSES)),
    "distillation": (with_labels(distillation_loss), (N, CLASSES), (N, CLASSES)),
    "decoupled": (with_labels(decoupled_loss), (N, CLASSES), (N, CLASSES)),
    "logit": (logit_loss, (N, CLASSES), (N, CLASSES)),
    "hint": (hint_loss, (2, 3, 2, 2), (2, 3, 2, 2)),
    "attention": (attention_loss, (2, 3, 2, 3), (2, 5, 2, 3)),
    "attention, sizes": (attention_loss, (2, 3, 4, 4), (2, 5, 2, 2)),
    "distance": (distance_loss, (N, 3), (N, 4)),
    "angle": (angle_loss, (N, 3), (N, 4)),
}


@pytest.mark.parametrize(("loss", "student", "teacher"), LOSSES.values(), ids=LOSSES)
def test_the_gradient_is_right_and_never_reaches_the_teacher(loss, student, teacher):
    student, teacher = random(*student).requires_grad_(), random(*teacher, seed=1).requires_grad_()
    assert gradcheck(lambda s: loss(s, teacher.detach()), student)
    loss(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: logit_loss(logits(0), logits(1)[:, :4]), "expected the same"),
        (lambda: decouple(logits(0), logits(1), LABELS, temperature=0), "temperature is 0"),
        (lambda: decouple(logits(0), logits(1)[:, :4], LABELS), "know the same classes"),
        (lambda: hint_loss(random(2, 3), random(2, 4)), "1x1 convolution"),
        (lambda: attention_map(random(2, 3)), r"shape \(2, 3\); expected \(N, C, H, W\)"),
        (lambda: attention_loss(random(2, 3, 2, 2), random(2, 3)), r"expected \(N, C, H, W\)"),
        (lambda: distance_loss(random(1, 3), random(1, 3)), "N >= 2"),
        (lambda: angle_loss(random(2, 3), random(2, 3)), "N >= 3"),
        (lambda: angle_loss(random(4, 3, 2, 2), random(4, 3)), "average over positions"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(call, says):
    with pytest.raises(KdlabError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
