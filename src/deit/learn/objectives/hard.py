"""Hard distillation (paper, equation 3): one head learns from the true labels and from the teacher's decisions."""

from typing import TYPE_CHECKING

from deit.learn.objectives import Objective
from deit.learn.objectives.token import each_half

if TYPE_CHECKING:
    from torch import Tensor


class Hard(Objective):
    """equation 3 of the paper, one head learns half from the true labels and half from the teacher's decisions."""

    title = "hard distillation"
    teacher_says = "labels"

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """1/2 CE(psi(Z_s), y) + 1/2 CE(psi(Z_s), y_t)."""
        assert teacher is not None
        (only,) = logits
        return each_half(only, only, targets, teacher)
