"""Masks that hold through training: the constraints handed to `fit(…, sparsity=…)`."""

import hashlib

import torch
from torch import Tensor, nn

from kdlab.pruning import masks as m
from kdlab.training.protocols import Constraint


class Masked(Constraint):
    """Keeps masked weights at exactly zero by multiplying them with their mask after every step of the optimiser.

    Momentum, weight decay and Adam's running means all move a weight that was set to zero once; the multiplication
    comes after them, so it needs no hook, no second parameter and no knowledge of the optimiser. The weight itself is
    zero: `deepcopy`, `state_dict` and `torch.compile` see an ordinary network.
    """

    masks: m.Masks

    def __init__(self):
        self.masks = {}
        self._bound = None

    @property
    def sparsity(self) -> float:
        """Zeros / scored weights, now (0 before training)."""
        return m.sparsity_of(self.masks) if self.masks else 0.0

    def set_masks(self, model: nn.Module, masks: m.Masks) -> None:
        """Take up new masks and set the weights they exclude to zero."""
        m.check_masks(model, masks)
        self.masks = {name: mask.detach().clone() for name, mask in masks.items()}
        self._bound = None
        self.keep(model)

    @torch.no_grad()
    def keep(self, model: nn.Module) -> None:
        """Set the masked weights to zero: two passes over all layers at once."""
        if self.masks:
            layers, multipliers = self._bind(model)
            weights = [layer.weight for layer in layers]
            torch._foreach_mul_(weights, multipliers)
            torch._foreach_add_(weights, 0.0)  # turns the -0.0 of a negative weight into 0.0

    @torch.no_grad()
    def keep_gradients(self, model: nn.Module) -> None:
        """Set the gradients of masked weights to zero."""
        layers, multipliers = self._bind(model)
        pairs = [(x.weight.grad, mul) for x, mul in zip(layers, multipliers, strict=True) if x.weight.grad is not None]
        if pairs:
            torch._foreach_mul_(*zip(*pairs, strict=True))

    def after_step(self, model: nn.Module, step: int) -> None:
        self.keep(model)

    def state(self) -> dict[str, Tensor]:
        return {f"mask.{name}": mask for name, mask in self.masks.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.masks = taken_up(state, "mask.", self.masks)
        self._bound = None

    def _bind(self, model: nn.Module) -> tuple[list[nn.Module], list[Tensor]]:
        """Find the masked layers, and turn their masks into numbers on the weights' device; once per model."""
        if self._bound is None or self._bound[0] is not model:
            layers = [model.get_submodule(name) for name in self.masks]
            multipliers = [torch.empty_like(layer.weight) for layer in layers]
            for multiplier, mask in zip(multipliers, self.masks.values(), strict=True):
                multiplier.copy_(mask)
            self._bound = (model, layers, multipliers)
        return self._bound[1:]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_bound": None}  # a copy of the constraint must not copy the network


def taken_up(state: dict[str, Tensor], prefix: str, present: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a kept state whose names begin with `prefix`, where the present ones are."""
    kept = {key.removeprefix(prefix): tensor.clone() for key, tensor in state.items() if key.startswith(prefix)}
    return {name: t.to(present[name].device) if name in present else t for name, t in kept.items()}


class Fixed(Masked):
    """Masks that never change: fine-tune what is left.

    Parameters
    ----------
    masks
        From `global_mask` and its siblings, or a lottery ticket.
    """

    def __init__(self, masks: m.Masks):
        super().__init__()
        self._given = masks

    def start(self, model: nn.Module, total_steps: int) -> None:
        self.set_masks(model, self._given)

    def describe(self) -> dict:
        digest = hashlib.sha256()
        for name, mask in sorted(self._given.items()):
            digest.update(f"{name} {tuple(mask.shape)}".encode() + mask.cpu().contiguous().numpy().tobytes())
        return {"sparsity": "fixed", "masks": digest.hexdigest()[:20]}
