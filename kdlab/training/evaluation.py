"""A trained network's logits and accuracy."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdlab.data import Split
from kdlab.errors import KdlabError
from kdlab.training.precision import suitable_threads


def device_of(model: nn.Module) -> torch.device:
    """Return where the network's weights live (the CPU if it has none)."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode without gradients, and give each its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def predict(model: nn.Module, data: Split | Tensor, batch_size: int = 500) -> Tensor:
    """Return a network's logits in eval mode and float32, without gradients.

    Parameters
    ----------
    data
        A split, or images of shape (N, C, H, W).

    Returns
    -------
    Tensor, shape (N, classes), on the network's device

    Raises
    ------
    KdlabError
        If the network refuses the images, or returns anything but (N, classes).
    """
    images = data.images if isinstance(data, Split) else data
    check_images(images)
    device = device_of(model)
    with eval_mode(model), suitable_threads(model):
        parts = [_logits(model, part.to(device)) for part in images.split(batch_size)]
    return torch.cat(parts)


def check_images(images) -> None:
    """Raise `KdlabError` unless `images` is a tensor of shape (N, C, H, W)."""
    if not isinstance(images, Tensor) or images.ndim != 4:
        found = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise KdlabError(
            f"expected images of shape (N, C, H, W), got {found}. One image of a split is split.images[:1]."
        )


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    try:
        logits = model(images)
    except (RuntimeError, TypeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise KdlabError(
            f"{type(model).__name__} refuses images of shape {tuple(images.shape)} ({reason}). Build it for "
            f"{images.shape[1]} channel(s) of {images.shape[2]} x {images.shape[3]}."
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise KdlabError(
            f"{type(model).__name__} returned {shape} for {len(images)} images; expected logits of shape "
            f"({len(images)}, classes). Return the logits alone from forward."
        )
    return logits.float()


def evaluate(model: nn.Module, data: Split, *, final: bool = False) -> float:
    """Return the accuracy: the fraction of images whose largest logit is at the true class.

    Parameters
    ----------
    data
        Choose on ``val``. A test split is sealed: it opens with ``final=True``, for the last number of a report.

    Raises
    ------
    KdlabError
        For test data without ``final=True``, and for a split without labels.
    """
    check_open(data, final)
    labels = data.labels.to(device_of(model))
    return (predict(model, data).argmax(1) == labels).float().mean().item()


def check_open(data: Split, final: bool) -> None:
    """Raise `KdlabError` if `data` may not be scored: sealed test data, or no labels."""
    if not isinstance(data, Split):
        raise KdlabError(f"expected a Split such as fashion.val, got {type(data).__name__}. Load one with data.load().")
    if data.sealed and not final:
        raise KdlabError(
            "This is test data. Choose between settings on val; for the one final report pass final=True. "
            "A test set that is looked at while choosing becomes a second validation set."
        )
    if not data.labelled or len(data) == 0:
        raise KdlabError(f"{data!r} has no labels to compare with. Evaluate on a labelled split.")
