"""Soft targets: the student learns the teacher's whole distribution (Hinton, Vinyals & Dean 2015, arXiv:1503.02531)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab import fingerprint
from kdlab.data import Batch, Split
from kdlab.data.splits import check_labels
from kdlab.distillation.soft_labels import SoftLabels, soft_labels
from kdlab.errors import KdlabError
from kdlab.training import Objective
from kdlab.training.evaluation import eval_mode


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
    student = F.log_softmax(student_logits.float() / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=1)
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
    return (1 - alpha) * F.cross_entropy(student_logits.float(), labels) + alpha * soft


class Distill(Objective):
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
        if not isinstance(teacher, nn.Module | SoftLabels):
            raise KdlabError(
                f"teacher is {type(teacher).__name__}; expected a network or the result of soft_labels(teacher, data)."
            )
        self.teacher, self.temperature, self.alpha = teacher, temperature, alpha
        self._cached: SoftLabels | None = None

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        if self.alpha < 1 and not data.labelled:
            raise KdlabError(
                f"{data!r} has no labels. Use alpha=1 to learn from the teacher alone, or a labelled split."
            )
        self._cached = self._look_up_table(data, augmented, device)

    def _look_up_table(self, data: Split, augmented: bool, device: torch.device) -> SoftLabels | None:
        if isinstance(self.teacher, nn.Module):
            self.teacher.to(device)
            return None if augmented else soft_labels(self.teacher, data)
        if augmented:
            raise KdlabError(
                "Cached soft labels belong to the images as they are, not to augmented views. Pass the teacher itself "
                "to Distill, or train with augment=False."
            )
        self.teacher.check_cover(data)
        return self.teacher.to(device)

    def teacher_logits(self, batch: Batch) -> Tensor:
        """Return the teacher's logits for a batch, shape (N, classes): looked up, or computed for these very views."""
        if self._cached is not None:
            return self._cached[batch.index]
        with eval_mode(self.teacher):  # in every step: a parent module's train() may have reached the teacher
            return self.teacher(batch.images)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        teacher_logits = self.teacher_logits(batch)
        student_logits = model(batch.images)
        check_logits(student_logits, teacher_logits)
        return _mixed(student_logits, teacher_logits, batch.labels, self.temperature, self.alpha)

    def describe(self) -> dict | None:
        if isinstance(self.teacher, nn.Module):
            identity = fingerprint.of_model(self.teacher)
        else:
            identity = fingerprint.of_tensors({self.teacher.split: self.teacher.logits})
        if identity is None:
            return None
        return {"objective": "distill", "teacher": identity, "temperature": self.temperature, "alpha": self.alpha}


def check_temperature(temperature: float) -> None:
    """Raise `KdlabError` unless T is a finite number above 0."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise KdlabError(f"temperature is {temperature}; expected a number above 0. Usual values are 1 to 20.")


def check_alpha(alpha: float) -> None:
    """Raise `KdlabError` unless alpha is in [0, 1]."""
    if not 0 <= alpha <= 1:
        raise KdlabError(f"alpha is {alpha}; expected 0 (labels only) to 1 (teacher only).")


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise `KdlabError` unless both are (N, classes) of the same shape."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise KdlabError(
            f"student logits have shape {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)}; "
            "expected the same (N, classes) for both. Do teacher and student know the same classes?"
        )
