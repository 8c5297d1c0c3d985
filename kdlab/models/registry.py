"""Build a network by name, with weights that a seed decides, and remember how it was built."""

import inspect

import torch
from torch import nn

from kdlab.errors import KdlabError
from kdlab.models.networks import CNN, MLP, ResNet

NETWORKS: dict[str, type[nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}


def build(name: str, seed: int = 0, **settings) -> nn.Module:
    """Build one of the course's networks.

    Parameters
    ----------
    name
        ``"mlp"``, ``"cnn"`` or ``"resnet"``.
    seed
        Decides the initial weights; the global random state is left as it was.
    **settings
        The network's own arguments, ``width=8`` say.

    Returns
    -------
    nn.Module
        With an attribute ``config``: the dictionary from which `build` makes the same network again.

    Raises
    ------
    KdlabError
        For an unknown name or setting.
    """
    if name not in NETWORKS:
        raise KdlabError(f"There is no network {name!r}; expected one of {', '.join(map(repr, NETWORKS))}.")
    known = inspect.signature(NETWORKS[name]).parameters
    unknown = set(settings) - set(known)
    if unknown:
        raise KdlabError(f"{name!r} has no setting {', '.join(sorted(unknown))}; expected some of {', '.join(known)}.")
    for setting, value in settings.items():
        smallest = min(value, default=1) if isinstance(value, tuple | list) else value
        if not isinstance(smallest, int) or smallest < 1:
            raise KdlabError(f"{setting} is {value!r}; expected at least 1, in whole numbers.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NETWORKS[name](**settings)
    model.config = {"name": name, "seed": seed, **settings}
    return model
