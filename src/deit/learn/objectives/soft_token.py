"""A distillation token that learns the teacher's soft targets, as in timm's TokenDistillationTask; not of the paper."""

from typing import TYPE_CHECKING, Literal

from deit.bounds import Temperature
from deit.learn.objectives import Objective
from deit.learn.objectives.labels import labels_loss
from deit.learn.objectives.soft import divergence

if TYPE_CHECKING:
    from torch import Tensor


class SoftToken(Objective):
    """as token, but the distillation head learns the teacher's logits as soft does; not of the paper, timm's reading of
    it."""

    title = "soft distillation token"
    teacher_says = "logits"
    tokens = 2
    heads = ("class", "distillation", "fusion")

    temperature: Temperature = 3.0
    """As of soft."""
    reduction: Literal["batchmean", "mean"] = "batchmean"
    """As of soft."""

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """1/2 CE(psi(Z_class), y) + 1/2 tau^2 KL(psi(Z_t / tau) || psi(Z_distil / tau))."""
        assert teacher is not None
        first, second = logits
        far = divergence(second, teacher, self.temperature, self.reduction)
        return (labels_loss(first, targets) + self.temperature**2 * far) / 2
