"""The control of the token analysis (paper, section 4): a second class token, and no teacher."""

from typing import TYPE_CHECKING

from deit.learn.objectives import Objective
from deit.learn.objectives.labels import labels_loss

if TYPE_CHECKING:
    from torch import Tensor


class TwoClassTokens(Objective):
    """the control of the token analysis, a second class token with the true label too, without a teacher."""

    title = "two class tokens"
    tokens = 2

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """1/2 CE(psi(Z_class), y) + 1/2 CE(psi(Z_second), y)."""
        first, second = logits
        return (labels_loss(first, targets) + labels_loss(second, targets)) / 2
