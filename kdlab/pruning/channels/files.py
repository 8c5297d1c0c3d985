"""A pruned network on disk: its widths as JSON, its weights as safetensors. Nothing is pickled."""

import json
from pathlib import Path

import torch
from torch import nn

from kdlab.errors import KdlabError
from kdlab.pruning.channels.surgery import as_same_kind, with_tensors
from kdlab.pruning.checks import check_prunable
from kdlab.writing import write_whole


def save(model: nn.Module, path: str | Path) -> None:
    """Write a pruned network as ``<path>.json`` (widths) and ``<path>.safetensors`` (weights).

    Parameters
    ----------
    model
        From `remove`, or `kdlab.pruning.layers.remove_blocks`.
    path
        Without an ending.
    """
    from safetensors.torch import save as serialise

    state = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    config = {
        "format": 1,
        "network": type(model).__name__,
        "shapes": {name: list(t.shape) for name, t in state.items()},
        "removed": [name for name, module in model.named_modules() if type(module) is nn.Identity],
    }
    write_whole(_file(path, ".safetensors"), serialise(state))
    write_whole(_file(path, ".json"), (json.dumps(config, indent=1) + "\n").encode())


def load(path: str | Path, base: nn.Module) -> nn.Module:
    """Read a pruned network: the base is copied, cut to the recorded widths, and given the recorded weights.

    Parameters
    ----------
    path
        As given to `save`.
    base
        A network of the original, unpruned architecture; its weights do not matter, and it stays as it is.

    Raises
    ------
    KdlabError
        If the files are missing or damaged, or do not descend from `base`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_prunable(base)
    try:
        config = json.loads(_file(path, ".json").read_text())
        shapes, removed = config["shapes"], config["removed"]
        state = load_file(_file(path, ".safetensors"))
    except FileNotFoundError as error:
        raise KdlabError(f"There is no {error.filename}; expected the two files that channels.save wrote.") from None
    except (json.JSONDecodeError, SafetensorError, KeyError, TypeError) as error:
        raise KdlabError(
            f"The files at {str(path)!r} are damaged ({type(error).__name__}); save the network again."
        ) from None
    if shapes != {name: list(t.shape) for name, t in state.items()}:
        raise KdlabError(f"{str(path)!r}: the widths and the weights do not belong together; save the network again.")
    model = _without(base, removed)
    own = model.state_dict(keep_vars=True)
    _check_descent(str(path), type(base).__name__, own, shapes)
    smaller = with_tensors(
        model,
        {
            id(own[name]): as_same_kind(torch.empty(shape, dtype=own[name].dtype), own[name])
            for name, shape in shapes.items()
            if list(own[name].shape) != shape
        },
    )
    smaller.load_state_dict(state)
    return smaller


def _without(base: nn.Module, removed: list[str]) -> nn.Module:
    from kdlab.pruning.layers import replace_by_identity

    present = dict(base.named_modules())
    gone = [name for name in removed if name in present and type(present[name]) is not nn.Identity]
    return replace_by_identity(base, gone) if gone else base


def _check_descent(path: str, network: str, own: dict, shapes: dict) -> None:
    wrong = sorted(set(own) ^ set(shapes))
    wrong += [
        name
        for name, shape in shapes.items()
        if name in own
        and (own[name].ndim != len(shape) or any(a > b for a, b in zip(shape, own[name].shape, strict=True)))
    ]
    if wrong:
        raise KdlabError(
            f"{path!r} was not cut from a {network} like this one ({wrong[0]!r} does not fit); pass the network it was "
            "pruned from."
        )


def _file(path: str | Path, ending: str) -> Path:
    path = Path(path)
    return path.with_name(path.name + ending)
