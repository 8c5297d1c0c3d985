"""The distillation loss: labels and soft targets."""

import torch
import torch.nn.functional as F

from kdlab.check.core import Exercise, Property, Remark, Wrong, edit
from kdlab.check.observers.gradients import loss_and_gradients
from kdlab.check.probing import integers, numbers
from kdlab.check.remarks import IMPLICIT_DIM


def distillation_loss(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach() / temperature, dim=1)
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels)
    return (1 - alpha) * hard + alpha * temperature**2 * soft


def probes(generator):
    def batch(n, classes):
        labels = integers(generator, 0, classes - 1, n)
        return numbers(generator, n, classes), numbers(generator, n, classes, scale=3.0), labels

    return [
        (*batch(1, 2), 2.0, 0.5),
        (*batch(2, 2), 3.0, 0.8),
        (*batch(1, 3), 2.0, 0.3),
        (*batch(2, 3), 1.5, 0.7),
        (*batch(3, 2), 5.0, 1.0),
        (*batch(2, 3), 3.0, 0.0),
        (*batch(3, 4), 0.5, 0.6),
        (*batch(4, 3), 6.0),
        (*batch(5, 3),),
        (*batch(3, 3), 1.0, 0.4),
        (*batch(32, 10), 4, 0.9),
    ]


