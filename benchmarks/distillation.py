"""What a teacher costs: one training step with it, over the same step without, on the plain CNN.

Run as ``python benchmarks/distillation.py``. Every round trains each variant for one epoch with `fit`, so that all of
them meet the same moods of the machine; a variant's ratio is taken within its round. The aim is a median of at most
1.15 for a teacher whose logits are cached.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F

from kdlab import data, models
from kdlab.distillation import AttentionTransfer, DecoupledKD, Distill, Hints, Relational, Sum, look
from kdlab.training import CrossEntropy, Objective, fit

CACHED_AIM = 1.15
LAST = {"features.8": "stages.2"}
PAIRS = {"features.5": "stages.1"} | LAST


class Tapped(CrossEntropy):
    """Cross-entropy, with hooks on three layers that nobody reads."""

    def __call__(self, model, batch):
        seen = look(model, batch.images, ("features.2", "features.5", "features.8"))
        return F.cross_entropy(seen.logits, batch.labels)


class Variant(NamedTuple):
    name: str
    objective: Callable[[], Objective]
    augment: bool
    base: str


def variants(teacher: torch.nn.Module) -> list[Variant]:
    """List what is timed, and what each is compared with."""

    def with_labels(term: Objective) -> Callable[[], Objective]:
        return lambda: Sum({CrossEntropy(): 1, term: 1})

    alone, augmented = "no teacher", "no teacher, augmented"
    attention, hints, relations = AttentionTransfer(teacher, PAIRS), Hints(teacher, PAIRS), Relational(teacher, LAST)
    return [
        Variant(alone, CrossEntropy, False, alone),
        Variant("no teacher, hooks on 3 layers", Tapped, False, alone),
        Variant("cached: Distill", lambda: Distill(teacher), False, alone),
        Variant("cached: labels + DecoupledKD", with_labels(DecoupledKD(teacher)), False, alone),
        Variant(augmented, CrossEntropy, True, augmented),
        Variant("online: Distill", lambda: Distill(teacher), True, augmented),
        Variant("online: labels + AttentionTransfer", with_labels(attention), False, alone),
        Variant("online: labels + Hints", with_labels(hints), False, alone),
        Variant("online: labels + Relational", with_labels(relations), False, alone),
    ]


def step_ms(variant: Variant, split: data.Split) -> float:
    """Train a fresh student for an epoch; return the milliseconds a step took (preparation is not counted)."""
    student = models.build("cnn", width=8)
    history = fit(
        student, split, objective=variant.objective(), augment=variant.augment, epochs=1, batch_size=128, keep=False,
        progress=False,
    )  # fmt: skip
    return 1000 * history.seconds / -(-len(split) // 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    split, teacher = data.load().train, models.build("resnet", width=16)
    timed = variants(teacher)
    for variant in timed:
        step_ms(variant, split)  # warms up, and fills the cache of logits
    rounds = [{v.name: step_ms(v, split) for v in timed} for _ in range(arguments.rounds)]

    print(f"{len(split):,} images, batches of 128, one thread, {len(rounds)} rounds, torch "
          f"{torch.__version__}")  # fmt: skip
    print(f"{'':36}{'ms a step':>10}{'ratio':>8}{'  middle half':>15}")
    for v in timed:
        ratios = [times[v.name] / times[v.base] for times in rounds]
        low, _, high = statistics.quantiles(ratios, n=4)
        ms = statistics.median(times[v.name] for times in rounds)
        aim = f"   aim {CACHED_AIM}" if v.name.startswith("cached") else ""
        print(f"{v.name:36}{ms:10.2f}{statistics.median(ratios):8.3f}{low:9.3f}-{high:.3f}{aim}")


if __name__ == "__main__":
    main()
