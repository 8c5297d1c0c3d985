"""What masks cost: making a global one over ten million weights, and keeping it through training.

Run as ``python benchmarks/pruning_masks.py``. The aims: a global mask over 10 million weights in at most 0.3 s on two
cores, beside `torch.nn.utils.prune` on the same network; keeping masks adds at most 5 % to a training step of the
residual network. Variants take turns, so that all meet the same moods of the machine; a ratio is taken within its turn.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune as torch_prune

from kdlab import models
from kdlab import pruning as prune

GLOBAL_AIM, KEEPING_AIM = 0.3, 0.05
_RUN = 640  # steps of a training run: 8 epochs of 10,000 images; the first ones are timed, while schedules are busy


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def ten_million() -> nn.Module:
    """Build a network of 10.5 million scored weights in eight layers."""
    return nn.Sequential(nn.Linear(1024, 2048), *(nn.Linear(1024, 1024) for _ in range(8)))


def by_torch(model: nn.Module) -> None:
    torch_prune.global_unstructured([(layer, "weight") for layer in model], torch_prune.L1Unstructured, amount=0.9)


def measure_global(turns: int) -> None:
    model, ours, theirs = ten_million(), [], []
    for _ in range(turns):
        ours.append(seconds(lambda: prune.global_mask(model, 0.9)))
        twin = copy.deepcopy(model)
        theirs.append(seconds(lambda twin=twin: by_torch(twin)))
    total = sum(w.numel() for w in prune.weights(model).values())
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    print(f"global mask over {total / 1e6:.1f} million weights, {torch.get_num_threads()} thread(s), {turns} turns")
    print(f"  kdlab {ours_s:.3f} s (aim {GLOBAL_AIM})   torch.nn.utils.prune {theirs_s:.3f} s", end="")
    print(f"   ratio {statistics.median(a / b for a, b in zip(ours, theirs, strict=True)):.2f}")


class Step:
    """A training step of the residual network under a constraint (or none)."""

    def __init__(self, constraint, total: int):
        self.model, self.constraint, self.number = models.build("resnet", width=16), constraint, 0
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, foreach=True)
        self.images, self.labels = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
        if constraint is not None:
            constraint.start(self.model, total)

    def __call__(self) -> None:
        loss = F.cross_entropy(self.model(self.images), self.labels)
        self.optimizer.zero_grad()
        loss.backward()
        if self.constraint is not None:
            self.constraint.before_step(self.model, self.number)
        self.optimizer.step()
        if self.constraint is not None:
            self.constraint.after_step(self.model, self.number)
        self.number += 1


def measure_keeping(turns: int) -> None:
    masks = prune.global_mask(models.build("resnet", width=16), 0.9)
    made = {
        "no constraint": None,
        "Fixed": prune.Fixed(masks),
        "Gradual, its prunings included": prune.Gradual(0.9),
        "Dynamic, its moves included": prune.Dynamic(0.9),
    }
    steps = {name: Step(constraint, _RUN) for name, constraint in made.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            times[name].append(seconds(step))
    plain = times["no constraint"]
    print(f"training step of the residual network (width 16, batch of 128): {statistics.median(plain) * 1e3:.1f} ms")
    for name in list(made)[1:]:
        ratio = statistics.median(a / b for a, b in zip(times[name], plain, strict=True))
        whole = sum(times[name]) / sum(plain)
        print(f"  {name:32} step ratio {ratio:.3f} (median)  {whole:.3f} (all steps)   aim {1 + KEEPING_AIM}")
    fixed = steps["Fixed"]
    alone = statistics.median(seconds(lambda: fixed.constraint.after_step(fixed.model, 0)) for _ in range(200))
    print(f"  keeping alone {alone * 1e6:.0f} us, {alone / statistics.median(plain):.2%} of a step")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5, help="of the global mask")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    measure_global(asked.turns)
    measure_keeping(asked.steps)
