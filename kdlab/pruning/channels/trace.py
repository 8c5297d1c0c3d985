"""Follow every channel through a network by running it once on an example.

While the network runs, each call of a torch function passes through `Tracer`, which tags its result: a convolution
or linear layer numbers the channels it makes, and what it reads is written down; an addition couples the channels that
meet; a concatenation or flattening moves tags about. Any Python control flow is fine, for the network really runs.
"""

import copy
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from kdlab.errors import KdlabError
from kdlab.pruning.channels import tags
from kdlab.pruning.channels.book import Book
from kdlab.pruning.checks import check_prunable

_TAGS = "_kdlab_channel_tags"
Axis = tuple[str, int]  # a parameter's name and one of its axes


@dataclass
class Trace:
    """What one run showed.

    Attributes
    ----------
    axes
        For each axis of a parameter or buffer that follows channels: their numbers along it, shape (C,).
    makers, readers, passers
        By layer, the axis that makes channels (rows of a weight), that reads them (columns), or that has one entry
        for each channel passing through (batch norm, a depthwise filter); in the order of the run.
    made
        The numbers of each maker's channels, shape (C,).
    output_shapes
        Of the network's outputs.
    residual
        Modules that add their own input to their result.
    """

    book: Book
    axes: dict[Axis, Tensor] = field(default_factory=dict)
    makers: dict[str, Axis] = field(default_factory=dict)
    readers: dict[str, Axis] = field(default_factory=dict)
    passers: dict[str, Axis] = field(default_factory=dict)
    made: dict[str, Tensor] = field(default_factory=dict)
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    residual: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Call:
    """One call of a torch function."""

    name: str
    function: Callable
    args: tuple
    kwargs: dict
    output: object
    node: str

    @property
    def tensors(self) -> list[Tensor]:
        return tensors_in((self.args, self.kwargs))

    def argument(self, position: int, name: str, default=None):
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def refuse(self, why: str) -> KdlabError:
        return KdlabError(f"Channels cannot be followed through {self.node}: {why}.")


class Tracer(TorchFunctionMode):
    """Tags the result of every torch function that runs inside it."""

    def __init__(self, shell: nn.Module, book: Book):
        super().__init__()
        self.trace = Trace(book)
        self.names = {id(t): name for name, t in [*shell.named_parameters(), *shell.named_buffers()]}
        self._path: list[str] = []
        self._inputs: list[tuple] = []
        self._latest = ""
        self._adding: set[str] = set()
        for name, module in shell.named_modules():
            module.register_forward_pre_hook(self._entering(name))
            module.register_forward_hook(self._leaving)

    @property
    def book(self) -> Book:
        return self.trace.book

    @property
    def where(self) -> str:
        """The module that runs now."""
        return next((name for name in reversed(self._path) if name), "forward")

    @property
    def node(self) -> str:
        """The module that runs now, and the function it called last."""
        return f"{self.where!r} ({self._latest or 'forward'})"

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = self._latest = _plain_name(function)
        output = function(*args, **kwargs)
        results = tensors_in(output)
        if results or name == "setitem":
            self._follow(Call(name, function, args, kwargs, output, self.node), results)
        return output

    def _follow(self, call: Call, results: list[Tensor]) -> None:
        from kdlab.pruning.channels.rules import rule_for

        rule_for(call, self)(self, call)
        for result in results:
            if not hasattr(result, _TAGS) and id(result) not in self.names:
                raise call.refuse("it returns something that no rule describes")

    def tags_of(self, value: Tensor, call: Call) -> Tensor:
        """Return the tags of a call's argument."""
        name = self.names.get(id(value))
        if name is not None:
            return self._tags_of_parameter(name, value, call)
        if not hasattr(value, _TAGS):
            if value.numel() > 1:
                raise call.refuse("it uses a tensor that comes from outside the network and from no torch function")
            return tags.fixed(value)
        return getattr(value, _TAGS)

    def _tags_of_parameter(self, name: str, value: Tensor, call: Call) -> Tensor:
        """Tag a bare parameter, such as a layer scale: one long axis may follow the channels that it meets."""
        long_axes = [axis for axis, size in enumerate(value.shape) if size > 1]
        if len(long_axes) != 1 or not value.is_floating_point():
            return tags.fixed(value)
        axis = long_axes[0]
        if (name, axis) not in self.trace.axes:
            self.follows(name, axis, self.book.fresh(name, value.shape[axis]), call)
            self.trace.passers.setdefault(name, (name, axis))
        return tags.along(self.trace.axes[name, axis], axis, value.ndim)

    def tag(self, value: Tensor, numbers: Tensor) -> None:
        """Remember a value's tags, on the value itself."""
        if id(value) not in self.names:
            setattr(value, _TAGS, numbers)

    def follows(self, name: str, axis: int, numbers: Tensor, call: Call) -> None:
        """Write down that an axis of a parameter follows these channels, shape (C,)."""
        known = self.trace.axes.setdefault((name, axis), numbers)
        if known is not numbers:
            self.book.couple(known, numbers, call.node)

    def failure(self, network: str, shapes: str, reason: str) -> KdlabError:
        """Return the error for a run that broke off."""
        return KdlabError(
            f"{network} refuses an example of shape {shapes} in {self.node}: {reason}. Pass a batch of the kind it "
            "was made for."
        )

    def is_depthwise(self, layer: str, groups: int, inputs: int) -> bool:
        """Say whether each input channel of a convolution has filters of its own."""
        return groups > 1 and groups == inputs

    def vector(self, call: Call, value: Tensor, axis: int) -> Tensor:
        """Return the channel numbers along one axis of an argument, shape (C,); couples what shares a position."""
        numbers, axis = self.tags_of(value, call), axis % value.ndim
        others = [other for other in tags.varying(numbers) if other != axis]
        if others and numbers.shape[axis] == 1:
            raise call.refuse("it mixes positions, and its channels lie along another axis")
        first = numbers
        for other in others:
            first = first.narrow(other, 0, 1)
        if others:
            self.book.couple(first.expand_as(numbers), numbers, call.node)
        return first.flatten().expand(value.shape[axis])

    def _entering(self, name: str) -> Callable:
        def hook(module, args):
            self._path.append(name)
            self._inputs.append(args)

        return hook

    def _leaving(self, module, args, output) -> None:
        name = self._path.pop()
        self._inputs.pop()
        if name in self._adding and isinstance(output, Tensor) and output.shape == args[0].shape:
            self.trace.residual.append(name)

    def note_residual(self, call: Call) -> None:
        """Remember the innermost module whose own input this addition adds to something of the same shape."""
        operands = [id(t) for t in call.tensors if t.shape == call.output.shape and id(t) not in self.names]
        for name, args in zip(reversed(self._path), reversed(self._inputs), strict=True):
            if len(operands) == 2 and len(args) == 1 and id(args[0]) in operands:
                self._adding.add(name)
                return


