"""Gradients are summed over the ranks while the backward pass still computes the others."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET = 25 * 2**20
"""Bytes that one message holds, as in torch's DistributedDataParallel."""


class GradientReduction:
    """Sums a network's gradients in buckets, each sent as soon as it is complete, in one order on all ranks.

    The last layers' gradients are ready first. Buckets and their order depend on the network alone, so sums come out
    the same, bit for bit, whatever the processes do at the same time.
    """

    def __init__(self, net: nn.Module, bucket: int = BUCKET):
        self.buckets: list[list[Tensor]] = [[]]
        for parameter in reversed([each for each in net.parameters() if each.requires_grad]):
            held = sum(each.numel() * each.element_size() for each in self.buckets[-1])
            if held >= bucket or (self.buckets[-1] and self.buckets[-1][0].dtype != parameter.dtype):
                self.buckets.append([])
            self.buckets[-1].append(parameter)
        for number, parameters in enumerate(self.buckets):
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._ready(number))
        self.armed = False

    def begin(self) -> None:
        """To be called before the last backward pass of a step: what it completes is sent."""
        self.armed = True
        self.missing = [len(parameters) for parameters in self.buckets]
        self.next = 0
        self.sent: list[tuple[Tensor, list[Tensor], dist.Work]] = []

    def finish(self) -> None:
        """Puts the sums in place of the gradients; a GPU waits for them, the host does not."""
        self.armed = False
        while self.next < len(self.buckets):  # with parameters that had no part in the loss
            self._send()
        for flat, gradients, work in self.sent:
            work.wait()
            parts = flat.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def _ready(self, number: int) -> None:
        if not self.armed:
            return
        self.missing[number] -= 1
        while self.next < len(self.buckets) and not self.missing[self.next]:
            self._send()

    def _send(self) -> None:
        gradients = [each.grad for each in self.buckets[self.next] if each.grad is not None]
        self.next += 1
        if gradients:
            flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
            self.sent.append((flat, gradients, dist.all_reduce(flat, async_op=True)))
