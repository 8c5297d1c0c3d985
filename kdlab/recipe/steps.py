"""The steps of a recipe, under the names that the recipe is usually told with."""

import inspect

import torch
from torch import nn

from kdlab import measure, models
from kdlab.data import Split
from kdlab.distillation import soft_labels
from kdlab.errors import KdlabError
from kdlab.recipe.bench import LABELS, PRUNED, STUDENT, TEACHER, Bench
from kdlab.training import evaluate, fit

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

    def run(self, bench: Bench) -> dict | None:
        """Do it; return the step's prices, or None if nothing changed its price."""
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

    def fit(self, bench: Bench, network: nn.Module, *, objective=None, sparsity=None) -> None:
        """Train, the one way there is."""
        data = self.data if self.data is not None else bench.data
        bench.count(
            fit(
                network,
                data,
                objective=objective,
                sparsity=sparsity,
                epochs=self.epochs,
                seed=bench.seed,
                **self.settings,
            )
        )

    def budget(self) -> str:
        """Return the epochs and the settings in words."""
        images = f" of {len(self.data):,} images" if self.data is not None else ""
        settings = "".join(f", {name}={value}" for name, value in self.settings.items())
        return f"{self.epochs} epoch{'s' * (self.epochs > 1)}{images}{settings}"


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
        network = models.build(**{"seed": bench.seed, **self.network})
        self.fit(bench, network)
        bench.networks[TEACHER] = network
        return prices(bench, TEACHER)


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
    return {
        "network": of,
        "parameters": measure.parameters(network),
        "nonzeros": measure.nonzeros(network),
        "packed bytes": len(measure.pack(network)),
        "MACs": measure.macs(network, bench.val.images[:1]),
        "accuracy": evaluate(network, bench.val),
    }


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
