"""The optimiser of a run, made by timm's factory, and its step, which leaves out what is not finite."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.optim import create_optimizer_v2, get_optimizer_class
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from deit.learn.recipes import Optimisation
from deit.networks.models import parameter_groups

FUSED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
"""Of torch: one kernel a step, which can leave the step out by itself."""


def optimizer_of(net: nn.Module, optimisation: Optimisation) -> torch.optim.Optimizer:
    """With what the optimisation says, and timm's defaults for what it does not; the rate is set at every step."""
    options = optimisation.model_dump(include={"betas", "eps"}, exclude_none=True)
    made_by = get_optimizer_class(optimisation.optimizer, bind_defaults=False)
    if made_by in FUSED:
        options["fused"] = True
    if made_by is torch.optim.SGD:
        options["nesterov"] = optimisation.momentum > 0
    groups = parameter_groups(net, optimisation.weight_decay)
    optimizer = create_optimizer_v2(groups, optimisation.optimizer, momentum=optimisation.momentum, **options)
    if isinstance(optimizer, torch.optim.SGD) and optimisation.momentum:
        for parameter in net.parameters():  # made at the first step otherwise, and left unset where that is skipped
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def step_if(good: Tensor, optimizer: torch.optim.Optimizer, rate: Tensor, largest_norm: float | None) -> None:
    """One step at a learning rate (), from gradients clipped to a norm, if () `good`; else weights and state stay.

    A fused optimiser is told so on the device, as by torch's GradScaler; for others, which do not listen, the host
    waits for the device.
    """
    fused = isinstance(optimizer, FUSED)
    for group in optimizer.param_groups:
        group["lr"] = rate if fused else float(rate)
    if largest_norm is not None:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        clip_grads_with_norm_(parameters, largest_norm, norm)
    if fused:
        optimizer.found_inf = (~good).float()  # pyrefly: ignore[missing-attribute]
        optimizer.step()
    elif good:
        optimizer.step()
    optimizer.zero_grad()


@contextmanager
def capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within it a fused optimiser's step may be captured in a CUDA graph: torch wants Adam to be told, SGD not."""
    told = [group for group in optimizer.param_groups if "capturable" in group]
    for group in told:
        group["capturable"] = True
    try:
        yield
    finally:  # resume states are the same with a graph and without
        for group in told:
            group["capturable"] = False
