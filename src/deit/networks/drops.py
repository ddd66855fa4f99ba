"""What a network drops while it learns, paths and units: drawn by (seed, step, layer, position in the batch).

timm's layers draw from a global generator, so what a view loses would depend on which views were forwarded before it:
on ranks, and on how many views a forward pass has. Here a hash gives each view 64 random bits a layer and step, on the
host, so that a GPU drops what a CPU drops. Units of a view take theirs from a second hash, of these bits and the unit.

Shapes: S views of a rank's share of a batch, B views of a forward pass, L layers that drop, U units of a view or of
a window of it.
"""

import numpy as np
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from deit.see.views import keyed

DROPS = 3
"""The kind of draw, beside those of views.py."""
ODD = 0xBF58476D1CE4E5B9 - 2**64
"""A multiplier of splitmix64, as int64 has it."""


class Dropping(nn.Module):
    """A layer that drops parts of what it is shown, by the bits of each view."""

    words: Tensor
    """(S,) int64, of which the first B are those of the views of this forward pass."""
    views = 0
    """B."""
    calls = 0
    """In this forward pass; each has bits of its own."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def next_words(self, parts: int) -> Tensor:
        """(parts,) int64, uniform: of the views, or of the windows of each view, one view after another."""
        words, each = self.words[: self.views], parts // self.views
        self.calls += 1
        if each * self.calls == 1:
            return words
        return hashed(words[:, None], torch.arange(each, device=words.device) + each * self.calls).flatten()

    def dropped(self, values: Tensor, words: Tensor, scale: bool) -> Tensor:
        """Values, or zeros where the words are among the lowest; scaled to keep the mean, in timm's order."""
        keep = 1 - self.probability
        kept = (words >= min(round(self.probability * 2**64) - 2**63, 2**63 - 1)).to(values.dtype)
        return values * (kept.div_(keep) if scale and keep > 0 else kept)


class Paths(Dropping):
    """timm's DropPath (stochastic depth): drops a residual branch of some views."""

    def __init__(self, layer: DropPath):
        super().__init__(layer.drop_prob)
        self.scale = layer.scale_by_keep

    def forward(self, values: Tensor) -> Tensor:
        """(parts, ...); the parts are the views, or windows of them."""
        if not self.training:
            return values
        words = self.next_words(len(values))
        return self.dropped(values, words.view(-1, *[1] * (values.ndim - 1)), self.scale)


class Units(Dropping):
    """torch's Dropout: drops some units of each view."""

    def __init__(self, layer: nn.Dropout):
        super().__init__(layer.p)

    @property
    def p(self) -> float:
        """As torch calls it; timm's attention reads it."""
        return self.probability

    def forward(self, values: Tensor) -> Tensor:
        """(parts, ...); the parts are the views, or windows of them."""
        if not self.training:
            return values
        words = hashed(self.next_words(len(values))[:, None], torch.arange(values[0].numel(), device=values.device))
        return self.dropped(values, words.view(values.shape), scale=True)


def hashed(words: Tensor, number: Tensor) -> Tensor:
    """Words of uniform bits -> other ones for each number, int64. The upper bits, which decide, depend on all."""
    spread = number * ODD
    return (words ^ spread ^ (spread >> 31)) * ODD


def drop_by_position(net: nn.Module) -> list[Dropping]:
    """Puts layers of this file in place of timm's and torch's that drop anything, and are in training mode.

    Fused attention draws by itself, so attention that drops is computed step by step.
    """
    layers: list[Dropping] = []
    for module in list(net.modules()):
        for name, child in [each for each in module.named_children() if each[1].training]:
            if type(child) is DropPath and child.drop_prob or type(child) is nn.Dropout and child.p:
                layer = Paths(child) if isinstance(child, DropPath) else Units(child)
                setattr(module, name, layer)
                layers.append(layer)
        if isinstance(getattr(module, "attn_drop", None), Units):
            module.fused_attn = False  # pyrefly: ignore[bad-argument-type]
    return layers


class Drops:
    """The bits of a network's layers, on its device."""

    def __init__(self, net: nn.Module, seed: int, views: int, device: torch.device):
        """`views` are those of a share (S); the network is altered, see `drop_by_position`."""
        self.seed, self.layers = seed, drop_by_position(net)
        self.words = torch.zeros(len(self.layers), views, dtype=torch.int64, device=device)
        for layer, words in zip(self.layers, self.words, strict=True):
            layer.words = words

    def of_step(self, step: int, positions: np.ndarray) -> Tensor:
        """Bits (L, S) int64, on the CPU, of the views at these positions (S,) of a step's batch."""
        layers = np.arange(len(self.layers))[:, None]
        return torch.from_numpy(keyed(DROPS, self.seed, step, layers, positions).view(np.int64))

    def show(self, words: Tensor) -> None:
        """Begins a forward pass of views with these bits (L, B)."""
        if self.layers:
            self.words[:, : words.shape[1]].copy_(words)
        for layer in self.layers:
            layer.views, layer.calls = words.shape[1], 0
