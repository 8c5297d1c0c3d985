"""Pipelines of several steps: teacher, soft labels, pruning, student.

    from kdlab import recipe

    two_pronged = recipe.Recipe(
        recipe.TrainTeacher({"name": "resnet", "width": 16}, epochs=8),
        recipe.PruneTeacher(sparsity=0.8, epochs=4),
        recipe.MakeSoftLabels(of="pruned teacher"),
        recipe.TrainStudent({"name": "cnn", "width": 8}, epochs=8, temperature=4, alpha=0.9),
        recipe.Evaluate(),
        data=fashion.train,
        val=fashion.val,
    )
    print(two_pronged)
    found = two_pronged.run(seed=0)

It adds no second training loop: every step that trains calls `kdlab.training.fit`, so each is kept in the store, and a
recipe that was stopped goes on where it stopped.
"""

from kdlab.recipe.bench import Bench
from kdlab.recipe.pipeline import Recipe
from kdlab.recipe.pruning_steps import Finetune, PruneStudent, PruneTeacher
from kdlab.recipe.steps import Evaluate, MakeSoftLabels, Step, TrainTeacher
from kdlab.recipe.student import TrainStudent

__all__ = [
    "Bench",
    "Evaluate",
    "Finetune",
    "MakeSoftLabels",
    "PruneStudent",
    "PruneTeacher",
    "Recipe",
    "Step",
    "TrainStudent",
    "TrainTeacher",
]
