"""Soft targets: the student learns the teacher's whole distribution (Hinton, Vinyals & Dean 2015, arXiv:1503.02531)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch, Split
from kdlab.data.splits import check_labels
from kdlab.distillation.checks import check_alpha, check_logits, check_temperature
from kdlab.distillation.soft_labels import SoftLabels
from kdlab.distillation.taps import Seen, in_full
from kdlab.distillation.teaching import FromLogits
from kdlab.errors import KdlabError


def soften(logits: Tensor, temperature: float) -> Tensor:
    """Return softmax(logits / T) over the classes (Hinton 2015, equation 1).

    Parameters
    ----------
    logits
        Shape (N, classes).
    temperature
        T > 0: 1 leaves the distribution as it is, more makes it flatter.

    Returns
    -------
    Tensor, shape (N, classes); rows sum to 1
    """
    check_temperature(temperature)
    return F.softmax(logits / temperature, dim=1)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return T^2 KL(softened teacher || softened student), averaged over the batch, a scalar.

    The factor T^2 keeps the gradient's size when T changes (Hinton 2015, section 2). No gradient reaches the teacher.
    """
    student = F.log_softmax(in_full(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(in_full(teacher_logits.detach()) / temperature, dim=1)
    return temperature**2 * F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0, alpha: float = 0.9
) -> Tensor:
    """Return (1 - alpha) CE(student, labels) + alpha T^2 KL(teacher || student), a scalar (Hinton 2015, section 2).

    Parameters
    ----------
    student_logits, teacher_logits
        Shape (N, classes).
    labels
        Shape (N,), integers 0 to classes - 1.
    temperature
        T > 0, applied to both networks in the second term.
    alpha
        Weight of the teacher, in [0, 1].

    Raises
    ------
    KdlabError
        For shapes that differ, labels out of range, T <= 0 or alpha outside [0, 1].
    """
    check_temperature(temperature)
    check_alpha(alpha)
    check_logits(student_logits, teacher_logits)
    if labels.shape != student_logits.shape[:1]:
        raise KdlabError(
            f"labels have shape {tuple(labels.shape)}; expected ({len(student_logits)},), one for every row of logits."
        )
    check_labels(labels, student_logits.shape[1])
    return _mixed(student_logits, teacher_logits, labels, temperature, alpha)


def _mixed(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float, alpha: float) -> Tensor:
    soft = soft_loss(student_logits, teacher_logits, temperature)
    if alpha == 1:
        return soft
    return (1 - alpha) * F.cross_entropy(in_full(student_logits), labels) + alpha * soft


class Distill(FromLogits):
    """Learn from labels and a teacher's soft targets.

    Parameters
    ----------
    teacher
        A network, or soft labels made by `soft_labels`. A network is asked once about every sample, unless the images
        are augmented: then it sees the same view of each image as the student, in every step.
    temperature
        T > 0.
    alpha
        Weight of the teacher in [0, 1]; with 1 the labels are never used (and need not exist).
    """

    def __init__(self, teacher: nn.Module | SoftLabels, temperature: float = 4.0, alpha: float = 0.9):
        check_temperature(temperature)
        check_alpha(alpha)
        super().__init__(teacher)
        self.temperature, self.alpha = temperature, alpha

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        if self.alpha < 1 and not data.labelled:
            raise KdlabError(
                f"{data!r} has no labels. Use alpha=1 to learn from the teacher alone, or a labelled split."
            )
        super().start(model, data, augmented=augmented, device=device)

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        return _mixed(student.logits, teacher.logits, batch.labels, self.temperature, self.alpha)

    def settings(self) -> dict:
        return {"temperature": self.temperature, "alpha": self.alpha}
