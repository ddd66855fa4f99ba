"""Usual distillation, by the teacher's logits (paper, equation 2)."""

from typing import TYPE_CHECKING, Literal

from deit.bounds import Probability, Temperature
from deit.learn.objectives import Objective
from deit.learn.objectives.labels import labels_loss

if TYPE_CHECKING:
    from torch import Tensor


class Soft(Objective):
    """equation 2 of the paper, the true labels and the teacher's logits. Trap: Table 3 of the paper prints that soft
    and hard have no true labels; they have (confirmed by the authors)."""

    title = "usual distillation"
    teacher_says = "logits"

    weight: Probability = 0.1
    """Lambda, the weight of the distillation term; the paper's 0.1."""
    temperature: Temperature = 3.0
    """Tau, by which the logits of both are divided; the paper's 3.0."""
    reduction: Literal["batchmean", "mean"] = "batchmean"
    """KL summed over classes (`batchmean`, the equation), or averaged over them too (`mean`, what the
    original runs did, which makes the teacher's weight some 1/1000 on ImageNet: it may be why the paper's usual
    distillation equals no distillation)."""

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """(1 - lambda) CE(psi(Z_s), y) + lambda tau^2 KL(psi(Z_t / tau) || psi(Z_s / tau))."""
        assert teacher is not None
        (only,) = logits
        far = divergence(only, teacher, self.temperature, self.reduction)
        return (1 - self.weight) * labels_loss(only, targets) + self.weight * self.temperature**2 * far


def divergence(logits: "Tensor", teacher: "Tensor", temperature: float, reduction: str) -> "Tensor":
    """KL(psi(Z_t / tau) || psi(Z_s / tau)), mean over the views.

    "batchmean" sums over the classes; "mean" averages over them too, which divides the weight of the teacher by K.
    """
    from torch.nn.functional import kl_div, log_softmax, softmax

    ours = log_softmax(logits.float() / temperature, dim=-1)
    far = kl_div(ours, softmax(teacher.float() / temperature, dim=-1), reduction="batchmean")
    if reduction == "mean":  # not torch's "mean", which a later release makes the same as "batchmean"
        far = far / logits.shape[-1]
    return far
