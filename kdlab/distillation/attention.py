"""Attention transfer: the student is to look where the teacher looks (Zagoruyko & Komodakis 2017, arXiv:1612.03928)."""

import torch.nn.functional as F
from torch import Tensor

from kdlab.data import Batch
from kdlab.distillation.taps import Seen
from kdlab.distillation.teaching import FromFeatures
from kdlab.errors import KdlabError


def attention_map(feature: Tensor) -> Tensor:
    """Return how strongly each position is activated: the mean over channels of the square, of length 1.

    This is F^2_sum of section 3.1 (up to a constant that the normalisation removes), flattened and divided by its
    L2 norm as in equation 2 (Zagoruyko & Komodakis 2017).

    Parameters
    ----------
    feature
        Shape (N, C, H, W).

    Returns
    -------
    Tensor, shape (N, H * W); rows have L2 norm 1 (0 where the feature is 0 everywhere)

    Raises
    ------
    KdlabError
        For any other number of dimensions.
    """
    _check_feature(feature)
    return _normalised(_energy(feature))


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of two attention maps, averaged over the batch, a scalar in [0, 2].

    Equation 2 of Zagoruyko & Komodakis 2017 has the distance itself; the authors' code squares it, as here, and then
    divides by the number of positions: their beta of 1000 on 7 x 7 maps is a weight of 1000 / 49, about 20, here.
    Where height and width differ, the larger map is averaged down to the smaller size first. No gradient reaches the
    teacher.

    Parameters
    ----------
    student, teacher
        Features of shape (N, C, H, W); the numbers of channels, and the sizes, may differ.
    """
    _check_feature(student)
    _check_feature(teacher)
    ours, theirs = _energy(student), _energy(teacher.detach())
    size = [min(pair) for pair in zip(ours.shape[1:], theirs.shape[1:], strict=True)]
    ours, theirs = (_normalised(_shrunk(energy, size)) for energy in (ours, theirs))
    return (ours - theirs).square().sum(1).mean()


def _energy(feature: Tensor) -> Tensor:
    return feature.square().mean(1)


def _normalised(energy: Tensor) -> Tensor:
    return F.normalize(energy.flatten(1), dim=1)


def _shrunk(energy: Tensor, size: list[int]) -> Tensor:
    return energy if list(energy.shape[1:]) == size else F.adaptive_avg_pool2d(energy, size)


def _check_feature(feature: Tensor) -> None:
    if feature.ndim != 4:
        raise KdlabError(
            f"a feature has shape {tuple(feature.shape)}; expected (N, C, H, W). Attention maps need positions: tap a "
            "convolution, or the batch norm or activation after it."
        )


class AttentionTransfer(FromFeatures):
    """Learn to be active where the teacher is; numbers of channels may differ, and no regressor is needed.

    A term for a `Sum` with labels or soft targets; choose its weight on ``val``. Several pairs of layers add up.

    Parameters
    ----------
    teacher
        A network.
    layers
        ``{student layer: teacher layer}``, all (N, C, H, W); names alone where they are the same.
    """

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        return sum(attention_loss(ours, theirs) for ours, theirs in self.pairs(student, teacher))

    def mismatch(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> str | None:
        if len(student) != 3 or len(teacher) != 3:
            return "expected two (C, H, W): attention maps need positions. Tap convolutional layers."
        return None

    def settings(self) -> dict:
        return {}
