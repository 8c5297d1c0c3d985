"""The steps of a recipe, under the names that the recipe is usually told with."""

import inspect
from collections.abc import Iterable

import torch
from torch import nn

from kdlab import measure, models
from kdlab.data import Split
from kdlab.distillation import Distill, soft_labels
from kdlab.errors import KdlabError
from kdlab.fingerprint import plain
from kdlab.recipe.bench import LABELS, PRUNED, STUDENT, TEACHER, Bench
from kdlab.training import Constraint, evaluate, fit

_OWN = {"model", "data", "objective", "sparsity", "val", "epochs", "seed"}


class Step:
    """One step: what it is called, what has to be on the bench before it, what it adds.

    Attributes
    ----------
    title : str
    needs : tuple of str
        Of ``"teacher"``, ``"pruned teacher"``, ``"soft labels"``, ``"student"``.
    makes : str or None
    """

    title = ""
    needs: tuple[str, ...] = ()
    makes: str | None = None

    def details(self) -> str:
        """Return the step's settings in words."""
        return ""

    def examples(self, data: Split) -> int:
        """Return how many training examples the step will see."""
        return 0

    def run(self, bench: Bench) -> dict:
        """Do it; return the prices of the network that it was about."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return ": ".join(filter(None, [self.title, self.details()]))


class Training(Step):
    """A step that calls `fit`.

    Parameters
    ----------
    epochs
        Passes over the data.
    data
        To learn from; the recipe's own if None.
    **settings
        Any setting of `fit` but those that the step decides.
    """

    def __init__(self, *, epochs: int, data: Split | None = None, **settings):
        epochs = plain(epochs)
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
            raise KdlabError(
                f"{self.title!r} has epochs={epochs!r}, an empty budget; expected a whole number of at least 1."
            )
        known = set(inspect.signature(fit).parameters) - _OWN
        for name in settings:
            if name not in known:
                raise KdlabError(
                    f"{self.title!r} has no setting {name!r}; expected some of {', '.join(sorted(known))}."
                )
        self.epochs, self.data, self.settings = epochs, data, settings

    def examples(self, data: Split) -> int:
        return self.epochs * len(self.data if self.data is not None else data)

    def objective(self, bench: Bench) -> Distill | None:
        """Return what is learned from; None for the labels alone."""
        return None

    def train(self, bench: Bench, network: nn.Module, sparsity: Constraint | None = None) -> dict:
        """Train a network, lay it on the bench as what this step makes, and return its prices."""
        data = self.data if self.data is not None else bench.data
        fixed = {"objective": self.objective(bench), "sparsity": sparsity, "epochs": self.epochs, "seed": bench.seed}
        bench.count(fit(network, data, **fixed, **self.settings))
        bench.networks[self.makes] = network
        return prices(bench, self.makes)

    def budget(self) -> str:
        """Return the epochs and the settings in words."""
        images = f" of {len(self.data):,} images" if self.data is not None else ""
        settings = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)}{images}{settings}"


class Taught(Training):
    """A step whose network may learn from the soft labels on the bench.

    Parameters
    ----------
    after
        What else has to be on the bench.
    temperature, alpha
        Of the distillation loss; with alpha 0 the network learns from the labels alone, and needs no soft labels.
    epochs, data, **settings
        As in `Training`.
    """

    def __init__(self, after: Iterable[str], *, temperature: float, alpha: float, **rest):
        super().__init__(**rest)
        self.temperature, self.alpha = temperature, alpha
        self.needs = (*after, *([LABELS] if alpha else []))

    def objective(self, bench: Bench) -> Distill | None:
        return Distill(bench.soft_labels, self.temperature, self.alpha) if self.alpha else None

    def source(self) -> str:
        """Return in words what is learned from."""
        if not self.alpha:
            return "from the labels"
        both = " and the labels" if self.alpha < 1 else ""
        return f"from the soft labels{both} (T={self.temperature:g}, alpha={self.alpha:g})"


class TrainTeacher(Training):
    """Train a teacher from scratch, on the labels.

    Parameters
    ----------
    network
        Settings for `models.build`, ``{"name": "resnet", "width": 16}``.
    epochs, data, **settings
        As in `Training`.
    """

    title, makes = "train a teacher", TEACHER

    def __init__(self, network: dict, *, epochs: int, data: Split | None = None, **settings):
        super().__init__(epochs=epochs, data=data, **settings)
        self.network = checked(network)

    def details(self) -> str:
        return f"{in_words(self.network)}, {self.budget()}"

    def run(self, bench: Bench) -> dict:
        return self.train(bench, models.build(**{"seed": bench.seed, **self.network}))


class MakeSoftLabels(Step):
    """Ask a network once about every training image.

    Parameters
    ----------
    of
        ``"teacher"`` or ``"pruned teacher"``.
    """

    title, makes = "make soft labels", LABELS

    def __init__(self, of: str = TEACHER):
        if of not in (TEACHER, PRUNED):
            raise KdlabError(f"of is {of!r}; expected {TEACHER!r} or {PRUNED!r}.")
        self.of, self.needs = of, (of,)

    def details(self) -> str:
        return f"of the {self.of}"

    def run(self, bench: Bench) -> dict:
        bench.soft_labels = soft_labels(bench.networks[self.of], bench.data)
        return prices(bench, self.of)


class Evaluate(Step):
    """Measure all prices of the student, latency included.

    Parameters
    ----------
    on
        A split; the recipe's `val` if None. Test data opens with ``final=True`` only.
    of
        ``"student"``, or another network on the bench.
    """

    title = "evaluate"

    def __init__(self, on: Split | None = None, *, final: bool = False, of: str = STUDENT):
        self.on, self.final, self.of, self.needs = on, final, of, (of,)

    def details(self) -> str:
        return f"the {self.of} on {self.on.name if self.on is not None else 'val'}"

    def run(self, bench: Bench) -> dict:
        row = measure.prices(bench.networks[self.of], self.on if self.on is not None else bench.val, final=self.final)
        return {"network": self.of, **row}


def prices(bench: Bench, of: str) -> dict:
    """Return what a network on the bench costs and what it gets right on `val`; no timing, which is slow."""
    network = bench.networks[of]
    if network not in bench.priced:  # no step changes a network in place once it lies there
        counts = measure.counts(network, bench.val.images[:1])
        bench.priced[network] = {**counts, "accuracy": evaluate(network, bench.val)}
    return {"network": of, **bench.priced[network]}


def checked(network: dict) -> dict:
    """Return settings for `models.build` if they make a network."""
    if not isinstance(network, dict) or "name" not in network:
        raise KdlabError(f"network is {network!r}; expected settings such as {{'name': 'cnn', 'width': 8}}.")
    size(network)
    return dict(network)


def size(network: dict) -> int:
    """Count the parameters of a network that is not built yet."""
    with torch.device("meta"):
        return measure.parameters(models.build(**network))


def in_words(network: dict) -> str:
    """Return settings for `models.build` as they would be written."""
    return f"{network['name']}({', '.join(f'{k}={v}' for k, v in network.items() if k != 'name')})"
