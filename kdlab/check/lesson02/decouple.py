"""Decoupled distillation: the target class, and the others among themselves."""

import torch
import torch.nn.functional as F

from kdlab.check.core import Exercise, Part, Property, Wrong, edit
from kdlab.check.probing import integers, numbers


def decouple(student_logits, teacher_logits, labels, temperature=4.0):
    target = F.one_hot(labels, student_logits.shape[1]).bool()
    p, q = F.softmax(teacher_logits / temperature, dim=1), F.softmax(student_logits / temperature, dim=1)
    p_target, q_target = p[target], q[target]
    tckd = p_target * (p_target / q_target).log() + (1 - p_target) * ((1 - p_target) / (1 - q_target)).log()
    p_rest = p[~target].reshape(len(labels), -1) / (1 - p_target)[:, None]
    q_rest = q[~target].reshape(len(labels), -1) / (1 - q_target)[:, None]
    nckd = (p_rest * (p_rest / q_rest).log()).sum(dim=1)
    return tckd, nckd


def probes(generator):
    shapes = [(1, 2), (1, 3), (2, 3), (3, 3), (2, 4), (4, 5), (40, 10), (3, 4), (5, 3)]
    temperatures = [2.0, 3.0, 2.0, 1.5, 5.0, 2.5, 4, None, None]
    cases = []
    for (n, classes), temperature in zip(shapes, temperatures, strict=True):
        student, teacher = numbers(generator, n, classes), numbers(generator, n, classes)
        labels = integers(generator, 0, classes - 1, n)
        if n > 2:
            labels[:3] = torch.tensor([0, classes - 1, 1])
        cases.append((student, teacher, labels) if temperature is None else (student, teacher, labels, temperature))
    return cases


def target_logit_set_to_zero(student_logits, teacher_logits, labels, temperature=4.0):
    rest = 1 - F.one_hot(labels, student_logits.shape[1])
    p = F.softmax(teacher_logits * rest / temperature, dim=1)
    q = F.softmax(student_logits * rest / temperature, dim=1)
    tckd, _ = decouple(student_logits, teacher_logits, labels, temperature)
    return tckd, (p * (p / q).log()).sum(dim=1)


def plain_divergence_for_the_rest(student_logits, teacher_logits, labels, temperature=4.0):
    tckd, _ = decouple(student_logits, teacher_logits, labels, temperature)
    p, q = F.softmax(teacher_logits / temperature, dim=1), F.softmax(student_logits / temperature, dim=1)
    return tckd, (p * (p / q).log()).sum(dim=1)


def teachers_choice_as_target(student_logits, teacher_logits, labels, temperature=4.0):
    return decouple(student_logits, teacher_logits, teacher_logits.argmax(dim=1), temperature)


def students_expectation(student_logits, teacher_logits, labels, temperature=4.0):
    return decouple(teacher_logits, student_logits, labels, temperature)


def with_the_square(student_logits, teacher_logits, labels, temperature=4.0):
    tckd, nckd = decouple(student_logits, teacher_logits, labels, temperature)
    return temperature**2 * tckd, temperature**2 * nckd


EXERCISE = Exercise(
    reference=decouple,
    probes=probes,
    points=3,
    names=("tckd", "nckd"),
    parts=(Part("the target class", 1, (0,)), Part("the other classes", 2, (1,))),
    bank=(
        Wrong(
            "rest_not_renormalised",
            edit(" / (1 - p_target)[:, None]", "", " / (1 - q_target)[:, None]", ""),
            "The other classes' probabilities are used as they are, so they do not sum to one.",
            "Among themselves the others are a distribution of their own: what does each row have to sum to?",
        ),
        Wrong(
            "target_term_alone",
            edit(" + (1 - p_target) * ((1 - p_target) / (1 - q_target)).log()", ""),
            "TCKD has the target's term only, although the distribution has two outcomes.",
            "The two outcomes are: the target, and not the target.",
        ),
        Wrong(
            "weighted_by_the_rest",
            edit(".sum(dim=1)", ".sum(dim=1) * (1 - p_target)"),
            "NCKD still carries the factor that ties it to the teacher's confidence.",
            "In the paper that factor is what is to be removed: the ordinary divergence holds it already.",
        ),
        Wrong(
            "target_logit_set_to_zero",
            target_logit_set_to_zero,
            "The target's logit is set to zero, which still gives it a share of the probability.",
            "A class that takes no part has probability zero: which logit would that be?",
        ),
        Wrong(
            "plain_divergence_for_the_rest",
            plain_divergence_for_the_rest,
            "NCKD runs over all classes, the target among them.",
            "How many columns are left when the target has been taken out?",
        ),
        Wrong(
            "students_expectation",
            students_expectation,
            "The divergences point the wrong way: the expectation is over the student's distribution.",
            "The teacher says how much each class matters: whose probability stands before the logarithm?",
        ),
        Wrong(
            "with_the_square",
            with_the_square,
            "A factor of the temperature squared is in here.",
            "That factor belongs to the loss; here the two parts come as they are.",
        ),
        Wrong(
            "temperature_forgotten",
            edit("teacher_logits / temperature", "teacher_logits", "student_logits / temperature", "student_logits"),
            "The temperature has no effect.",
            "Both distributions are softened before they are split.",
        ),
        Wrong(
            "teacher_not_softened",
            edit("teacher_logits / temperature", "teacher_logits"),
            "The teacher's distribution is not softened.",
            "Both distributions are softened before they are split.",
        ),
        Wrong(
            "student_not_softened",
            edit("student_logits / temperature", "student_logits"),
            "The student's distribution is not softened.",
            "Both distributions are softened before they are split.",
        ),
        Wrong(
            "teachers_choice_as_target",
            teachers_choice_as_target,
            "The target is taken to be what the teacher finds likeliest.",
            "The target class is the true one, even where the teacher errs.",
        ),
        Wrong(
            "averaged",
            edit("return tckd, nckd", "return tckd.mean(), nckd.mean()"),
            "The parts are averaged over the batch.",
            "The average comes later: return one number an image.",
        ),
        Wrong(
            "order_exchanged",
            edit("return tckd, nckd", "return nckd, tckd"),
            "The two parts come in the wrong order.",
            "First the target class, then the others.",
        ),
        Wrong(
            "averaged_over_the_classes",
            edit(".sum(dim=1)", ".mean(dim=1)"),
            "NCKD is averaged over the other classes.",
            "A divergence is an expectation: the probabilities are weights already.",
        ),
        Wrong(
            "over_the_batch",
            edit(
                "F.softmax(teacher_logits / temperature, dim=1)",
                "F.softmax(teacher_logits / temperature, dim=0)",
                "F.softmax(student_logits / temperature, dim=1)",
                "F.softmax(student_logits / temperature, dim=0)",
            ),
            "The softmax runs over the images instead of over the classes.",
            "Along which dimension do the classes lie?",
        ),
    ),
    properties=(
        Property(
            "Both parts have one number for every image.",
            lambda output, student, *_: all(len(part) == len(student) for part in output),
        ),
        Property("A divergence is never negative.", lambda output, *_: all(bool((p > -1e-5).all()) for p in output)),
    ),
)
