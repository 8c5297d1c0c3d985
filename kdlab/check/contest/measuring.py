"""What the network costs that comes out of the file, and what it answers."""

import torch
from torch import Tensor, nn

from kdlab import measure
from kdlab.challenge import Budget, reference
from kdlab.check.contest.refusing import Refused
from kdlab.data import Split
from kdlab.measure import Accuracy
from kdlab.training import predict

MOST_LOST = 0.02  # of accuracy, between the network handed in and the one in the file
TOLERANCE = 1.25  # times the limit of latency: a limit that a busy machine cannot break
TRIES = 3


def answers(model: nn.Module, images: Tensor, classes: int, whose: str) -> Tensor:
    """Return logits of shape (N, classes), or raise `Refused` saying what is wrong with them."""
    try:
        logits = predict(model, images)
    except Exception as error:  # a network of one's own may raise anything
        raise Refused(f"{whose} cannot answer: {' '.join(str(error).split()) or type(error).__name__}") from None
    if logits.shape[1] != classes:
        raise Refused(
            f"{whose} returns {logits.shape[1]} numbers for a picture; expected {classes}, one for each class. Build "
            f"it with classes={classes}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise Refused(
            f"{whose} returns numbers that are not finite for {int((~torch.isfinite(logits)).any(1).sum())} of "
            f"{len(logits)} pictures. Look for weights that grew too large in training."
        )
    return logits


def compared(handed_in: nn.Module, from_file: nn.Module, val: Split) -> Accuracy:
    """Return the validation accuracy of the file's network; `Refused` if it answers worse than the one handed in."""
    before = Accuracy.of(answers(handed_in, val.images, len(val.classes), "The network handed in"), val.labels)
    after = Accuracy.of(answers(from_file, val.images, len(val.classes), "The network in the file"), val.labels)
    if after.value < before.value - MOST_LOST:
        raise Refused(
            f"What was handed in is not what the file holds: {before.value:.1%} of the validation pictures are right "
            f"before saving, {after.value:.1%} after loading; expected a loss of at most {100 * MOST_LOST:.0f} points. "
            "Often the weights were rounded to too few bits: take more, or train on with measure.quantise in view."
        )
    return after


def priced(model: nn.Module, image: Tensor, limit: float) -> dict:
    """Return MACs and latency, timed again (at most three times) while it is above what `limit` tolerates."""
    unit = reference()
    for _ in range(TRIES):
        ratio, seconds = measure.latency_ratio(model, unit, image)
        if ratio <= limit * TOLERANCE:
            break
    return {"MACs": measure.macs(model, image), "latency µs": seconds * 1e6, "latency ratio": ratio}


def over(row: dict, budget: Budget) -> dict[str, str]:
    """Say of every price above its limit what was wrong, what was expected, what to do."""
    problems = {}
    if row["bytes"] > budget.bytes:
        problems["bytes"] = (
            f"The file has {row['bytes']:,} bytes; expected at most {budget.bytes:,}. Use fewer bits, or prune."
        )
    if row["MACs"] > budget.macs:
        problems["MACs"] = (
            f"One picture takes {row['MACs']:,} MACs; expected at most {budget.macs:,}. Remove channels: zeros among "
            "the weights save no arithmetic."
        )
    if row["latency ratio"] > budget.latency * TOLERANCE:
        problems["latency"] = (
            f"One picture takes {row['latency ratio']:.2f} times as long as with the course's teacher, timed {TRIES} "
            f"times; expected at most {budget.latency:g}. Use fewer layers, or close what else is running."
        )
    return problems
