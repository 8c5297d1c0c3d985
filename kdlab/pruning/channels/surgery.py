"""Cut channels out of a copy of the network: what comes back is a smaller ordinary module."""

import copy

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning.channels.book import FIXED, Book
from kdlab.pruning.channels.choice import choose, named
from kdlab.pruning.channels.groups import Graph, build
from kdlab.pruning.channels.ranking import Rank, importance
from kdlab.pruning.channels.trace import Axis, Tracer, run


def remove(
    model: nn.Module,
    example,
    ratio: float | dict[str, float] = 0.5,
    rank: Rank = "l1",
    *,
    scope: str = "group",
    round_to: int = 1,
    min_channels: int | None = None,
    keep=(),
    channels: dict[str, list[int]] | None = None,
    seed: int = 0,
) -> nn.Module:
    """Return a smaller copy of a network, without its least important channels; the original stays as it is.

    Every removed channel goes from all layers of its dependency group: the filter that makes it, its batch-norm entry,
    the weights that read it. Channels of the output stay.

    Parameters
    ----------
    model
        Any module that runs on the example: the course's networks, torchvision's, your own.
    example
        A batch that the network accepts, such as (2, 1, 28, 28) pictures; its values and device do not matter.
    ratio
        Fraction of channels to remove, in [0, 1), of every group or of all together (see `scope`); or
        ``{layer: ratio}``. ``floor(width * (1 - ratio))`` stay.
    rank
        ``"l1"``, ``"l2"``, ``"bn"``, ``"taylor"``, ``"random"`` or a function; see `importance`.
    scope
        ``"group"``: the same ratio in every group. ``"global"``: the least important of all groups, each compared by
        its mean score (``"bn"``: as they are, Liu 2017).
    round_to
        Round the channels left in a layer down to a multiple of this (hardware likes 8), but not to none.
    min_channels
        Leave at least so many in every layer, instead of refusing a ratio that would empty one.
    keep
        Names of layers whose outputs stay whole.
    channels
        ``{layer: indices of output channels}``: remove just these, whatever the ratio.
    seed
        For ``rank="random"``.

    Returns
    -------
    nn.Module
        Of the same classes, with smaller layers.

    Raises
    ------
    KdlabError
        For a ratio outside [0, 1) or one that would empty a layer, an example the network refuses, shared weights, a
        parametrised or quantised layer, an unknown name, a graph that cannot be followed (the place is named).
    """
    graph = build(model, example)
    settings = {"scope": scope, "round_to": round_to, "min_channels": min_channels, "keep": keep, "seed": seed}
    chosen = named(graph, channels) if channels is not None else choose(model, graph, ratio, rank, **settings)
    dead = _dead(graph, chosen)
    smaller = _cut(model, graph, dead)
    _check(smaller, example, graph, dead)
    return smaller


def kept(model: nn.Module, example, ratio=0.5, rank: Rank = "l1", **settings) -> dict[str, Tensor]:
    """Return which output channels `remove` would leave in each layer: ``{layer: indices, shape (left,)}``.

    Parameters as in `remove`.
    """
    graph = build(model, example)
    channels = settings.pop("channels", None)
    chosen = named(graph, channels) if channels is not None else choose(model, graph, ratio, rank, **settings)
    dead = _dead(graph, chosen)
    modules = dict(model.named_modules())
    trace = graph.trace
    depthwise = [layer for layer in trace.passers if isinstance(modules.get(layer), nn.modules.conv._ConvNd)]
    axes = trace.makers | {layer: trace.passers[layer] for layer in depthwise}
    return {layer: _left(graph, axis, dead) for layer, axis in axes.items()}


def scores(model: nn.Module, example, rank: Rank = "l1", seed: int = 0) -> dict[str, Tensor]:
    """Return the importance of every removable channel: ``{group name: shape (width,)}``; see `ranking.importance`."""
    return importance(model, build(model, example), rank, seed)


def silence(model: nn.Module, example, channels: dict[str, list[int]]) -> nn.Module:
    """Return a copy of the same size in which these channels are silent: removing them then changes no output.

    The filters that make them, their biases and their batch-norm scales and shifts become zero (the biases too: a
    channel whose filter alone is zero still sends its shift). Activations with f(0) = 0 pass that on.

    Parameters
    ----------
    channels
        ``{layer: indices of output channels}``; whatever is coupled to them falls silent too.
    """
    graph = build(model, example)
    dead = _dead(graph, named(graph, channels))
    silent = copy.deepcopy(model)
    readers = set(graph.trace.readers.values())
    parameters = dict(silent.named_parameters())
    with torch.no_grad():
        for (name, axis), sets in graph.vectors.items():
            if name in parameters and (name, axis) not in readers:
                parameters[name].index_fill_(axis, dead[sets].nonzero().flatten().to(parameters[name].device), 0)
    return silent


