"""Batch norm in groups: a forward pass shows many mix groups, and each is normalised by its own statistics.

So a network with batch norm learns the same however many groups a forward pass or a GPU takes, as in the original
runs, where a group was what one GPU saw. All other layers see all views at once.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class GroupStatistics(TorchFunctionMode):
    """While it is entered, batch norms in training mode take groups `first` to `first + groups - 1` of a step's `of`.

    A step moves running statistics once, towards its groups' mean. With the rate r = momentum / of, group i weighs
    r / (1 - (of - 1 - i) r): by the end each group has the weight r and the statistics before the step have
    1 - momentum, however many groups and (by their mean) ranks there are.
    """

    def __init__(self, first: int, groups: int, of: int):
        super().__init__()
        self.first, self.groups, self.of = first, groups, of

    @property
    def last(self) -> bool:
        """Whether the step has no more groups."""
        return self.first + self.groups == self.of

    def __torch_function__(self, func: Callable, types: Iterable[type], args: tuple = (), kwargs: dict | None = None):
        of_groups = self.batch_norm if func is F.batch_norm else func
        return of_groups(*args, **kwargs or {})

    def batch_norm(
        self,
        views: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """torch's, of each group among views (B, C, ...)."""
        if not training:
            return F.batch_norm(views, running_mean, running_var, weight, bias, training, momentum, eps)
        rate, normalised = momentum / self.of, []
        for number, group in enumerate(views.chunk(self.groups), self.first):
            share = rate / (1 - (self.of - 1 - number) * rate)
            normalised.append(F.batch_norm(group, running_mean, running_var, weight, bias, training, share, eps))
        return torch.cat(normalised) if self.groups > 1 else normalised[0]
