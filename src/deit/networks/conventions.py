"""A given network sees a study's views, and says its classes, in its own way: what differs, and the translation.

Shapes: B views, C channels, H and W pixels, K classes, M of the network's for one of the study.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from deit.networks.recipes import Conventions, Model

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in a grey value (ITU-R BT.601), as Pillow converts."""


def conventions_of(model: Model, mean: tuple[float, ...], std: tuple[float, ...]) -> Conventions:
    """What a network sees and says that is trained on a study's own views."""
    return Conventions(classes=model.classes, channels=model.channels, resolution=model.resolution, mean=mean, std=std)


def differing(own: Conventions, study: Conventions) -> Iterator[str]:
    """In words, each way in which a network sees or says something else than the study."""
    if own.resolution != study.resolution:
        yield f"sees {own.resolution} pixels, resized from {study.resolution}"
    if own.channels != study.channels:
        yield "sees grey, made of RGB" if own.channels == 1 else "sees RGB, made of grey"
    elif (own.mean, own.std) != (study.mean, study.std):
        yield f"sees views of mean {list(own.mean)} and std {list(own.std)}"
    if own.meaning:
        used = sum(map(len, own.meaning))
        yield f"says {own.classes} classes, {used} of which mean the study's {study.classes}"


def constant(of_each_channel: tuple[float, ...]) -> nn.Buffer:
    """(C, 1, 1), which moves with its network and is none of its weights."""
    return nn.Buffer(torch.tensor(of_each_channel)[:, None, None], persistent=False)


def columns(own: Conventions) -> nn.Buffer:
    """(K, M): of each class of the study, the network's logits that mean it, and then its one after the last."""
    most = max(map(len, own.meaning or ()))
    rows = [[*classes, *[own.classes] * (most - len(classes))] for classes in own.meaning or ()]
    return nn.Buffer(torch.tensor(rows), persistent=False)


class Translated(nn.Module):
    """A network in a study whose conventions are not its own. It is asked through `models.token_logits`."""

    def __init__(self, net: nn.Module, own: Conventions, study: Conventions) -> None:
        super().__init__()
        self.net, self.own = net, own
        self.differs = [*differing(own, study)]
        self.recoloured = (own.channels, own.mean, own.std) != (study.channels, study.mean, study.std)
        self.mean, self.std = constant(study.mean), constant(study.std)
        self.meaning = columns(own) if own.meaning else None
        self.own_mean, self.own_std, self.luma = constant(own.mean), constant(own.std), constant(LUMA)

    def seen(self, views: Tensor) -> Tensor:
        """The study's views (B, C, H, W) as the network sees them. Mixed views stay mixed: all of this is linear."""
        if self.recoloured:
            views = views * self.std + self.mean
            if self.own.channels < views.shape[1]:
                views = (views * self.luma).sum(1, keepdim=True)
            views = (views - self.own_mean) / self.own_std  # of a grey view, each channel of three
        if views.shape[-1] != self.own.resolution:
            size = (self.own.resolution, self.own.resolution)
            views = interpolate(views, size, mode="bicubic", antialias=True)  # as Pillow's
        return views

    def said(self, logits: Tensor) -> Tensor:
        """The network's logits as logits (B, K) of the study's classes: of each, the sum of what means it."""
        if self.meaning is None:
            return logits
        of_each = pad(logits.float(), (0, 1), value=-torch.inf)[:, self.meaning]  # (B, K, M)
        return of_each.logsumexp(2).to(logits.dtype)  # of one, exactly that one
