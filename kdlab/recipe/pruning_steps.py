"""Steps that take weights or channels away."""

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from kdlab import pruning as prune
from kdlab.errors import KdlabError
from kdlab.pruning.checks import check_fraction
from kdlab.recipe.bench import PRUNED, STUDENT, TEACHER, Bench
from kdlab.recipe.steps import Taught


class Pruning(Taught):
    """A step that prunes a copy of a network, and trains what is left.

    Parameters
    ----------
    sparsity
        Fraction of the weights to set to zero, gradually while training (Zhu & Gupta 2017); or a constraint of your
        own for `fit`.
    channels
        Fraction of the channels to cut out before training, instead.
    blocks
        Names of residual blocks to take out before training, instead.
    temperature, alpha, epochs, data, **settings
        As in `Taught`: train what is left on the soft labels on the bench, or on the labels alone.
    """

    takes = ""

    def __init__(
        self,
        *,
        epochs: int,
        sparsity: float | prune.Masked | None = None,
        channels: float | None = None,
        blocks: Sequence[str] | None = None,
        temperature: float = 4.0,
        alpha: float = 0.0,
        **settings,
    ):
        super().__init__([self.takes], temperature=temperature, alpha=alpha, epochs=epochs, **settings)
        if [sparsity, channels, blocks].count(None) != 2:
            raise KdlabError(
                f"{self.title!r} takes one of sparsity=, channels= and blocks=, got {sparsity!r}, {channels!r} and "
                f"{blocks!r}."
            )
        self.constraint = prune.Gradual(sparsity) if isinstance(sparsity, int | float) else sparsity
        self.channels = channels if channels is None else check_fraction("channels", channels)
        self.blocks = [blocks] if isinstance(blocks, str) else blocks

    def details(self) -> str:
        if self.channels is not None:
            what = f"{100 * self.channels:g} % of the channels"
        elif self.blocks is not None:
            what = f"without {', '.join(self.blocks)}"
        else:
            target = getattr(self.constraint, "target", None)
            share = f"{100 * target:g} % of the weights, " if target is not None else ""
            what = f"{share}{type(self.constraint).__name__}"
        return f"{what}, {self.source()}, {self.budget()}"

    def run(self, bench: Bench) -> dict:
        network, constraint = copy.deepcopy(bench.networks[self.takes]), copy.deepcopy(self.constraint)
        if constraint is None:
            network = self._cut(network, bench.val.images[:1])
            constraint = zeros_stay(network)
        return self.train(bench, network, constraint)

    def _cut(self, network: nn.Module, example: Tensor) -> nn.Module:
        if self.channels is not None:
            return prune.channels.remove(network, example, self.channels)
        return prune.layers.remove_blocks(network, example, self.blocks)


class PruneTeacher(Pruning):
    """Prune the teacher; the dense one stays on the bench. Parameters as in `Pruning`."""

    title, takes, makes = "prune the teacher", TEACHER, PRUNED


class PruneStudent(Pruning):
    """Prune the student. Parameters as in `Pruning`."""

    title, takes, makes = "prune the student", STUDENT, STUDENT


class Finetune(Taught):
    """Train a network on the bench further; its zeros stay zeros.

    Parameters
    ----------
    of
        ``"teacher"``, ``"pruned teacher"`` or ``"student"``: it is replaced.
    temperature, alpha, epochs, data, **settings
        As in `Taught`.
    """

    title = "fine-tune"

    def __init__(self, of: str = STUDENT, *, epochs: int, temperature: float = 4.0, alpha: float = 0.0, **settings):
        super().__init__([of], temperature=temperature, alpha=alpha, epochs=epochs, **settings)
        if of not in (TEACHER, PRUNED, STUDENT):
            raise KdlabError(f"of is {of!r}; expected {TEACHER!r}, {PRUNED!r} or {STUDENT!r}.")
        self.makes = of

    def details(self) -> str:
        return f"the {self.makes}, {self.source()}, {self.budget()}"

    def run(self, bench: Bench) -> dict:
        network = copy.deepcopy(bench.networks[self.makes])
        return self.train(bench, network, zeros_stay(network))


def zeros_stay(network: nn.Module) -> prune.Fixed | None:
    """Return the constraint that keeps what is zero at zero; None for a dense network."""
    masks = {name: weight != 0 for name, weight in prune.weights(network).items()}
    return prune.Fixed(masks) if prune.sparsity_of(masks) else None
