"""A training run on disk: named by everything that decides its result, so it can be resumed or recalled."""

import weakref
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdlab import fingerprint, store
from kdlab.data import Split
from kdlab.training.history import History


class _Stopped(NamedTuple):
    name: str
    began_as: str  # fingerprints of the network
    left_as: str


_interrupted: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def name_of(model: nn.Module, data: Split, settings: dict, parts: list) -> str | None:
    """Name the run of this network on this data with these settings; None if a part cannot be told apart.

    `parts` are objects that describe themselves: the objective and the constraint.
    """
    descriptions = [_describe(part) for part in parts]
    identity = fingerprint.of_model(model)
    if identity is None or any(d is None for d in descriptions):
        return None
    everything = {
        "model": identity,
        "data": data.digest,
        "settings": settings,
        "parts": descriptions,
        "code": fingerprint.of_code("training", "data"),
        "torch": torch.__version__,
    }
    stopped = _interrupted.get(model)
    if stopped is not None and identity == stopped.left_as:
        # the stop button left this very network half trained: with the same settings, the same run goes on
        same_run = _name({**everything, "model": stopped.began_as})
        if same_run == stopped.name:
            return same_run
    return _name(everything)


def _name(everything: dict) -> str:
    return "fit-" + fingerprint.of_settings(everything)


def _describe(part) -> list | None:
    if part is None:
        return []
    settings = part.describe() if hasattr(part, "describe") else None
    code = fingerprint.of_class(type(part))
    return None if settings is None or code is None else [settings, code]


def mark_interrupted(model: nn.Module, name: str, began_as: str) -> None:
    """Remember that this network, as it is now, belongs to the unfinished run `name`, which `began_as` another."""
    _interrupted[model] = _Stopped(name, began_as, fingerprint.of_model(model))


def identity_before(model: nn.Module) -> str | None:
    """Return what the run that `model` is about to enter began as: itself, unless it was stopped half trained."""
    identity, stopped = fingerprint.of_model(model), _interrupted.get(model)
    return stopped.began_as if stopped is not None and stopped.left_as == identity else identity


class Checkpoint:
    """Everything a run needs in order to go on: network, optimiser, constraint, the objective's own parameters.

    The optimiser comes last, with `resume`: a finished run is recalled without one, and torch takes a second to make
    its first.
    """

    def __init__(self, name: str | None, model, constraint, extra: list[nn.Parameter]):
        self.name, self.model, self.constraint, self.extra = name, model, constraint, extra
        self.optimizer, self._kept_optimizer = None, {}

    def restore(self) -> History | None:
        """Put a kept state back into place; None if there is none, or one that does not fit."""
        record = store.load(self.name) if self.name else None
        if record is None:
            return None
        parts = _split_names(record.tensors)
        try:
            self.model.load_state_dict(parts["model"])
            for parameter, kept in zip(self.extra, _in_order(parts["extra"]), strict=False):
                parameter.data.copy_(kept)
        except (RuntimeError, KeyError):
            return None
        if self.constraint is not None:
            self.constraint.load_state(parts["constraint"])
        self._kept_optimizer = parts["optimizer"]
        return History(**record.facts)

    def resume(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the run's optimiser, and give it back its kept state."""
        self.optimizer = optimizer
        self._load_optimizer(self._kept_optimizer)

    def snapshot(self) -> dict[str, Tensor]:
        """Copy the present state, flat and named."""
        state = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        state |= {f"extra/{i}": p for i, p in enumerate(self.extra)}
        state |= {f"optimizer/{k}": v for k, v in self._optimizer_tensors().items()}
        if self.constraint is not None:
            state |= {f"constraint/{k}": v for k, v in self.constraint.state().items()}
        return {k: v.detach().clone() for k, v in state.items()}

    def write(self, tensors: dict[str, Tensor], history: History, finished: bool = False) -> None:
        """Keep a snapshot; of a finished run without the optimiser, which nobody needs any more."""
        if self.name is None:
            return
        if finished:
            tensors = {k: v for k, v in tensors.items() if not k.startswith("optimizer/")}
        facts = {"rows": history.rows, "seconds": history.seconds, "examples": history.examples}
        store.save(self.name, tensors, facts)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        kept = self.optimizer.state_dict()["state"]
        return {f"{i}.{k}": torch.as_tensor(v) for i, s in kept.items() for k, v in s.items() if v is not None}

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        whole = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            number, key = name.split(".", 1)
            whole["state"].setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict(whole)


def _split_names(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "extra": {}, "optimizer": {}, "constraint": {}}
    for name, tensor in tensors.items():
        part, key = name.split("/", 1)
        parts[part][key] = tensor
    return parts


def _in_order(numbered: dict[str, Tensor]) -> list[Tensor]:
    return [numbered[key] for key in sorted(numbered, key=int)]
