"""The step that trains a student."""

import copy

from kdlab import models
from kdlab import pruning as prune
from kdlab.errors import KdlabError
from kdlab.recipe.bench import PRUNED, STUDENT, TEACHER, Bench
from kdlab.recipe.pruning_steps import zeros_stay
from kdlab.recipe.steps import Taught, checked, in_words

WIDTHS = "widths of the pruned teacher"
_STARTS = {WIDTHS: (PRUNED,), PRUNED: (PRUNED,), TEACHER: (TEACHER,)}


class TrainStudent(Taught):
    """Train a student on the data and the soft labels.

    Parameters
    ----------
    network
        Settings for `models.build`; or ``"widths of the pruned teacher"``: a dense network with as many weights as
        pruning has left there, layer by layer (Park & No 2022); or ``"pruned teacher"``, ``"teacher"``: the student
        starts as a copy of it.
    sparsity
        A constraint for `fit`: prune while distilling. What is zero from the start stays zero without it.
    temperature, alpha, epochs, data, **settings
        As in `Taught`.
    """

    title, makes = "train a student", STUDENT

    def __init__(
        self,
        network: dict | str,
        *,
        epochs: int,
        temperature: float = 4.0,
        alpha: float = 0.9,
        sparsity: prune.Masked | None = None,
        **settings,
    ):
        start = _STARTS.get(network, ()) if isinstance(network, str) else ()
        super().__init__(start, temperature=temperature, alpha=alpha, epochs=epochs, **settings)
        if isinstance(network, str) and network not in _STARTS:
            raise KdlabError(
                f"network is {network!r}; expected settings such as {{'name': 'cnn', 'width': 8}}, or one of "
                f"{', '.join(map(repr, _STARTS))}."
            )
        self.network = network if isinstance(network, str) else checked(network)
        self.constraint = sparsity

    def details(self) -> str:
        network = self.network if isinstance(self.network, str) else in_words(self.network)
        how = f", {type(self.constraint).__name__}" if self.constraint is not None else ""
        return f"{network}, {self.source()}{how}, {self.budget()}"

    def run(self, bench: Bench) -> dict:
        network, constraint = self._start(bench), copy.deepcopy(self.constraint)
        return self.train(bench, network, zeros_stay(network) if constraint is None else constraint)

    def _start(self, bench: Bench):
        if self.network == WIDTHS:
            return models.build(**prune.student_settings(bench.networks[PRUNED]), seed=bench.seed)
        if isinstance(self.network, str):
            return copy.deepcopy(bench.networks[self.network])
        return models.build(**{"seed": bench.seed, **self.network})
