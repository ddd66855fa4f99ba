"""Cross-entropy with the true labels, of all classes together or of each by itself."""

from typing import TYPE_CHECKING

from deit.learn.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor


class Labels(Objective):
    """cross-entropy with the true labels, without a teacher."""

    title = "no distillation"

    binary: bool | None = None
    """true: binary cross-entropy, the mean over the classes, to which each class that has a share in a mixed target
    counts as there, however small (DeiT III; code: `--bce-loss`). null = cross-entropy (paper)."""

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        (only,) = logits
        if self.binary:
            return binary_loss(only, targets)
        return labels_loss(only, targets)


def labels_loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """CE(psi(Z_s), y): cross-entropy with soft targets."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.float(), targets)


def binary_loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
    """Mean over views and classes of -log sigma(Z) where a class is in the target, else of -log (1 - sigma(Z))."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(logits.float(), (targets > 0).float())
