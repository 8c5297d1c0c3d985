"""`fit`: the only training loop of the course."""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdlab.data import Batch, Split
from kdlab.data.splits import check_labels
from kdlab.errors import KdlabError
from kdlab.fingerprint import plain
from kdlab.training.augmentation import flip_and_shift
from kdlab.training.checkpoint import Checkpoint, identity_before, mark_interrupted, name_of
from kdlab.training.evaluation import check_open, evaluate, predict
from kdlab.training.history import History
from kdlab.training.precision import prepare, suitable_threads
from kdlab.training.protocols import Constraint, CrossEntropy, Objective

_WRITE_EVERY = 2.0  # seconds between checkpoints on disk; one is kept in memory after every epoch
_WARM_UP = 0.1  # fraction of the steps over which the learning rate rises


class Interrupted(KeyboardInterrupt):
    """The stop button was pressed during training; what was finished is kept."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@contextlib.contextmanager
def _stopped_in_one_line() -> Iterator[None]:
    """Turn a stop while getting ready, or while the result is being kept, into `Interrupted` as well."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("Stopped between epochs; what was finished is kept. Run the cell again to go on.") from None


@_stopped_in_one_line()
def fit(
    model: nn.Module,
    data: Split,
    *,
    objective: Objective | Callable[[nn.Module, Batch], Tensor] | None = None,
    sparsity: Constraint | None = None,
    val: Split | None = None,
    epochs: int = 8,
    batch_size: int = 128,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer] = "sgd",
    schedule: str = "cosine",
    augment: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    precision: str = "auto",
    progress: bool | None = None,
    keep: bool = True,
) -> History:
    """Train a network, in place.

    Parameters
    ----------
    model
        Any module from images (N, C, H, W) to logits (N, classes). Left on `device`, in eval mode.
    data
        The split to learn from.
    objective
        What the network learns from: cross-entropy with the labels if None.
    sparsity
        Which weights may live: all of them if None.
    val
        Scored after every epoch, for the curve; never used to choose an epoch.
    epochs, batch_size
        The budget is ``epochs * len(data)`` examples.
    lr, momentum, weight_decay
        Peak learning rate and the rest of the optimiser's settings.
    optimizer
        ``"sgd"`` (with Nesterov momentum), ``"adam"`` (AdamW), or a function from parameters to an optimiser, whose
        learning rates are then the peaks.
    schedule
        ``"cosine"`` (a short linear rise, then a half cosine to zero) or ``"constant"``.
    augment
        Random flips and shifts of the images, new in every epoch.
    seed
        Decides the order of the samples, the augmentation and dropout: the same seed gives the same weights on the
        same machine. (Networks below a million weights use one thread, larger ones all of torch's.) The global random
        state is left as it was.
    device
        ``"cpu"``, ``"cuda"``, …; a GPU if there is one, else the CPU, if None.
    precision
        ``"float32"``, ``"bfloat16"`` (autocast), or ``"auto"``: bfloat16 where the hardware has it and
        the network is large enough to gain from it.
    progress
        Show a bar; by default everywhere but in worker processes.
    keep
        Keep the run in the store: an interrupted run resumes after its last epoch when the same call is made again,
        a finished one is recalled instead of trained again.

    Returns
    -------
    History

    Raises
    ------
    KdlabError
        For settings out of range, images or labels that do not suit the network, a loss that is not finite.
    Interrupted
        When the stop button is pressed.
    """
    objective = CrossEntropy() if objective is None else objective
    epochs, batch_size, lr, momentum, weight_decay, seed = map(
        plain, (epochs, batch_size, lr, momentum, weight_decay, seed)
    )
    settings = _check_settings(epochs, batch_size, lr, momentum, weight_decay, schedule, precision)
    _check_data(model, data, val, objective)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    autocast = prepare(model, device, precision)
    data, val = data.to(device), val.to(device) if val is not None else None

    settings |= {"optimizer": optimizer, "augment": augment, "seed": seed, "device": device.type}
    settings |= {"val": val.digest if val is not None else None, "bfloat16": autocast is not None}
    storable = keep and isinstance(optimizer, str)
    name = name_of(model, data, settings, [objective, sparsity]) if storable else None
    began_as = identity_before(model)

    steps = epochs * math.ceil(len(data) / batch_size)
    if isinstance(objective, Objective):
        objective.start(model, data, augmented=augment, device=device)
    extra = list(objective.parameters()) if isinstance(objective, Objective) else []
    if sparsity is not None:
        sparsity.start(model, steps)

    checkpoint = Checkpoint(name, model, sparsity, extra)
    history = checkpoint.restore() or History()
    history.resumed_at = len(history.rows)
    if history.resumed_at >= epochs:
        history.recalled, history.resumed_at = True, 0
        model.eval()
        return history

    opt = _optimizer(optimizer, [*model.parameters(), *extra], lr, momentum, weight_decay)
    checkpoint.resume(opt)
    run = _Run(model, data, objective, sparsity, opt, steps, schedule, autocast, batch_size, augment, seed)
    kept, written = checkpoint.snapshot(), time.monotonic()
    run.step = history.resumed_at * math.ceil(len(data) / batch_size)
    try:
        with suitable_threads(model), _bar(progress, steps, run.step) as bar:
            for epoch in range(history.resumed_at, epochs):
                start = time.monotonic()
                loss = _finite(run.epoch(epoch, bar), epoch, lr)
                row = {"epoch": epoch + 1, "loss": loss, "lr": opt.param_groups[0]["lr"]}
                if val is not None:
                    row["val"] = evaluate(model, val)
                    bar.set_postfix(loss=f"{row['loss']:.3f}", val=f"{row['val']:.3f}", refresh=False)
                history.rows.append(row)
                history.seconds += time.monotonic() - start
                history.examples += len(data)
                kept = checkpoint.snapshot()
                if time.monotonic() - written > _WRITE_EVERY and epoch + 1 < epochs:
                    checkpoint.write(kept, history)
                    written = time.monotonic()
    except KeyboardInterrupt:
        raise _interrupt(checkpoint, kept, history, epochs, began_as) from None
    checkpoint.write(kept, history, finished=True)
    return history