def labels_only(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    return F.cross_entropy(student_logits, labels)


def without_a_gradient(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    return distillation_loss(student_logits.detach(), teacher_logits, labels, temperature, alpha)


def mean_squared_error(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    soft = F.mse_loss(student_logits, teacher_logits.detach())
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


def cross_entropy_with_argmax(student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9):
    soft = F.cross_entropy(student_logits, teacher_logits.argmax(dim=1))
    return (1 - alpha) * F.cross_entropy(student_logits, labels) + alpha * soft


_TWICE = "F.log_softmax(F.softmax(student_logits / temperature, dim=1), dim=1)"

EXERCISE = Exercise(
    reference=distillation_loss,
    probes=probes,
    observe=loss_and_gradients,
    points=3,
    bank=(
        Wrong(
            "gradient_reaches_the_teacher",
            edit("teacher_logits.detach()", "teacher_logits"),
            "A gradient flows back into the teacher.",
            "The teacher's logits are targets here, as fixed as labels: cut them off from the graph.",
            costs=0.5,
        ),
        Wrong(
            "no_square",
            edit(" * temperature**2", ""),
            "The soft part fades as the temperature rises: the factor that makes up for softening is missing.",
            "Softening shrinks the gradients of the soft part; look up by which power of the temperature.",
        ),
        Wrong(
            "temperature_for_its_square",
            edit("temperature**2", "temperature"),
            "The factor before the soft part is the temperature itself.",
            "The logits are divided by the temperature, and so is the gradient: it is scaled down more than once.",
        ),
        Wrong(
            "divided_by_the_square",
            edit("alpha * temperature**2", "alpha / temperature**2"),
            "The factor of the temperature divides where it should multiply.",
            "Softening makes the gradients small; the factor is there to bring them back.",
        ),
        Wrong(
            "square_of_the_default",
            edit("temperature**2", "16"),
            "The factor before the soft part is 16 whatever the temperature is.",
            "Where does the 16 come from? Try another temperature than 4.",
        ),
        Wrong(
            "square_on_both_parts",
            edit("(1 - alpha) * hard", "(1 - alpha) * temperature**2 * hard"),
            "The factor of the temperature is on both parts.",
            "Only the softened part has lost size.",
        ),
        Wrong(
            "cross_entropy_with_soft_targets",
            edit(
                'F.kl_div(student, teacher, reduction="batchmean", log_target=True)',
                "-(teacher.exp() * student).sum(dim=1).mean()",
            ),
            "The soft part is a cross-entropy: it trains the student just the same, "
            "but its value lies above the divergence by the teacher's entropy.",
            "A divergence is zero where student and teacher agree; a cross-entropy is not.",
            costs=0.5,
        ),
        Wrong(
            "mean_over_the_classes_too",
            edit('"batchmean"', '"mean"'),
            "The divergence is averaged over the classes too, which makes it too small by the number of classes.",
            "kl_div's default reduction is not the one of the formula: its documentation says which one is.",
        ),
        Wrong(
            "summed_over_the_batch",
            edit('"batchmean"', '"sum"'),
            "The divergence is summed over the batch, so that it grows with the batch size.",
            "The two parts have to be on the same footing: the cross-entropy is a mean over the batch.",
        ),
        Wrong(
            "not_reduced",
            edit('"batchmean"', '"none"'),
            "The soft part is not reduced to one number.",
            "A loss is a single number: sum over the classes, and take the mean over the batch.",
        ),
        Wrong(
            "probabilities_for_log_probabilities",
            edit("student = F.log_softmax", "student = F.softmax"),
            "kl_div is given the student's probabilities where it expects log-probabilities.",
            "Look at what torch's documentation says about the first argument; it does not complain.",
        ),
        Wrong(
            "arguments_swapped",
            edit("F.kl_div(student, teacher, ", "F.kl_div(teacher, student, "),
            "Student and teacher are swapped, so the divergence points the wrong way.",
            "The expectation has to be over the teacher's distribution; compare the order of kl_div's arguments "
            "with that of the formula.",
        ),
        Wrong(
            "arguments_swapped_with_probabilities",
            edit(
                'F.kl_div(student, teacher, reduction="batchmean", log_target=True)',
                'F.kl_div(teacher.exp(), student, reduction="batchmean", log_target=True)',
            ),
            "kl_div is given the teacher first, and as probabilities.",
            "Its first argument is the distribution that learns, as log-probabilities; the target comes second.",
        ),
        Wrong(
            "log_target_forgotten",
            edit(", log_target=True", ""),
            "The teacher's log-probabilities are taken for probabilities.",
            "Either make probabilities of them, or tell kl_div that its target is logarithms.",
        ),
        Wrong(
            "log_target_too_much",
            edit("teacher = F.log_softmax", "teacher = F.softmax"),
            "kl_div is told that the target is logarithms, and gets probabilities.",
            "The argument log_target and the teacher's softmax have to agree.",
        ),
        Wrong(
            "soft_part_without_a_gradient",
            edit("F.kl_div(student, teacher, ", "F.kl_div(student.detach(), teacher, "),
            "Only the labels teach: no gradient comes back through the soft part.",
            "Look for detach(), no_grad() or NumPy on the student's way through the divergence.",
        ),
        Wrong(
            "student_softmaxed_twice",
            edit("F.log_softmax(student_logits / temperature, dim=1)", _TWICE),
            "The student's distribution goes through a softmax twice, and is nearly flat.",
            "log_softmax takes logits: what does it get?",
        ),
        Wrong(
            "student_softmaxed_twice_softened_between",
            edit("F.log_softmax(student_logits / temperature", "F.log_softmax(student_logits.softmax(1) / temperature"),
            "The student's logits go through a softmax before they are softened.",
            "The temperature acts on logits, and one softmax is enough.",
        ),
        Wrong(
            "alpha_swapped",
            edit("(1 - alpha) * hard + alpha *", "alpha * hard + (1 - alpha) *"),
            "The two weights are swapped.",
            "With alpha=1 the labels have to stop mattering.",
        ),
        Wrong(
            "alpha_on_the_soft_part_only",
            edit("(1 - alpha) * hard", "hard"),
            "The labels have full weight whatever alpha is.",
            "The two weights have to sum to one.",
        ),
        Wrong(
            "alpha_ignored",
            edit("(1 - alpha) * hard + alpha * ", "hard + "),
            "Alpha has no effect: the two parts are just added.",
            "With alpha=1 the labels have to stop mattering, with alpha=0 the teacher.",
        ),
        Wrong(
            "hard_part_softened",
            edit("F.cross_entropy(student_logits, labels)", "F.cross_entropy(student_logits / temperature, labels)"),
            "The cross-entropy with the labels is taken on softened logits.",
            "The student is used at temperature 1, so its labels are learned at temperature 1.",
        ),
        Wrong(
            "hard_part_on_probabilities",
            edit("F.cross_entropy(student_logits, labels)", "F.cross_entropy(student_logits.softmax(dim=1), labels)"),
            "cross_entropy is given probabilities.",
            "It takes the softmax by itself: what does it expect?",
        ),
        Wrong(
            "nll_loss_on_logits",
            edit("F.cross_entropy(student_logits, labels)", "F.nll_loss(student_logits, labels)"),
            "nll_loss is given logits where it expects log-probabilities.",
            "Two of torch's losses take labels; which of them takes the softmax by itself?",
        ),
        Wrong(
            "teacher_in_place_of_the_labels",
            edit("F.cross_entropy(student_logits, labels)", "F.cross_entropy(student_logits, teacher.exp())"),
            "The labels do not appear: the cross-entropy is taken with the teacher's distribution.",
            "The teacher speaks in the soft part; the hard part listens to somebody else.",
        ),
        Wrong(
            "teacher_not_softened",
            edit("teacher_logits.detach() / temperature", "teacher_logits.detach()"),
            "The teacher's distribution is not softened.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "student_not_softened",
            edit("student_logits / temperature", "student_logits"),
            "The student's distribution is not softened.",
            "Both distributions are compared at the same temperature.",
        ),
        Wrong(
            "nothing_softened",
            edit(
                "student_logits / temperature",
                "student_logits",
                "teacher_logits.detach() / temperature",
                "teacher_logits.detach()",
            ),
            "Neither distribution is softened.",
            "The temperature belongs inside both softmaxes, besides the factor.",
        ),
        Wrong(
            "multiplied_by_the_temperature",
            edit(
                "student_logits / temperature",
                "student_logits * temperature",
                "teacher_logits.detach() / temperature",
                "teacher_logits.detach() * temperature",
            ),
            "The logits are multiplied by the temperature, which sharpens both distributions.",
            "High temperatures have to flatten.",
        ),
        Wrong(
            "over_the_batch",
            edit(
                "student_logits / temperature, dim=1",
                "student_logits / temperature, dim=0",
                "teacher_logits.detach() / temperature, dim=1",
                "teacher_logits.detach() / temperature, dim=0",
            ),
            "The softmax runs over the images instead of over the classes.",
            "Rows are images, columns are classes.",
        ),
        Wrong(
            "sign",
            edit("+ alpha", "- alpha"),
            "The soft part is subtracted, so the student is driven away from its teacher.",
            "A divergence is something to make small.",
        ),
        Wrong(
            "labels_only",
            labels_only,
            "The teacher does not appear: this is the loss without distillation.",
            "Add the soft part, weighted by alpha.",
        ),
        Wrong(
            "soft_part_only",
            edit("(1 - alpha) * hard + ", ""),
            "The labels do not appear.",
            "The labels get what alpha leaves over.",
        ),
        Wrong(
            "without_a_gradient",
            without_a_gradient,
            "No gradient reaches the student: it would not learn.",
            "Look for detach(), item(), no_grad() or a new tensor built from numbers on the student's way to the loss.",
        ),
        Wrong(
            "mean_squared_error",
            mean_squared_error,
            "The soft part is the squared distance of the logits.",
            "That is what it tends to at high temperature; asked for is the divergence of the distributions.",
        ),
        Wrong(
            "cross_entropy_with_argmax",
            cross_entropy_with_argmax,
            "The soft part only uses the teacher's most likely class.",
            "What the teacher thinks of the other classes is the whole point.",
        ),
        Wrong(
            "hard_part_summed",
            edit("F.cross_entropy(student_logits, labels)", 'F.cross_entropy(student_logits, labels, reduction="sum")'),
            "The cross-entropy is summed over the batch.",
            "Both parts are means over the batch.",
        ),
    ),
    properties=(
        Property("The loss has to be a single number.", lambda output, *_: output["loss"].numel() == 1),
        Property(
            "No gradient reaches the student's logits: it would not learn.",
            lambda output, *_: output["gradient for the student"] is not None,
        ),
        Property(
            "A gradient flows back into the teacher.", lambda output, *_: not output["gradient reaches the teacher"]
        ),
        Property(
            "With alpha=0 the teacher must not matter.",
            lambda output, student, teacher, labels, temperature=4.0, alpha=0.9: (
                alpha != 0 or abs(float(output["loss"]) - float(F.cross_entropy(student, labels))) < 1e-3
            ),
        ),
    ),
    remarks=(
        IMPLICIT_DIM,
        Remark(
            "For logits as large as 1000 it gives NaN or infinity: the log of a softmax underflows. "
            "Torch has the two in one function.",
            ((torch.tensor([[1000.0, 0.0]]), torch.tensor([[900.0, 1.0]]), torch.tensor([0])),),
        ),
    ),
)
