"""What pruning refuses: bad numbers, names nobody has, and networks whose weights are not plain parameters."""

import contextlib
import difflib
import math
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from kdlab.errors import KdlabError


def check_fraction(name: str, value: float) -> float:
    """Return `value` if it is a number in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value < 1:
        raise KdlabError(f"{name} is {value!r}; expected a fraction with 0 <= {name} < 1, such as 0.5.")
    return float(value)


def check_count(name: str, value: int, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise KdlabError(f"{name} is {value!r}; expected a whole number of at least {least}.")
    return int(value)


def unknown_name(what: str, name: str, known: Iterable[str]) -> NoReturn:
    """Raise for a name that does not exist, with the nearest ones that do."""
    known = list(known)
    near = difflib.get_close_matches(str(name), known, 3, cutoff=0.4) or known[:3]
    raise KdlabError(f"There is no {what} {name!r}; the nearest are {', '.join(map(repr, near)) or 'none at all'}.")


def check_finite(scores: dict[str, Tensor]) -> None:
    """Refuse scores with an infinity or a NaN: no threshold separates those."""
    for name, score in scores.items():
        quick = score.sum(dtype=torch.float32)  # a finite sum has finite terms, and costs a tenth of looking at each
        if not math.isfinite(quick) and not torch.isfinite(score).all():
            raise KdlabError(
                f"The scores of {name!r} hold NaN or infinity; expected finite numbers. Has training diverged?"
            )


def check_prunable(model: nn.Module) -> None:
    """Refuse a network whose weights cannot be set to zero, or cut, by looking at each layer's `weight` alone."""
    if not isinstance(model, nn.Module):
        raise KdlabError(f"expected a network (an nn.Module), got {type(model).__name__}.")
    owner: dict[int, str] = {}
    for name, module in model.named_modules():
        _check_module(name or type(model).__name__, module)
        for key, parameter in module.named_parameters(recurse=False):
            full = f"{name}.{key}" if name else key
            if id(parameter) in owner:
                raise KdlabError(
                    f"{owner[id(parameter)]!r} and {full!r} are one shared parameter; expected every layer to own its "
                    "weights. Give one of them a copy: nn.Parameter(weight.detach().clone())."
                )
            owner[id(parameter)] = full


def _check_module(name: str, module: nn.Module) -> None:
    if parametrize.is_parametrized(module) or _reparametrised(module):
        raise KdlabError(
            f"{name!r} computes its weight from other parameters (torch.nn.utils.prune, parametrize or weight_norm); "
            "expected a plain weight. Make it permanent first: prune.remove or parametrize.remove_parametrizations."
        )
    if _quantised(module):
        raise KdlabError(
            f"{name!r} ({type(module).__name__}) is quantised; expected float weights. Prune before quantising."
        )
    for key, parameter in module.named_parameters(recurse=False):
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise KdlabError(f"'{name}.{key}' has no shape yet; run the network on one batch before pruning it.")


def _reparametrised(module: nn.Module) -> bool:
    """Say whether a parameter such as `weight_orig` (or `weight_g` and `weight_v`) stands for one computed from it."""
    own = module._parameters
    bases = {key.rpartition("_")[0] for key in own if key.endswith(("_orig", "_g", "_v"))}
    return any(base not in own and hasattr(module, base) for base in bases if base)


def _quantised(module: nn.Module) -> bool:
    home = type(module).__module__
    if home.startswith(("torch.ao.nn", "torch.nn.quantized", "torch.nn.qat", "torch.nn.intrinsic")):
        return True
    weight = module._parameters.get("weight")
    return isinstance(weight, Tensor) and (weight.is_quantized or not weight.is_floating_point())


@contextlib.contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Let the block put modules into train or eval mode; every module has its own mode back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