@dataclass
class _Run:
    """What stays the same from step to step, and the number of the step."""

    model: nn.Module
    data: Split
    objective: Objective | Callable[[nn.Module, Batch], Tensor]
    sparsity: Constraint | None
    optimizer: torch.optim.Optimizer
    steps: int
    schedule: str
    autocast: torch.dtype | None
    batch_size: int
    augment: bool
    seed: int
    step: int = 0

    def __post_init__(self):
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.device = self.data.images.device

    def epoch(self, number: int, bar) -> float:
        """Show every sample once; returns the mean loss."""
        total = torch.zeros((), device=self.device)
        self.model.train()
        with _epoch_randomness(self.seed, number, self.device) as generator:
            for batch in _batches(self.data, self.batch_size, generator, self.augment):
                total += self.learn(batch) * len(batch.labels)
                self.step += 1
                bar.update()
        self.model.eval()
        return total.item() / len(self.data)

    def learn(self, batch: Batch) -> Tensor:
        """Take one step of the optimiser; returns the batch's loss."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * _factor(self.schedule, self.step, self.steps)
        if isinstance(self.objective, Objective):
            self.objective.before_step(self.step, self.steps)
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            loss = self.objective(self.model, batch)
        _check_loss(loss)
        self.optimizer.zero_grad()
        loss.backward()
        if self.sparsity is not None:
            self.sparsity.before_step(self.model, self.step)
        self.optimizer.step()
        if self.sparsity is not None:
            self.sparsity.after_step(self.model, self.step)
        return loss.detach()


def _interrupt(checkpoint: Checkpoint, kept: dict, history: History, epochs: int, began_as: str) -> Interrupted:
    done = len(history.rows)
    if checkpoint.name is None:
        return Interrupted(f"Stopped in epoch {done + 1} of {epochs}. This run is not kept: it starts anew next time.")
    checkpoint.write(kept, history)
    mark_interrupted(checkpoint.model, checkpoint.name, began_as)
    return Interrupted(f"Stopped after {done} of {epochs} epochs. Run the cell again to go on from there.")


def _check_settings(epochs, batch_size, lr, momentum, weight_decay, schedule, precision) -> dict:
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise KdlabError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if not (math.isfinite(lr) and lr > 0):
        raise KdlabError(f"lr is {lr!r}; expected a number above 0.")
    if not 0 <= momentum < 1 or weight_decay < 0:
        raise KdlabError(
            f"momentum={momentum}, weight_decay={weight_decay}; expected 0 <= momentum < 1 and decay >= 0."
        )
    if schedule not in ("cosine", "constant"):
        raise KdlabError(f"schedule is {schedule!r}; expected 'cosine' or 'constant'.")
    if precision not in ("auto", "float32", "bfloat16"):
        raise KdlabError(f"precision is {precision!r}; expected 'auto', 'float32' or 'bfloat16'.")
    names = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule")
    return dict(zip(names, (epochs, batch_size, lr, momentum, weight_decay, schedule), strict=True))


def _check_data(model: nn.Module, data: Split, val: Split | None, objective) -> None:
    if not isinstance(data, Split) or len(data) == 0:
        found = repr(data) if isinstance(data, Split) else type(data).__name__
        raise KdlabError(f"expected a split with images, such as fashion.train, as the second argument, got {found}.")
    if not isinstance(model, nn.Module):
        raise KdlabError(f"expected a network as the first argument, got {type(model).__name__}.")
    if not callable(objective):
        raise KdlabError(
            f"objective is {objective!r}; expected an objective such as Distill(teacher), or a function (model, batch)."
        )
    if data.sealed:
        raise KdlabError("This is test data; a network that has learned from it cannot be judged on it. Use train.")
    classes = predict(model, data.images[:2]).shape[1]
    check_labels(data.labels, classes)
    if val is not None:
        check_open(val, final=False)
        check_labels(val.labels, classes)


def _optimizer(chosen, parameters, lr, momentum, weight_decay) -> torch.optim.Optimizer:
    if callable(chosen):
        return chosen(parameters)
    if chosen == "sgd":
        return torch.optim.SGD(parameters, lr, momentum, weight_decay=weight_decay, nesterov=momentum > 0, foreach=True)
    if chosen == "adam":
        return torch.optim.AdamW(parameters, lr, weight_decay=weight_decay, foreach=True)
    raise KdlabError(f"optimizer is {chosen!r}; expected 'sgd', 'adam' or a function from parameters to an optimiser.")


def _factor(schedule: str, step: int, steps: int) -> float:
    if schedule == "constant":
        return 1.0
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@contextlib.contextmanager
def _epoch_randomness(seed: int, epoch: int, device: torch.device) -> Iterator[torch.Generator]:
    """Make an epoch's randomness depend on seed and epoch alone, so that a resumed run is the same run."""
    number = seed * 100_003 + epoch
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(number)
        yield torch.Generator().manual_seed(number)


def _batches(data: Split, size: int, generator: torch.Generator, augment: bool) -> Iterator[Batch]:
    order = torch.randperm(len(data), generator=generator).to(data.images.device)
    for positions in order.split(size):
        batch = data.batch(positions)
        if augment:
            batch = batch._replace(images=flip_and_shift(batch.images, generator))
        yield batch


def _check_loss(loss) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        found = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise KdlabError(
            f"The objective returned {found}; expected one number that depends on the network, the batch's mean loss. "
            "Average over the batch, and do not detach."
        )


def _finite(loss: float, epoch: int, lr: float) -> float:
    if not math.isfinite(loss):
        raise KdlabError(
            f"The loss is {loss} in epoch {epoch + 1}: training has diverged at lr={lr:g}. Use a smaller lr, or check "
            "the objective for a logarithm of zero."
        )
    return loss


def _bar(progress: bool | None, total: int, done: int):
    from tqdm.auto import tqdm

    wanted = not os.environ.get("KDLAB_WORKER") if progress is None else progress
    return tqdm(total=total, initial=done, disable=not wanted, leave=False, unit="step", mininterval=0.2)