def _dead(graph: Graph, chosen: dict[str, Tensor]) -> Tensor:
    """Mark the sets of channels to remove, shape (sets,)."""
    dead = torch.zeros_like(graph.stays)
    for group in graph.groups:
        if group.name in chosen:
            dead[group.units[chosen[group.name]]] = True
    for (name, _), sets in graph.vectors.items():
        if dead[sets].all():
            raise KdlabError(f"Removing these channels would empty {name!r}; expected at least one to stay.")
    return dead


def _left(graph: Graph, axis: Axis, dead: Tensor) -> Tensor:
    return (~dead[graph.vectors[axis]]).nonzero().flatten()


def _cut(model: nn.Module, graph: Graph, dead: Tensor) -> nn.Module:
    """Copy the network with every parameter and buffer cut to what is left along the axes that follow channels."""
    tensors = {name: t for name, t in [*model.named_parameters(), *model.named_buffers()]}
    smaller: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        part = tensor.detach()
        for axis in range(tensor.ndim):
            if (name, axis) in graph.vectors:
                left = _left(graph, (name, axis), dead)
                part = part if len(left) == part.shape[axis] else part.index_select(axis, left.to(part.device))
        if part.shape != tensor.shape:
            smaller[id(tensor)] = as_same_kind(part, tensor)
    return with_tensors(model, smaller)


def as_same_kind(part: Tensor, tensor: Tensor) -> Tensor:
    """Make `part` a parameter if `tensor` is one."""
    return nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part


def with_tensors(model: nn.Module, replaced: dict[int, Tensor]) -> nn.Module:
    """Copy a network with some of its tensors (by id) replaced by smaller ones, and the layers' widths set to match."""
    copied = copy.deepcopy(model, dict(replaced))
    originals = dict(model.named_modules())
    for name, module in copied.named_modules():
        _set_widths(module, originals[name])
    return copied


def _set_widths(module: nn.Module, original: nn.Module) -> None:
    """Make a layer's own account of its widths (which it prints, and convolutions use) agree with its weight."""
    weight = next((t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None), None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.conv._ConvNd):
        if original.groups > 1 and original.groups == original.in_channels:  # depthwise: whole groups went
            module.groups = weight.shape[0] * original.groups // original.weight.shape[0]
        first, second = weight.shape[0], weight.shape[1] * module.groups
        module.in_channels, module.out_channels = (first, second) if module.transposed else (second, first)
    elif isinstance(module, nn.modules.batchnorm._NormBase) and weight is not None:
        module.num_features = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)


class _Recount(Book):
    """The book for the smaller network: its channels are the survivors, and everything that meets must agree."""

    def __init__(self, made: dict[str, Tensor]):
        super().__init__()
        self.made = made

    def fresh(self, maker: str, width: int) -> Tensor:
        return self.made[maker]

    def keep(self, channels: Tensor, why: str) -> None:
        pass

    def couple(self, a: Tensor, b: Tensor, node: str) -> None:
        if a.shape != b.shape or not torch.equal(a, b):
            raise _outgrown(node)


def _outgrown(node: str) -> KdlabError:
    return KdlabError(
        f"{node} does not fit any more once channels are removed: a width is written as a number in the forward pass, "
        "there or before. Take it from the tensor's own shape, or name the layers before it in keep."
    )


class _Recounter(Tracer):
    """Treats each convolution as the original's was treated: grouped ones may have been cut down to depthwise ones."""

    depthwise: set[str]

    def failure(self, network: str, shapes: str, reason: str) -> KdlabError:
        return _outgrown(self.node)

    def is_depthwise(self, layer: str, groups: int, inputs: int) -> bool:
        return layer in self.depthwise


def _check(smaller: nn.Module, example, graph: Graph, dead: Tensor) -> None:
    """Follow the channels through the smaller network and see that each arrives where its weights expect it."""
    expected = {}
    for axis, sets in graph.vectors.items():
        survivors = sets[~dead[sets]]
        expected[axis] = survivors.masked_fill(graph.stays[survivors], FIXED)
    made = {name: numbers for (name, axis), numbers in expected.items() if (name, axis) in _numbered(graph)}

    def tracer(shell: nn.Module) -> Tracer:
        tracer = _Recounter(shell, _Recount(made))
        tracer.depthwise = set(graph.trace.passers)
        tracer.trace.axes.update(expected)
        return tracer

    shapes = run(smaller, example, tracer).output_shapes
    if shapes != graph.trace.output_shapes:
        raise KdlabError(f"The smaller network returns {shapes} instead of {graph.trace.output_shapes}.")


def _numbered(graph: Graph) -> set[Axis]:
    """Return the axes whose channels were numbered when they were made."""
    bare = {axis for name, axis in graph.trace.passers.items() if name == axis[0]}
    return {*graph.trace.makers.values(), *bare}
