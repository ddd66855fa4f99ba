"""Gradients that are summed while others are computed are the sums of the ranks' gradients."""

import pytest
import torch
from torch import nn
from training_runs import on_two_ranks

from deit.learn.reduction import GradientReduction


def gradients(rank: int, reduction_bucket: int | None, passes: int = 2) -> list[torch.Tensor]:
    """Of a small network over accumulated backward passes; one parameter has no part in the loss."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4), nn.Linear(3, 3))
    reduction = GradientReduction(net, reduction_bucket) if reduction_bucket else None
    for number in range(passes):
        views = torch.randn(5, 8, generator=torch.Generator().manual_seed(10 * rank + number))
        if reduction and number == passes - 1:
            reduction.begin()
        net[2](net[1](net[0](views))).square().sum().backward()
    if reduction:
        reduction.finish()
    assert net[3].weight.grad is None
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("bucket", [1, 200, 2**20], ids=["one each", "a few", "all in one"])
def test_the_sum_of_two_ranks(tmp_path, bucket):
    expected = [one + other for one, other in zip(gradients(0, None), gradients(1, None), strict=True)]

    def work(place):
        for _ in range(2):  # a second step begins anew
            found = gradients(place.rank, bucket)
            assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))

    assert on_two_ranks(tmp_path, work) == ["", ""]


def test_buckets_follow_the_backward_pass_and_hold_each_parameter_once():
    net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))
    buckets = GradientReduction(net, bucket=300).buckets
    assert [id(each) for bucket in buckets for each in bucket] == [
        id(each) for each in reversed(list(net.parameters()))
    ]
    assert len(buckets) > 1
