"""What distillation refuses: numbers out of range, logits and layers that do not belong together."""

import difflib
import math
from collections.abc import Mapping, Sequence
from numbers import Real

from torch import Tensor, nn

from kdlab.errors import KdlabError


def check_temperature(temperature: float) -> None:
    """Raise `KdlabError` unless T is a finite number above 0."""
    if not isinstance(temperature, Real) or not (math.isfinite(temperature) and temperature > 0):
        raise KdlabError(f"temperature is {temperature!r}; expected a number above 0. Usual values are 1 to 20.")


def check_alpha(alpha: float) -> None:
    """Raise `KdlabError` unless alpha is in [0, 1]."""
    if not 0 <= alpha <= 1:
        raise KdlabError(f"alpha is {alpha}; expected 0 (labels only) to 1 (teacher only).")


def check_weight(name: str, value: float) -> None:
    """Raise `KdlabError` unless a weight is a finite number of at least 0."""
    if not isinstance(value, Real) or not (math.isfinite(value) and value >= 0):
        raise KdlabError(f"{name} is {value!r}; expected a finite number of at least 0.")


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise `KdlabError` unless both are (N, classes) of the same shape."""
    if student_logits.ndim != 2 or student_logits.shape != teacher_logits.shape:
        raise KdlabError(
            f"student logits have shape {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)}; expected the same (N, classes) for both. Do teacher and student know the "
            "same classes?"
        )


def check_classes(student: int, teacher: int) -> None:
    """Raise `KdlabError` unless both networks put out the same number of logits."""
    if student != teacher:
        raise KdlabError(
            f"The student has {student} logits and the teacher {teacher}; expected as many. Do teacher and student "
            "know the same classes? Objectives that compare features, such as AttentionTransfer, do not need that."
        )


def layer_pairs(layers: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return student layer -> teacher layer; a name alone stands for the layer of that name in both."""
    if isinstance(layers, str):
        layers = [layers]
    pairs = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    if not pairs:
        raise KdlabError(
            "layers is empty; expected {student layer: teacher layer}, such as {'features.8': 'stages.2'}."
        )
    return pairs


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer of this name; raise `KdlabError` with the nearest names if there is none."""
    try:
        if name:
            return model.get_submodule(name)
    except (AttributeError, TypeError):
        pass
    known = [known for known, _ in model.named_modules() if known]
    near = difflib.get_close_matches(str(name), known, 3, cutoff=0.4) or known[:3]
    raise KdlabError(
        f"{type(model).__name__} has no layer {name!r}; the nearest are {', '.join(map(repr, near)) or 'none at all'}. "
        "feature_shapes(network, images) lists them all."
    )
