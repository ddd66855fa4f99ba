"""Steps whose loss or gradient is not finite: nothing of them is applied, and few of them, or none, are forgiven.

Each step is judged on the device, which the host never waits for: the judgement steers the fused optimiser there, as
torch's GradScaler does, and reaches the host some steps later.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm


class FiniteSteps:
    """Counts a run's skipped steps and notes the first one that is more than allowed; every rank judges alike."""

    def __init__(self, allowed: int, device: torch.device) -> None:
        self.allowed = allowed
        self.skipped = torch.tensor(0, device=device)
        self.fatal = torch.tensor(-1, device=device)
        """The first step (0 = the run's first) that was one too many; -1 where there is none."""
        self.seen = torch.tensor(-1, pin_memory=device.type == "cuda")
        """What the host knows of `fatal`, maybe some steps late."""

    def judge(self, step: Tensor, loss: Tensor, gradients: list[Tensor]) -> Tensor:
        """Whether the step () counts, () bool on the device: its loss () and the gradients' norm are finite.

        The norm, not each number: squares that overflow would make Adam's second moment infinite.
        """
        good = (loss + get_total_norm(gradients)).isfinite()
        self.skipped += ~good
        too_many = ~good & (self.skipped > self.allowed) & (self.fatal < 0)
        self.fatal.copy_(torch.where(too_many, step, self.fatal))
        self.seen.copy_(self.fatal, non_blocking=True)
        return good

    def fatal_step(self) -> int:
        """`fatal`, for which the device is waited for."""
        return int(self.fatal)


class Undoing:
    """Tensors that a step alters and a skipped one leaves: a copy before, a choice after, however many there are."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.of_types: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            self.of_types.setdefault(tensor.dtype, []).append(tensor)
        self.before: list[Tensor] = []
        """One flat tensor a type."""

    def note(self) -> None:
        self.before = [flat(same) for same in self.of_types.values()]

    def undo_unless(self, good: Tensor) -> None:
        """Back to what was noted, if not () `good`."""
        for same, before in zip(self.of_types.values(), self.before, strict=True):
            chosen = torch.where(good, flat(same), before).split([tensor.numel() for tensor in same])
            torch._foreach_copy_(same, [part.view_as(tensor) for part, tensor in zip(chosen, same, strict=True)])
        self.before = []


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


@torch.no_grad()
def all_finite(state: object) -> bool:
    """Whether every number of a nested state's tensors is finite: their largest is, in a few launches for all of them.

    Waits for the device once for each type of numbers.
    """
    of_types: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors_in(state):
        if tensor.is_floating_point() and tensor.numel():
            of_types.setdefault(tensor.dtype, []).append(tensor)
    return all(bool(get_total_norm(same, math.inf).isfinite()) for same in of_types.values())


def tensors_in(state: object) -> Iterator[Tensor]:
    """The tensors of nested dictionaries, lists and tuples, in their order."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        yield from tensors_in(list(state.values()))
    elif isinstance(state, Iterable) and not isinstance(state, str | bytes):
        for part in state:
            yield from tensors_in(part)
