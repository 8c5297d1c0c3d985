"""Random flips and shifts of a whole batch at once."""

import torch
import torch.nn.functional as F
from torch import Tensor


def flip_and_shift(images: Tensor, generator: torch.Generator, shift: int = 2) -> Tensor:
    """Mirror half of the images and move each by up to `shift` pixels; the border repeats the edge.

    Parameters
    ----------
    images
        Shape (N, C, H, W).
    generator
        On the CPU, whatever the images' device: the same views everywhere.

    Returns
    -------
    Tensor, shape (N, C, H, W)
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (shift,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * shift + 1, (2, n, 1), generator=generator)
    rows = down + torch.arange(height)
    columns = right + torch.arange(width)
    mirrored = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    where = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    where = tuple(part.to(images.device) for part in where)
    return padded.permute(0, 2, 3, 1)[where].permute(0, 3, 1, 2)
