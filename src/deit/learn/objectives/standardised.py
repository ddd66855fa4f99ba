"""Distillation of standardised logits (Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024)."""

from typing import TYPE_CHECKING

from deit.bounds import NonNegative, Temperature
from deit.learn.objectives import Objective
from deit.learn.objectives.labels import labels_loss
from deit.learn.objectives.soft import divergence

if TYPE_CHECKING:
    from torch import Tensor


class Standardised(Objective):
    """as soft, but the logits of both are standardised first, view by view, so that the student need not match the
    range of its teacher's; not of the paper, of Sun et al. (CVPR 2024)."""

    title = "distillation of standardised logits"
    teacher_says = "logits"

    kl_weight: NonNegative = 9.0
    """Weight of the distillation term; 9 in the code of Sun et al."""
    labels_weight: NonNegative = 0.1
    """Weight of the true labels; 0.1 in the code of Sun et al."""
    temperature: Temperature = 2.0
    """As of soft, of standardised logits; 2 in the code of Sun et al."""

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """w_CE CE(psi(Z_s), y) + w_KL tau^2 KL(psi(S(Z_t) / tau) || psi(S(Z_s) / tau)), with S = (Z - mean) / std."""
        assert teacher is not None
        (only,) = logits
        far = divergence(standardised(only), standardised(teacher), self.temperature, "batchmean")
        return self.labels_weight * labels_loss(only, targets) + self.kl_weight * self.temperature**2 * far


def standardised(logits: "Tensor") -> "Tensor":
    """Z-score over the classes of each view, (B, K) -> (B, K), with the standard deviation of K, not K - 1, values.

    The 1e-5 that is added to the variance bounds the gradient of logits that are all equal, as those of a head that
    timm's `weight_init: jax` begins with.
    """
    from torch.nn.functional import layer_norm

    return layer_norm(logits.float(), logits.shape[-1:], eps=1e-5)
