"""Spot the bug: a distillation loss that mixes three mistakes."""

import torch.nn.functional as F

from kdlab.check.core import Exercise, Property, Wrong, edit
from kdlab.check.observers.gradients import loss_and_gradient
from kdlab.check.probing import numbers
from kdlab.check.remarks import IMPLICIT_DIM


def repaired_loss(student_logits, teacher_logits, temperature):
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean")


def probes(generator):
    shapes = [(1, 2), (2, 2), (1, 3), (2, 3), (3, 2), (3, 4), (32, 10), (2, 1)]  # of one class: not NaN when swapped
    temperatures = [2.0, 3.0, 2.5, 3.0, 0.5, 5.0, 4, 2.0]
    return [
        (numbers(generator, *shape), numbers(generator, *shape, scale=3.0), t)
        for shape, t in zip(shapes, temperatures, strict=True)
    ]


EXERCISE = Exercise(
    reference=repaired_loss,
    probes=probes,
    observe=loss_and_gradient,
    points=3,
    remarks=(IMPLICIT_DIM,),
    handed_out=("default_reduction", "no_square", "softened_probabilities"),
    combine=3,
    bank=(
        Wrong(
            "softened_probabilities",
            edit("teacher_logits / temperature", "teacher_logits.softmax(dim=1) / temperature"),
            "the teacher's side has gone through a softmax twice, and is nearly flat.",
            "Print the teacher's distribution at temperature 1: is it what a single softmax gives?",
            costs=1 / 3,
        ),
        Wrong(
            "default_reduction",
            edit(', reduction="batchmean"', ""),
            "the value shrinks with the number of classes.",
            "Append a class that nobody predicts: a divergence should hardly notice. Which default decides that?",
            costs=1 / 3,
        ),
        Wrong(
            "no_square",
            edit("temperature**2 * ", ""),
            "the gradient fades as the temperature rises.",
            "Compare the size of the gradient at temperatures 1 and 10: what should make up for it?",
            costs=1 / 3,
        ),
        Wrong(
            "temperature_for_its_square",
            edit("temperature**2 * ", "temperature * "),
            "the factor before the divergence makes up for half of what softening takes away.",
            "Compare the size of the gradient at temperatures 1 and 10.",
            costs=1 / 3,
        ),
        Wrong(
            "summed_over_the_batch",
            edit('"batchmean"', '"sum"'),
            "the value grows with the batch size.",
            "Give it the same image twice: the loss should stay as it is.",
            costs=1 / 3,
        ),
        Wrong(
            "arguments_swapped",
            edit(
                "F.kl_div(student, teacher,",
                "F.kl_div(teacher.log(), student.exp(),",
            ),
            "the divergence points the wrong way: the expectation is over the student's distribution.",
            "In the handed-out code the order of the two was right.",
        ),
        Wrong(
            "order_swapped",
            edit("F.kl_div(student, teacher,", "F.kl_div(teacher, student,"),
            "kl_div is given the teacher first and the student second: it takes the log of what is a log already.",
            "kl_div reads its arguments in the other order than the formula KL(teacher || student) is read.",
        ),
        Wrong(
            "probabilities_for_log_probabilities",
            edit("student = F.log_softmax", "student = F.softmax"),
            "kl_div is given the student's probabilities where it expects log-probabilities.",
            "In the handed-out code this line was right.",
        ),
        Wrong(
            "log_target_forgotten",
            edit("teacher = F.softmax", "teacher = F.log_softmax"),
            "the teacher's log-probabilities are taken for probabilities.",
            "Either make probabilities of them, or tell kl_div that its target is logarithms.",
        ),
        Wrong(
            "teacher_not_softened",
            edit("teacher_logits / temperature", "teacher_logits"),
            "the teacher's distribution is not softened at all.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "probabilities_as_they_are",
            edit("F.softmax(teacher_logits / temperature, dim=1)", "F.softmax(teacher_logits, dim=1) / temperature"),
            "the teacher's probabilities are divided by the temperature, and sum to less than one.",
            "The temperature acts on logits.",
        ),
        Wrong(
            "student_not_softened",
            edit("student_logits / temperature", "student_logits"),
            "the student's distribution is not softened.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "cross_entropy_with_soft_targets",
            edit('F.kl_div(student, teacher, reduction="batchmean")', "-(teacher * student).sum(dim=1).mean()"),
            "the gradient is right, but the value lies above the divergence by the teacher's entropy.",
            "A divergence is zero where student and teacher agree; a cross-entropy is not.",
            costs=1 / 3,
        ),
    ),
    properties=(
        Property("The loss has to be a single number.", lambda output, *_: output["loss"].numel() == 1),
        Property(
            "No gradient reaches the student's logits: it would not learn.",
            lambda output, *_: output["gradient for the student"] is not None,
        ),
        Property("A divergence is never negative.", lambda output, *_: float(output["loss"]) > -1e-5),
    ),
)
