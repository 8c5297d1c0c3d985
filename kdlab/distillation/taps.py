"""The outputs of a network's inner layers, read by name in one pass; its class and its weights stay as they are."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlab.data import Split
from kdlab.distillation.checks import find_layer
from kdlab.errors import KdlabError
from kdlab.training.evaluation import device_of, eval_mode


class Seen(NamedTuple):
    """What one pass of a network has shown: logits (N, classes), and the outputs of tapped layers by name."""

    logits: Tensor
    features: dict[str, Tensor]


class OnePass:
    """Stands for a network within one step: asked about the same images again, it repeats its answer."""

    def __init__(self, network: nn.Module, images: Tensor, logits: Tensor):
        self.network, self._images, self._logits = network, images, logits

    def __call__(self, images: Tensor) -> Tensor:
        return self._logits if images is self._images else self.network(images)

    def __getattr__(self, name: str):
        return getattr(self.network, name)


def look(model: nn.Module, images: Tensor, layers: Iterable[str] = ()) -> Seen:
    """Run a network once, in the mode it is in, and keep what some of its layers put out.

    Parameters
    ----------
    images
        Shape (N, C, H, W).
    layers
        Names as in ``model.named_modules()``: ``"features.8"``, ``"stages.2"``.

    Returns
    -------
    Seen
        In at least float32, with gradients where the network has them.

    Raises
    ------
    KdlabError
        For a layer that does not exist, runs never or more than once in a pass, puts out anything but one tensor, or
        whose output is overwritten in place by a later layer.
    """
    modules = {name: find_layer(model, name) for name in layers}
    if modules and isinstance(model, OnePass):
        model = model.network  # an answer repeated passes through no layer
    with _recording(modules) as recorders:
        logits = model(images)
    return Seen(in_full(logits), {name: in_full(_only(name, recorder)) for name, recorder in recorders.items()})


def feature_shapes(model: nn.Module, images: Split | Tensor) -> dict[str, tuple[int, ...]]:
    """List the layers that can be tapped, with the shape of what each puts out for one image.

    Parameters
    ----------
    images
        A split, or images of shape (N, C, H, W); two of them are used.
    """
    images = images.images if isinstance(images, Split) else images
    modules = {name: module for name, module in model.named_modules() if name}
    with eval_mode(model), _recording(modules) as recorders:
        model(images[:2].to(device_of(model)))
    return {name: tuple(r.outputs[0].shape[1:]) for name, r in recorders.items() if not r.complaint()}


def in_full(values: Tensor) -> Tensor:
    """Return at least float32: losses are computed in full precision, whatever the networks run in."""
    return values if values.dtype == torch.float64 else values.float()


class _Recorder:
    """A forward hook that keeps what its layer puts out."""

    def __init__(self):
        self.outputs: list[Tensor] = []
        self.versions: list[int] = []

    def __call__(self, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        self.outputs.append(output)
        self.versions.append(_writes(output))

    def __deepcopy__(self, memo: dict):
        return _ignore  # a copy that is made of the network meanwhile is not listened to

    def complaint(self) -> str | None:
        """Return why this layer cannot be tapped, if so."""
        if len(self.outputs) != 1:
            return f"runs {len(self.outputs)} times in one pass; tap a layer that runs once"
        if not isinstance(self.outputs[0], Tensor):
            return f"puts out a {type(self.outputs[0]).__name__}; tap a layer that puts out one tensor"
        if _writes(self.outputs[0]) != self.versions[0]:
            return "has its output overwritten in place by a later layer; tap that one"
        return None


def _ignore(module: nn.Module, inputs: tuple, output: Tensor) -> None:
    pass


def _writes(output: Tensor) -> int:
    """Return how often a tensor was written in place, where torch counts that."""
    return output._version if isinstance(output, Tensor) and not output.is_inference() else 0


@contextlib.contextmanager
def _recording(modules: dict[str, nn.Module]) -> Iterator[dict[str, _Recorder]]:
    recorders = {name: _Recorder() for name in modules}
    handles = []
    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(recorders[name]))
        yield recorders
    finally:
        for handle in handles:
            handle.remove()


def _only(name: str, recorder: _Recorder) -> Tensor:
    if complaint := recorder.complaint():
        raise KdlabError(f"Layer {name!r} {complaint}.")
    return recorder.outputs[0]
