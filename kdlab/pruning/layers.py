"""Removing whole residual blocks, and neurons of a multilayer perceptron."""

import copy

from torch import nn

from kdlab.errors import KdlabError
from kdlab.pruning.channels import surgery
from kdlab.pruning.channels.trace import run
from kdlab.pruning.checks import check_prunable, unknown_name


def blocks(model: nn.Module, example) -> list[str]:
    """Return the residual blocks that can be taken out: modules that add their own input to a result of its shape.

    Parameters
    ----------
    example
        A batch that the network accepts.

    Returns
    -------
    list of str
        Module names, in the order in which they run. A block with a projection on its shortcut is not among them.
    """
    return list(dict.fromkeys(run(model, example).residual))


def remove_blocks(model: nn.Module, example, names: str | list[str]) -> nn.Module:
    """Return a copy of the network in which residual blocks have become `nn.Identity` (Veit 2016, section 4.1).

    Parameters
    ----------
    names
        Some of what `blocks` returns.

    Raises
    ------
    KdlabError
        For a name that is no removable block.
    """
    possible, names = blocks(model, example), [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in possible:
            unknown_name("residual block whose input and output agree", name, possible)
    return replace_by_identity(model, names)


def replace_by_identity(model: nn.Module, names: list[str]) -> nn.Module:
    """Return a copy in which the named modules are `nn.Identity`."""
    smaller = copy.deepcopy(model)
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(smaller.get_submodule(parent), child, nn.Identity())
    return smaller


def remove_neurons(model: nn.Module, example, ratio=0.5, rank="l1", **settings) -> nn.Module:
    """Return a smaller copy of a multilayer perceptron, without its least important neurons.

    A neuron is a channel of a linear layer, so this is `channels.remove`, for networks of linear layers only.

    Parameters and errors as in `channels.remove`.
    """
    check_prunable(model)
    if any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules()):
        raise KdlabError(f"{type(model).__name__} has convolutions; expected linear layers only. Use channels.remove.")
    return surgery.remove(model, example, ratio, rank, **settings)
