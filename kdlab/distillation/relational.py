"""Relational distillation: images that are alike to the teacher are to be so to the student (Park 2019, 1904.05068)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlab.data import Batch
from kdlab.distillation.checks import check_weight
from kdlab.distillation.taps import Seen
from kdlab.distillation.teaching import FromFeatures
from kdlab.errors import KdlabError


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the distances between every two images of the batch (RKD-D; Park 2019, equations 5 to 8).

    Distances are divided by their mean, so that scale does not count; their differences go through the Huber loss
    with delta 1. The paper sums over the pairs of distinct images; this is the mean. No gradient reaches the teacher.

    Parameters
    ----------
    student, teacher
        Embeddings of the same images, shape (N, D) with N >= 2; the two D may differ.

    Returns
    -------
    Tensor, a scalar
    """
    _check_embeddings(student, teacher, least=2)
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher.detach()))


def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare the angles that every three images of the batch form (RKD-A; Park 2019, equations 9 and 10).

    Differences of the cosines go through the Huber loss with delta 1. The paper sums over the triples of distinct
    images; this is the mean. Time and memory grow with N^2 (D + N). No gradient reaches the teacher.

    Parameters
    ----------
    student, teacher
        Embeddings of the same images, shape (N, D) with N >= 3; the two D may differ.

    Returns
    -------
    Tensor, a scalar
    """
    _check_embeddings(student, teacher, least=3)
    n = len(student)
    total = F.smooth_l1_loss(_cosines(student), _cosines(teacher.detach()), reduction="sum")
    return total / (n * (n - 1) * (n - 2))  # where two of the three are the same image, both networks agree


def _relative_distances(embeddings: Tensor) -> Tensor:
    distances = F.pdist(embeddings)
    return distances / distances.mean().clamp_min(1e-12)


def _cosines(embeddings: Tensor) -> Tensor:
    """Return the cosine of the angle at image j between images i and k, at [j, i, k]."""
    arms = embeddings[None] - embeddings[:, None]  # [j, i]: from j to i
    lengths = arms.norm(dim=2, keepdim=True)
    arms = arms / lengths.masked_fill(lengths == 0, torch.inf)  # no direction, and no gradient, between equal points
    return arms @ arms.transpose(1, 2)


def _check_embeddings(student: Tensor, teacher: Tensor, least: int) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher) or len(student) < least:
        raise KdlabError(
            f"embeddings have shapes {tuple(student.shape)} and {tuple(teacher.shape)}; expected (N, D) of the same N "
            f">= {least} images. Flatten them, or average over positions; use a larger batch."
        )


class Relational(FromFeatures):
    """Learn the distances and angles between the images of a batch; neither sizes nor channels need to agree.

    Features (N, C, H, W) are averaged over their positions first. A term for a `Sum` with labels or soft targets.

    Parameters
    ----------
    teacher
        A network.
    layers
        ``{student layer: teacher layer}``, usually the last before the head; names alone where they are the same.
    distance, angle
        Weights of the two losses (25 and 50 in the paper's CIFAR-100 experiments); one of weight 0 is not computed.
    """

    def __init__(
        self,
        teacher: nn.Module,
        layers: str | Sequence[str] | Mapping[str, str],
        distance: float = 25.0,
        angle: float = 50.0,
    ):
        super().__init__(teacher, layers)
        check_weight("distance", distance)
        check_weight("angle", angle)
        self.distance, self.angle = distance, angle

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        total = 0 * student.logits.sum()  # a last batch of one or two images has a gradient too
        for pair in self.pairs(student, teacher):
            ours, theirs = map(_embedding, pair)
            if self.distance and len(ours) >= 2:
                total = total + self.distance * distance_loss(ours, theirs)
            if self.angle and len(ours) >= 3:
                total = total + self.angle * angle_loss(ours, theirs)
        return total

    def mismatch(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> str | None:
        if {len(student), len(teacher)} <= {1, 3}:
            return None
        return "expected (C, H, W) or (D,) of each. Tap other layers."

    def settings(self) -> dict:
        return {"distance": self.distance, "angle": self.angle}


def _embedding(feature: Tensor) -> Tensor:
    return feature if feature.ndim == 2 else feature.flatten(2).mean(2)
