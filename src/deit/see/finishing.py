"""What the device does with the views of a batch: one sequence of operations, whatever its groups and boxes.

A GPU waits for the host at each operation, not for the numbers in it. So what differs from view to view (boxes,
weights) is laid out by NumPy and sent, and the operations are the same for all views.

Shapes: n mix groups of G views, V = n G of all, E views of which a box is erased, C channels, H and W pixels, K
classes.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from deit.see.mixing import Mixing

OUTSIDE = -(2**40)
"""Far below any place in the noise."""


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Pixels (V, C, H, W) uint8 -> contiguous float32: as torchvision's ToTensor and Normalize, bit for bit."""
    whole, centre, spread = constants(mean, std, pixels.device)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(whole).sub_(centre).div_(spread)


@lru_cache
def constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """255, mean and std (C, 1, 1) on the device. By the number 255 a GPU would not divide but multiply by 1 / 255."""
    centre, spread = (torch.tensor(part)[:, None, None].to(device) for part in (mean, std))
    return torch.tensor(255.0).to(device), centre, spread


def erase_(views: Tensor, boxes: np.ndarray, noise: Tensor) -> None:
    """Fills the box of each view, in place, with the noise that is its own.

    views: (V, C, H, W). boxes: (V, 4), top, bottom, left, right; zeros where nothing is erased. noise: (N,), the
    (C, height, width) of each box, one after another.
    """
    which = np.flatnonzero(boxes.any(1))
    if not len(which):
        return
    rows, columns = places(boxes[which], views.shape[1], views.shape[2], views.shape[3])
    erased = sent(which, views.device)
    place = sent(rows, views.device)[..., None] + sent(columns, views.device)[:, None, None]  # (E, C, H, W)
    filled = torch.where(place < 0, views[erased], noise.take(place.clamp(min=0)))
    views.index_copy_(0, erased, filled)


def places(boxes: np.ndarray, channels: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the noise of each pixel stands, as a sum of (E, C, H) and (E, W) int64; below 0 outside the boxes."""
    top, bottom, left, right = boxes.T[..., None]  # each (E, 1)
    row, column = np.arange(height) - top, np.arange(width) - left
    size = channels * (bottom - top) * (right - left)
    first = np.cumsum(size).reshape(-1, 1, 1) - size[..., None]
    of_rows = (
        first + (np.arange(channels)[:, None] * (bottom - top)[..., None] + row[:, None]) * (right - left)[..., None]
    )
    inside = (row >= 0) & (row < bottom - top)
    return np.where(inside[:, None], of_rows, OUTSIDE), np.where(
        (column >= 0) & (column < right - left), column, OUTSIDE
    )


def mixed(views: Tensor, mixings: list[Mixing]) -> Tensor:
    """Views (V, C, H, W) of n mix groups, each mixed as its own Mixing says. G is even where they are mixed."""
    blended, cut = [one.blends for one in mixings], [one.cuts for one in mixings]
    if not any(blended + cut):
        return views
    of_groups = views.view(len(mixings), -1, *views.shape[1:])
    result, others = of_groups, of_groups.flip(1)
    if any(blended):
        own, other = weights(mixings, views.device).view(2, -1, 1, 1, 1, 1)
        both = (of_groups * own).add_(others * other)
        result = both if all(blended) else torch.where(sent(blended, views.device).view(-1, 1, 1, 1, 1), both, result)
    if any(cut):
        taken = np.zeros((len(mixings), 1, 1, *views.shape[2:]), bool)
        for where, one in zip(taken, mixings, strict=True):
            top, bottom, left, right = one.box
            where[..., top:bottom, left:right] = one.cuts
        result = torch.where(sent(taken, views.device), others, result)
    return result.view(views.shape)


def mixed_targets(labels: Tensor, mixings: list[Mixing], classes: int, smoothing: float) -> Tensor:
    """Labels (V,) of n mix groups -> mixed and smoothed targets (V, K) float32, as timm's `mixup_target`."""
    off = smoothing / classes
    smoothed = torch.full((len(labels), classes), off, device=labels.device)
    smoothed = smoothed.scatter_(1, labels[:, None], 1 - smoothing + off).view(len(mixings), -1, classes)
    own, other = weights(mixings, labels.device).view(2, -1, 1, 1)
    return (smoothed * own + smoothed.flip(1) * other).view(-1, classes)


def weights(mixings: list[Mixing], device: torch.device) -> Tensor:
    """(2, n) float32: of a view's own label and pixels, and of the other's."""
    own = np.array([one.weight for one in mixings])
    return sent(np.stack([own, 1 - own]).astype(np.float32), device)


def sent(numbers: np.ndarray | list, device: torch.device) -> Tensor:
    """Numbers of the host as a tensor on the device."""
    return on_device(torch.from_numpy(np.asarray(numbers)), device)


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on the device; the host does not wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
