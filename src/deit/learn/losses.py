"""The paper's training objectives (section 4).

Shapes: B views, K classes. `logits` are pre-softmax (B, K); `targets` (B, K) are the true labels, mixed and
smoothed; `teacher_labels` (B,) are the teacher's decisions, neither mixed nor smoothed.
Every loss is a scalar, the mean over the views, computed in fp32.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from deit.learn.recipes import Objective


def labels_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """CE(psi(Z_s), y): cross-entropy with soft targets, no distillation."""
    return cross_entropy(logits.float(), targets)


def soft_distillation_loss(
    logits: Tensor, targets: Tensor, teacher_logits: Tensor, weight: float, temperature: float, reduction: str
) -> Tensor:
    """(1 - lambda) CE(psi(Z_s), y) + lambda tau^2 KL(psi(Z_t / tau) || psi(Z_s / tau)), equation 2.

    `reduction` of the KL: "batchmean" sums over the classes, as the equation does; "mean" averages over them
    too, as the original runs did, which divides the weight of the teacher by K.
    """
    student = log_softmax(logits.float() / temperature, dim=-1)
    teacher = softmax(teacher_logits.float() / temperature, dim=-1)
    divergence = kl_div(student, teacher, reduction="batchmean")
    if reduction == "mean":  # not torch's "mean", which a later release makes the same as "batchmean"
        divergence = divergence / logits.shape[-1]
    return (1 - weight) * labels_loss(logits, targets) + weight * temperature**2 * divergence


def hard_distillation_loss(logits: Tensor, targets: Tensor, teacher_labels: Tensor) -> Tensor:
    """1/2 CE(psi(Z_s), y) + 1/2 CE(psi(Z_s), y_t), equation 3: one head learns from both."""
    return token_distillation_loss(logits, logits, targets, teacher_labels)


def token_distillation_loss(
    class_logits: Tensor, distillation_logits: Tensor, targets: Tensor, teacher_labels: Tensor
) -> Tensor:
    """1/2 CE(psi(Z_class), y) + 1/2 CE(psi(Z_distil), y_t): each head learns from one."""
    teacher_loss = cross_entropy(distillation_logits.float(), teacher_labels)
    return (labels_loss(class_logits, targets) + teacher_loss) / 2


def two_class_tokens_loss(class_logits: Tensor, second_logits: Tensor, targets: Tensor) -> Tensor:
    """1/2 CE(psi(Z_class), y) + 1/2 CE(psi(Z_second), y): the token analysis's control, without a teacher."""
    return (labels_loss(class_logits, targets) + labels_loss(second_logits, targets)) / 2


def objective_loss(objective: Objective, logits: tuple[Tensor, ...], targets: Tensor, teacher: Tensor | None) -> Tensor:
    """The loss that a recipe names.

    logits: (B, K) of each of the student's token heads.
    teacher: what `objective.teacher_says`: labels (B,), logits (B, K), or None.
    Raises ValueError where the student has another number of token heads than the objective trains.
    """
    if len(logits) != objective.tokens:
        raise ValueError(
            f"objective {objective.loss!r} trains {objective.tokens} token head(s), but the model has "
            f"{len(logits)}: choose a timm model with (token, two-class-tokens) or without (all others) a "
            "distillation token."
        )
    match objective.loss:
        case "labels":
            return labels_loss(*logits, targets)
        case "soft":
            how = (objective.weight, objective.temperature, objective.reduction)
            return soft_distillation_loss(*logits, targets, teacher, *how)
        case "hard":
            return hard_distillation_loss(*logits, targets, teacher)
        case "token":
            return token_distillation_loss(*logits, targets, teacher)
        case "two-class-tokens":
            return two_class_tokens_loss(*logits, targets)
