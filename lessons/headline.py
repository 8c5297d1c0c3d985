"""The headline: how small a network can be that gets nearly as much right as its teacher.

python lessons/headline.py     five seeds; kept in this machine's store, so a second run trains nothing

Two ways to the same cost. One network is small from the start and learns from the teacher (distillation); the other is the
teacher, its channels cut out, which then learns from what it was (pruning and distillation). Both see the augmented images
that the teacher sees at that moment. Two controls are trained as long, on the labels only. All weights are then rounded to
few bits.
"""

from collections.abc import Mapping

import pandas as pd
from torch import nn

from kdlab import challenge, data, measure, models, scale
from kdlab import pruning as prune
from kdlab.distillation import Distill
from kdlab.experiments import Difference, interval, paired, run
from kdlab.training import evaluate, fit

SEEDS = scale.pick(smoke=2, laptop=5)
TEACHER_EPOCHS = scale.pick(smoke=1, laptop=30, full=30)
STUDENT_EPOCHS = scale.pick(smoke=1, laptop=60, full=90)
BITS = (8, 6, 5, 4)
WAYS = ("distilled", "cut and distilled")
CONTROLS = {
    "small, labels only": WAYS[0],
    "cut, labels only": WAYS[1],
}  # each with what it is the control of
MOST_LOST_BY_ROUNDING = 0.002


def teacher(seed: int) -> nn.Module:
    """Return the residual teacher of a seed: width 24, two blocks a stage, 392,000 parameters."""
    network = models.build("resnet", width=24, blocks=2, seed=seed)
    train = data.load().train
    fit(network, train, epochs=TEACHER_EPOCHS, augment=True, lr=0.1, seed=seed)
    return network


def student(seed: int, way: str) -> nn.Module:
    """Return a small network that has learned from the teacher of its seed, or without it."""
    fashion, large = data.load(), teacher(seed)
    if CONTROLS.get(way, way) == "distilled":
        network = models.build("resnet", width=7, seed=seed + 1000)
    else:
        network = prune.channels.remove(large, fashion.val.images[:1], 0.8)
    taught = Distill(large, temperature=4, alpha=0.9)
    fit(
        network,
        fashion.train,
        objective=None if way in CONTROLS else taught,
        epochs=STUDENT_EPOCHS,
        augment=True,
        batch_size=64,
        lr=0.1,
        seed=seed + 1000,
    )
    return network


def measured(seed: int, way: str) -> dict:
    """Return one row: the teacher, the student, and the student rounded to several numbers of bits."""
    fashion, large, small = data.load(), teacher(seed), student(seed, way)
    one = fashion.val.images[:1]
    row = {
        "teacher test": evaluate(large, fashion.test, final=True),
        "teacher bytes": measure.bytes_on_disk(large),
        "teacher bytes 8": len(challenge.to_bytes(large, 8)),
        "teacher MACs": measure.macs(large, one),
        "MACs": measure.macs(small, one),
        "parameters": measure.parameters(small),
        "val": evaluate(small, fashion.val),
        "test": evaluate(small, fashion.test, final=True),
    }
    for bits in BITS:
        raw = challenge.to_bytes(small, bits)
        again = challenge.from_bytes(raw)
        row |= {
            f"bytes {bits}": len(raw),
            f"val {bits}": evaluate(again, fashion.val),
            f"test {bits}": evaluate(again, fashion.test, final=True),
        }
    return row


def chosen_bits(rows: pd.DataFrame) -> int:
    """Return the fewest bits that cost, on val and in the mean, at most two tenths of a point."""
    fine = [
        b for b in BITS if (rows["val"] - rows[f"val {b}"]).mean() <= MOST_LOST_BY_ROUNDING
    ]
    return min(fine, default=max(BITS))


def reached(rows: pd.DataFrame) -> dict[str, float | int | Difference]:
    """Return how far one way got."""
    bits = chosen_bits(rows)
    return {
        "bits": bits,
        "bytes": rows[f"bytes {bits}"].mean(),
        "teacher bytes": rows["teacher bytes"].mean(),
        "teacher MACs": rows["teacher MACs"].mean(),
        "MACs": rows["MACs"].mean(),
        "times fewer bytes": (rows["teacher bytes"] / rows[f"bytes {bits}"]).mean(),
        "times fewer than in 8 bits": (
            rows["teacher bytes 8"] / rows[f"bytes {bits}"]
        ).mean(),
        "times fewer MACs": (rows["teacher MACs"] / rows["MACs"]).mean(),
        "teacher": interval(rows["teacher test"], unit="%"),
        "student": interval(rows[f"test {bits}"], unit="%"),
        "difference": interval(
            rows[f"test {bits}"] - rows["teacher test"], unit="points", signed=True
        ),
        "before rounding": interval(
            rows["test"] - rows["teacher test"], unit="points", signed=True
        ),
    }


def headline(jobs: int | None = None) -> dict[str, Mapping]:
    """Return what each way reached, training what this machine's store does not have.

    Beside what `reached` tells, ``"taught minus labels only"``: the way minus its control, before rounding.
    """
    table = run(measured, {"way": [*WAYS, *CONTROLS]}, over=SEEDS, jobs=jobs)
    found = {way: reached(table[table["way"] == way].reset_index()) for way in WAYS}
    for control, way in CONTROLS.items():
        gain = paired(table, "test", better={"way": way}, than={"way": control})
        found[way]["taught minus labels only"] = gain
    return found


if __name__ == "__main__":
    for way, found in headline().items():
        print(way, *(f"  {name}: {value}" for name, value in found.items()), sep="\n")
