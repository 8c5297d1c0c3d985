"""Batch norm after surgery: its running statistics describe a network that is no more."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from kdlab.errors import KdlabError
from kdlab.pruning.checks import modes_restored


def recalibrate(model: nn.Module, images, batch_size: int = 200) -> nn.Module:
    """Measure every batch norm's running mean and variance anew, in place; no weight changes.

    The statistics become the plain average over the batches. Everything but batch norm runs in eval mode (no dropout),
    and every module has its own mode and momentum back afterwards.

    Parameters
    ----------
    images
        Training images, shape (N, C, H, W); a few hundred are enough. Or several such batches, or a split.
    batch_size
        Images are cut into equal batches of about this many.

    Returns
    -------
    nn.Module
        The same model.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with modes_restored(model), torch.no_grad():
            model.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the cumulative average
                norm.train()
            for batch in _batches(images, batch_size):
                model(batch.to(device))
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return model


def _batches(images, batch_size: int) -> Iterable[Tensor]:
    images = getattr(images, "images", images)
    if not isinstance(images, Tensor):
        return [getattr(batch, "images", batch) for batch in images]
    if len(images) < 2:
        raise KdlabError(f"recalibrate got {len(images)} image(s); expected some hundred training images.")
    return images.tensor_split(max(1, round(len(images) / batch_size)))
