"""A recipe: steps in an order that can be followed."""

import os

from kdlab.data import Split
from kdlab.errors import KdlabError
from kdlab.recipe.bench import LABELS, PRUNED, STUDENT, TEACHER, Bench
from kdlab.recipe.steps import Step, TrainTeacher, size
from kdlab.recipe.student import TrainStudent

_MADE_BY = {
    TEACHER: "TrainTeacher",
    PRUNED: "PruneTeacher",
    LABELS: "MakeSoftLabels",
    STUDENT: "TrainStudent",
}


class Recipe:
    """Steps that are followed one after the other; every one is kept in the store by itself.

    Parameters
    ----------
    *steps
        In their order.
    data
        What students learn from, and what soft labels are made for.
    val
        Scored after every step.
    budget
        The most training examples that all steps together may see; None for no limit.

    Raises
    ------
    KdlabError
        Before anything is trained: for steps in an order that cannot be followed, a student larger than its teacher,
        no steps, no data, or more training than the budget allows.
    """

    def __init__(self, *steps: Step, data: Split, val: Split, budget: int | None = None):
        for step in steps:
            if not isinstance(step, Step):
                raise KdlabError(f"expected steps such as Evaluate(), got {step!r}.")
        if not steps:
            raise KdlabError("This recipe has no steps; expected at least one, such as TrainTeacher(…).")
        for name, split in {"data": data, "val": val}.items():
            if not isinstance(split, Split) or len(split) == 0:
                raise KdlabError(f"{name} is {split!r}; expected a split with images, such as fashion.train.")
        if val.sealed:
            raise KdlabError("val is test data, which is opened once, at the end: Evaluate(fashion.test, final=True).")
        self.steps, self.data, self.val, self.budget = steps, data, val, budget
        _check_order(steps)
        _check_sizes(steps)
        self._check_budget()

    @property
    def examples(self) -> int:
        """Training examples that all steps together will see."""
        return sum(step.examples(self.data) for step in self.steps)

    def run(self, seed: int = 0, progress: bool | None = None) -> Bench:
        """Follow the recipe.

        Parameters
        ----------
        seed
            Decides all networks' first weights and the order of the images.
        progress
            Print a line after every step; by default everywhere but in worker processes.

        Returns
        -------
        Bench
            The networks, the soft labels and a row of prices after every step.
        """
        bench = Bench(self.data, self.val, seed)
        loud = not os.environ.get("KDLAB_WORKER") if progress is None else progress
        for number, step in enumerate(self.steps, 1):
            row = step.run(bench)
            bench.rows.append({"step": f"{number} {step.title}", "examples": bench.examples, **row})
            if loud:
                print(f"{number}/{len(self.steps)} {step.title}: {_short(row)}")
        return bench

    def __repr__(self) -> str:
        head = f"Recipe of {len(self.steps)} steps, {self.examples:,} training examples"
        return "\n".join([head, *(f"{number} {step}" for number, step in enumerate(self.steps, 1))])

    def _check_budget(self) -> None:
        if self.budget is not None and self.examples > self.budget:
            raise KdlabError(
                f"These steps see {self.examples:,} training examples, and the budget is {self.budget:,}. Take epochs "
                "away, or use less data."
            )


def _short(row: dict) -> str:
    return (
        f"{row['network']} with {row['nonzeros']:,} non-zeros, {row['packed bytes']:,} bytes packed, accuracy "
        f"{row['accuracy']:.3f}"
    )


def _check_order(steps: tuple[Step, ...]) -> None:
    made: set[str] = set()
    for number, step in enumerate(steps, 1):
        for needed in step.needs:
            if needed not in made:
                later = any(other.makes == needed for other in steps[number:])
                advice = "move" if later else "put"
                raise KdlabError(
                    f"Step {number}, {step.title!r}, needs {_article(needed)}, and no step before it gives that: "
                    f"{advice} {_MADE_BY[needed]} before it."
                )
        if step.makes:
            made.add(step.makes)


def _article(thing: str) -> str:
    return thing if thing == LABELS else f"a {thing}"


def _check_sizes(steps: tuple[Step, ...]) -> None:
    """A student of given settings must be smaller than the teacher before it."""
    teacher = None
    for number, step in enumerate(steps, 1):
        if isinstance(step, TrainTeacher):
            teacher = step.network
        elif isinstance(step, TrainStudent) and teacher is not None and isinstance(step.network, dict):
            large, small = size(teacher), size(step.network)
            if small > large:
                raise KdlabError(
                    f"The student of step {number} has {small:,} parameters and its teacher {large:,}; expected a "
                    "student that is not larger. Take a smaller width."
                )