def run(model: nn.Module, example, make: Callable[[nn.Module], Tracer] | None = None) -> Trace:
    """Run the network once in eval mode, without touching it, and return what was seen.

    Parameters
    ----------
    example
        A batch the network accepts, (N, C, H, W) say, or a tuple of its arguments; on any device.

    Raises
    ------
    KdlabError
        If the network refuses the example, or does something through which channels cannot be followed.
    """
    check_prunable(model)
    shell = _shell(model)
    tracer = make(shell) if make else Tracer(shell, Book())
    arguments = _beside(model, example if isinstance(example, tuple) else (example,))
    for value in tensors_in(arguments):
        tracer.tag(value, tags.fixed(value))
    with torch.no_grad():
        try:
            with tracer:
                output = shell(*arguments)
        except KdlabError:
            raise
        except Exception as error:
            shapes = " and ".join(str(tuple(t.shape)) for t in tensors_in(arguments)) or type(example).__name__
            reason = re.sub(r"\s+", " ", str(error))[:200]
            raise tracer.failure(type(model).__name__, shapes, reason) from error
    end = Call("output", run, (output,), {}, output, "the network's output")
    for value in end.tensors:
        tracer.trace.output_shapes.append(tuple(value.shape))
        tracer.book.keep(tracer.tags_of(value, end), "they are the network's output")
    return tracer.trace


def _shell(model: nn.Module) -> nn.Module:
    """Copy the modules but not their parameters and buffers, so that hooks and modes stay off the original."""
    own = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, own).eval()


def _plain_name(function: Callable) -> str:
    """Return `add` for torch.add, Tensor.add_, + and +=; `T` for the property."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":
        return getattr(function.__self__, "__name__", name)
    name = name.strip("_")
    return {"radd": "add", "iadd": "add", "rmul": "mul", "imul": "mul", "rsub": "sub", "isub": "sub"}.get(name, name)


def _beside(model: nn.Module, arguments: tuple) -> tuple:
    """Return the arguments on the network's device, as other tensors, so that the caller's own are not tagged."""
    device = next((t.device for t in itertools.chain(model.parameters(), model.buffers())), None)
    return tree_map(lambda leaf: leaf.detach().to(device) if isinstance(leaf, Tensor) else leaf, arguments)


def tensors_in(tree) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
