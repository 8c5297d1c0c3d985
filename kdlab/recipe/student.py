"""The step that trains a student."""

import copy

from kdlab import models
from kdlab import pruning as prune
from kdlab.data import Split
from kdlab.errors import KdlabError
from kdlab.recipe.bench import LABELS, PRUNED, STUDENT, TEACHER, Bench
from kdlab.recipe.pruning_steps import in_signal, signal, zeros_stay
from kdlab.recipe.steps import Training, checked, in_words, prices

WIDTHS = "widths of the pruned teacher"
_STARTS = {WIDTHS: (PRUNED,), PRUNED: (PRUNED,), TEACHER: (TEACHER,)}


class TrainStudent(Training):
    """Train a student on the data and the soft labels.

    Parameters
    ----------
    network
        Settings for `models.build`; or ``"widths of the pruned teacher"``: a dense network with as many weights as
        pruning has left there, layer by layer (Park & No 2022); or ``"pruned teacher"``, ``"teacher"``: the student
        starts as a copy of it.
    temperature, alpha
        Of the distillation loss; with alpha 0 the student learns from the labels alone, and needs no teacher.
    sparsity
        A constraint for `fit`: prune while distilling. What is zero from the start stays zero without it.
    epochs, data, **settings
        As in `Training`.
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
        data: Split | None = None,
        **settings,
    ):
        super().__init__(epochs=epochs, data=data, **settings)
        if isinstance(network, str) and network not in _STARTS:
            raise KdlabError(
                f"network is {network!r}; expected settings such as {{'name': 'cnn', 'width': 8}}, or one of "
                f"{', '.join(map(repr, _STARTS))}."
            )
        self.network = network if isinstance(network, str) else checked(network)
        self.temperature, self.alpha, self.constraint = temperature, alpha, sparsity
        start = _STARTS[network] if isinstance(network, str) else ()
        self.needs = (*start, *([LABELS] if alpha else []))

    def details(self) -> str:
        network = self.network if isinstance(self.network, str) else in_words(self.network)
        how = f", {type(self.constraint).__name__}" if self.constraint is not None else ""
        return f"{network}, {in_signal(self.temperature, self.alpha)}{how}, {self.budget()}"

    def run(self, bench: Bench) -> dict:
        network, constraint = self._start(bench), copy.deepcopy(self.constraint)
        if constraint is None:
            constraint = zeros_stay(network)
        self.fit(bench, network, objective=signal(bench, self.temperature, self.alpha), sparsity=constraint)
        bench.networks[STUDENT] = network
        return prices(bench, STUDENT)

    def _start(self, bench: Bench):
        if self.network == WIDTHS:
            return models.build(**prune.student_settings(bench.networks[PRUNED]), seed=bench.seed)
        if isinstance(self.network, str):
            return copy.deepcopy(bench.networks[self.network])
        return models.build(**{"seed": bench.seed, **self.network})
