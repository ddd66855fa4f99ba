"""Cross-entropy with the true labels."""

from typing import TYPE_CHECKING

from deit.learn.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor


class Labels(Objective):
    """cross-entropy with the true labels, without a teacher."""

    title = "no distillation"

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        (only,) = logits
        return labels_loss(only, targets)


def labels_loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """CE(psi(Z_s), y): cross-entropy with soft targets."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), targets)
