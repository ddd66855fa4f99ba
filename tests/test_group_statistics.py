"""Batch norm in groups: one forward pass of many mix groups is many passes of one, up to rounding."""

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from deit.networks.group_statistics import GroupStatistics

GROUPS, VIEWS, PIXELS = 4, 6, 32
REGNETY = {"depth": 4, "w0": 16, "wa": 20.0, "wm": 1.8, "group_size": 8}


def network(name: str) -> nn.Module:
    """In float64, where another order of sums shows in the last of 16 digits."""
    torch.manual_seed(0)
    if name == "regnety":
        net = timm.create_model("regnety_160", num_classes=5, **REGNETY)
    elif name == "resnet":
        net = timm.create_model("resnet18", num_classes=5, layers=[1, 1, 1, 1], channels=[8, 16, 16, 16])
    else:  # whose batch norms see (B * patches, features)
        net = timm.create_model("levit_128s", img_size=PIXELS * 2, num_classes=5)
    return net.double().train()


def sums_of(net: nn.Module, views: Tensor, sizes: list[int]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Logits, gradients and batch statistics after passes of so many groups each."""
    net, logits, first = copy.deepcopy(net), [], 0
    for groups in sizes:
        part = views[first * VIEWS : (first + groups) * VIEWS]
        with GroupStatistics(first, groups, sum(sizes)):
            logits.append(net(part))
        logits[-1].square().sum().backward()
        first += groups
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    statistics = [each for name, each in net.named_buffers() if name.endswith(("running_mean", "running_var"))]
    return [torch.cat(logits)], gradients, statistics


@pytest.mark.parametrize("name", ["regnety", "resnet", "levit"])
@pytest.mark.parametrize("sizes", [[4], [3, 1], [2, 2]], ids=str)
def test_many_groups_at_once_are_passes_of_one(name, sizes):
    net, pixels = network(name), PIXELS * (2 if name == "levit" else 1)
    views = torch.rand(GROUPS * VIEWS, 3, pixels, pixels, dtype=torch.float64)
    one, together = sums_of(net, views, [1] * GROUPS), sums_of(net, views, sizes)
    assert len(one[1]) > 10 and len(one[2]) > 8
    for expected, found in zip(one, together, strict=True):
        for left, right in zip(expected, found, strict=True):
            torch.testing.assert_close(right, left, rtol=1e-9, atol=1e-11)


def test_a_step_moves_running_statistics_once_towards_the_mean_of_its_groups():
    layer, views = nn.BatchNorm2d(3, momentum=0.3).double(), torch.rand(GROUPS * VIEWS, 3, 5, 5, dtype=torch.float64)
    layer.running_mean.fill_(7.0)
    layer.running_var.fill_(5.0)
    groups = views.chunk(GROUPS)
    means = torch.stack([group.mean((0, 2, 3)) for group in groups]).mean(0)
    variances = torch.stack([group.var((0, 2, 3)) for group in groups]).mean(0)
    for first in range(0, GROUPS, 2):
        with GroupStatistics(first, 2, GROUPS):
            layer(views[first * VIEWS : (first + 2) * VIEWS])
    torch.testing.assert_close(layer.running_mean, 0.7 * 7 + 0.3 * means)
    torch.testing.assert_close(layer.running_var, 0.7 * 5 + 0.3 * variances)


def test_one_group_is_torch_itself_and_evaluation_is_left_alone():
    net, views = network("regnety"), torch.rand(VIEWS, 3, PIXELS, PIXELS, dtype=torch.float64)
    other = copy.deepcopy(net)
    with GroupStatistics(0, 1, 1):
        assert torch.equal(net(views), other(views))
    assert all(map(torch.equal, net.buffers(), other.buffers()))
    net.eval(), other.eval()
    with GroupStatistics(0, 3, 3):
        assert torch.equal(net(views), other(views))
    assert all(map(torch.equal, net.buffers(), other.buffers()))
