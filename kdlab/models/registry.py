"""Build a network by name, with weights that a seed decides, and tell how a network would have to be built."""

import inspect

import torch
from torch import nn

from kdlab import fingerprint
from kdlab.errors import KdlabError
from kdlab.models.networks import CNN, MLP, ResNet

NETWORKS: dict[str, type[nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}


def build(name: str, seed: int = 0, **settings) -> nn.Module:
    """Build one of the course's networks, or of your own that you have registered.

    Parameters
    ----------
    name
        ``"mlp"``, ``"cnn"``, ``"resnet"``, or a name given to `register`.
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
    seed = _plain(seed)
    settings = {setting: _plain(value) for setting, value in settings.items()}
    known = inspect.signature(NETWORKS[name]).parameters
    unknown = set(settings) - set(known)
    if unknown:
        raise KdlabError(f"{name!r} has no setting {', '.join(sorted(unknown))}; expected some of {', '.join(known)}.")
    if NETWORKS[name] in (MLP, CNN, ResNet):
        _check(settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NETWORKS[name](**settings)
    model.config = {"name": name, "seed": seed, **settings}
    return model


def register(name: str, network: type[nn.Module]) -> type[nn.Module]:
    """Let `build` make a network of your own: its settings are then what is saved beside its weights.

    Parameters
    ----------
    name
        Any but the course's own three.
    network
        A class whose arguments are numbers, strings, or tuples of them.
    """
    if name in NETWORKS and NETWORKS[name] in (MLP, CNN, ResNet):
        raise KdlabError(f"{name!r} is a network of the course; choose another name.")
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise KdlabError(f"expected a class of networks, a subclass of nn.Module, got {network!r}.")
    NETWORKS[name] = network
    return network


def settings_of(model: nn.Module) -> dict:
    """Return what `build` has to be told to make a network of this shape, read from the tensors themselves.

    A network whose channels have been removed is described as it is now, not as it was once built.

    Returns
    -------
    dict
        ``{"name": …, **settings}``, without the seed.

    Raises
    ------
    KdlabError
        If `build` cannot make such a network: an unknown class, or one from which blocks have been taken.
    """
    kind = next((name for name, cls in NETWORKS.items() if type(model) is cls), None)
    if kind is None:
        raise KdlabError(
            f"{type(model).__name__} is none of {', '.join(NETWORKS)}, so it cannot be built again from its settings. "
            "Use one of these, or register your own with models.register."
        )
    reader = {MLP: _of_mlp, CNN: _of_cnn, ResNet: _of_resnet}.get(NETWORKS[kind], _of_own)
    settings = {"name": kind, **reader(model)}
    if _shapes(NETWORKS[kind], settings) != {key: t.shape for key, t in model.state_dict().items()}:
        raise KdlabError(
            f"This {type(model).__name__} has layers or tensors taken out or added, so it cannot be built again from "
            "its widths."
        )
    return settings


def _shapes(network: type[nn.Module], settings: dict) -> dict | None:
    """Return the shapes of the network's tensors, None if there is none with these settings; allocates nothing."""
    with torch.device("meta"):
        try:
            made = network(**_without_name(settings))
        except KdlabError:
            return None
    return {key: t.shape for key, t in made.state_dict().items()}


def _of_mlp(model: MLP) -> dict:
    *hidden, head = (m for m in model.layers if isinstance(m, nn.Linear))
    inputs = (*hidden, head)[0].weight.shape[1]
    return {"hidden": tuple(len(layer.weight) for layer in hidden), "classes": len(head.weight), "inputs": inputs}


def _of_cnn(model: CNN) -> dict:
    convs = [m for m in model.features if isinstance(m, nn.Conv2d)]
    return {"width": tuple(len(c.weight) for c in convs), **_ends(convs[0], model.head)}


def _of_resnet(model: ResNet) -> dict:
    blocks = [block for block in model.stages if not isinstance(block, nn.Identity)]
    widths = [len(block.conv2.weight) for block in blocks]
    return {
        "width": tuple(widths[:: max(1, len(widths) // 3)]),
        "blocks": len(blocks) // 3,
        "inner": tuple(len(block.conv1.weight) for block in blocks),
        **_ends(model.stem[0], model.head),
    }


def _of_own(model: nn.Module) -> dict:
    config = getattr(model, "config", None)
    if not isinstance(config, dict):
        raise KdlabError(f"This {type(model).__name__} was not made by models.build, so its settings are not known.")
    return {key: value for key, value in config.items() if key not in ("name", "seed")}


def _ends(first: nn.Conv2d, head: nn.Linear) -> dict:
    return {"classes": len(head.weight), "channels": first.weight.shape[1]}


def _without_name(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key != "name"}


def _plain(value):
    """Return a setting in Python's own numbers, lists as tuples."""
    return tuple(_plain(v) for v in value) if isinstance(value, tuple | list) else fingerprint.plain(value)


def _check(settings: dict) -> None:
    for setting, value in settings.items():
        if value is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            if not isinstance(one, int) or one < 1:
                raise KdlabError(f"{setting} is {value!r}; expected at least 1, in whole numbers.")
