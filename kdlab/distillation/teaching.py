"""What every objective with a teacher shares: how the teacher is asked, and one pass of each network in a step."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kdlab import fingerprint
from kdlab.data import Batch, Split
from kdlab.distillation.checks import check_classes, layer_pairs
from kdlab.distillation.soft_labels import SoftLabels, soft_labels
from kdlab.distillation.taps import OnePass, Seen, look
from kdlab.errors import KdlabError
from kdlab.training import Objective, predict
from kdlab.training.evaluation import eval_mode


class FromTeacher(Objective):
    """A term of the loss that compares what student and teacher show for the same batch.

    A subclass writes `loss` and `settings`; `FromLogits` and `FromFeatures` say how the teacher is asked.
    """

    layers: Mapping[str, str] = {}  # student's layer -> teacher's layer

    def __init__(self, teacher: nn.Module | SoftLabels):
        if not isinstance(teacher, nn.Module | SoftLabels):
            raise KdlabError(
                f"teacher is {type(teacher).__name__}; expected a network or the result of soft_labels(teacher, data)."
            )
        self.teacher = teacher
        self.table: SoftLabels | None = None  # set where the teacher's logits are looked up
        self.inside = False  # whether the student's module holds (a part of) the teacher

    def loss(self, student: Seen, teacher: Seen, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, a scalar."""
        raise NotImplementedError

    def settings(self) -> dict:
        """Return everything but the teacher and the layers that decides the loss, as JSON-able values."""
        raise NotImplementedError

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        if isinstance(self.teacher, nn.Module):
            own = {id(p) for p in model.parameters()}
            if own <= {id(p) for p in self.teacher.parameters()}:
                raise KdlabError(
                    "The teacher is the student itself (or contains it), so it would change while it teaches. Pass a "
                    "copy: copy.deepcopy(student)."
                )
            self.inside = not set(model.modules()).isdisjoint(self.teacher.modules())
            self.teacher.to(device)

    def check_answer(self, teacher: Seen) -> None:
        """Raise `KdlabError` if the student cannot learn from what the teacher has just shown."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return losses([self], model, batch)[0]

    def describe(self) -> dict | None:
        teacher = _identity(self.teacher)
        if teacher is None:
            return None
        layers = list(self.layers.items())
        return {"objective": type(self).__name__, "teacher": teacher, "layers": layers, **self.settings()}


class FromLogits(FromTeacher):
    """A term that needs the teacher's logits only.

    They are computed once and looked up by sample index, unless the images are augmented: then the teacher sees the
    same view of each image as the student, in every step.
    """

    classes: int | None = None  # how many the student knows

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        super().start(model, data, augmented=augmented, device=device)
        self.table = self._look_up_table(data, augmented, device)
        self.classes = predict(model, data.images[:2]).shape[1]
        if self.table is not None:
            check_classes(self.classes, self.table.logits.shape[1])

    def check_answer(self, teacher: Seen) -> None:
        if self.classes is not None:
            check_classes(self.classes, teacher.logits.shape[1])

    def _look_up_table(self, data: Split, augmented: bool, device: torch.device) -> SoftLabels | None:
        if isinstance(self.teacher, nn.Module):
            return None if augmented else soft_labels(self.teacher, data)
        if augmented:
            raise KdlabError(
                "Cached soft labels belong to the images as they are, not to augmented views. Pass the teacher itself "
                f"to {type(self).__name__}, or train with augment=False."
            )
        self.teacher.check_cover(data)
        return self.teacher.to(device)


class FromFeatures(FromTeacher):
    """A term that compares inner layers: the teacher is asked in every step, about the views the student sees.

    Parameters
    ----------
    teacher
        A network.
    layers
        ``{student layer: teacher layer}``, or names alone where both have a layer of that name.
    """

    def __init__(self, teacher: nn.Module, layers: str | Sequence[str] | Mapping[str, str]):
        super().__init__(teacher)
        if isinstance(teacher, SoftLabels):
            raise KdlabError(f"{type(self).__name__} needs the teacher's layers; expected the network, not its logits.")
        self.layers = layer_pairs(layers)

    def start(self, model: nn.Module, data: Split, *, augmented: bool, device: torch.device) -> None:
        super().start(model, data, augmented=augmented, device=device)
        first = data.images[:2]
        predict(self.teacher, first)  # refuses images that do not suit it, in words
        with eval_mode(model), eval_mode(self.teacher):
            student, teacher = look(model, first, self.layers), look(self.teacher, first, self.layers.values())
        shapes = [(tuple(a.shape[1:]), tuple(b.shape[1:])) for a, b in self.pairs(student, teacher)]
        for (ours, theirs), (a, b) in zip(self.layers.items(), shapes, strict=True):
            if reason := self.mismatch(a, b):
                raise KdlabError(
                    f"The student's {ours!r} gives {a} for an image and the teacher's {theirs!r} {b}; {reason} "
                    "feature_shapes(network, images) lists what each layer gives."
                )
        self.adapt(shapes)

    def adapt(self, shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        """Make what the comparison needs for these shapes, student's and teacher's, of every pair of layers."""

    def mismatch(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> str | None:
        """Return what is expected of two shapes and what to do, if they cannot be compared."""
        return None

    def pairs(self, student: Seen, teacher: Seen) -> list[tuple[Tensor, Tensor]]:
        """Return the features to compare: the student's, and the teacher's."""
        return [(student.features[ours], teacher.features[theirs]) for ours, theirs in self.layers.items()]


def losses(terms: Sequence[Callable], model: nn.Module, batch: Batch) -> list[Tensor]:
    """Return one loss a term, from a single pass of the student and of every teacher that has to be asked."""
    taught = [term for term in terms if isinstance(term, FromTeacher)]
    asked = {id(t.teacher): t.teacher for t in taught if t.table is None}
    guarded = asked | {id(t.teacher): t.teacher for t in taught if t.inside}
    with contextlib.ExitStack() as stack:
        for network in guarded.values():
            stack.enter_context(frozen(network))
        answers = {key: _ask(network, batch, taught) for key, network in asked.items()}
        for term in taught:
            if term.table is None:
                term.check_answer(answers[id(term.teacher)])
        student = look(model, batch.images, dict.fromkeys(name for term in taught for name in term.layers))
    again = OnePass(model, batch.images, student.logits)
    found = []
    for term in terms:
        if not isinstance(term, FromTeacher):
            found.append(term(again, batch))
            continue
        teacher = answers[id(term.teacher)] if term.table is None else Seen(term.table[batch.index], {})
        with torch.autocast(batch.images.device.type, enabled=False):
            found.append(term.loss(student, teacher, batch))
    return found


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Hold a network in eval mode and out of every gradient, even one that is a part of the module being trained.

    `fit` puts the student into train mode at every epoch, and a teacher inside it with it: so this is done in every
    step, and undone after the pass.
    """
    modes = [(module, module.training) for module in network.modules()]
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in learning:
            parameter.requires_grad_(True)


def _ask(network: nn.Module, batch: Batch, terms: list[FromTeacher]) -> Seen:
    layers = dict.fromkeys(name for term in terms if term.teacher is network for name in term.layers.values())
    with torch.no_grad():
        return look(network, batch.images, layers)


def _identity(teacher: nn.Module | SoftLabels) -> str | None:
    if isinstance(teacher, nn.Module):
        return fingerprint.of_model(teacher)
    return fingerprint.of_tensors({teacher.split: teacher.logits})
