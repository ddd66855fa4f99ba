"""Distillation through a token (paper, section 4): each half of the loss has a token and a head of its own."""

from typing import TYPE_CHECKING

from deit.learn.objectives import Objective
from deit.learn.objectives.labels import labels_loss

if TYPE_CHECKING:
    from torch import Tensor


class Token(Objective):
    """as hard, but each half has a token and a head of its own."""

    title = "distillation token"
    teacher_says = "labels"
    tokens = 2
    heads = ("class", "distillation", "fusion")

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        assert teacher is not None
        first, second = logits
        return each_half(first, second, targets, teacher)


def each_half(first: "Tensor", second: "Tensor", targets: "Tensor", decisions: "Tensor") -> "Tensor":
    """1/2 CE(psi(Z_first), y) + 1/2 CE(psi(Z_second), y_t), by the teacher's decisions (B,)."""
    from torch.nn.functional import cross_entropy

    return (labels_loss(first, targets) + cross_entropy(second.float(), decisions)) / 2
